"""The gateway as it is deployed: a process of its own that an ASGI server starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LIST = (
    "import json, sys; import plumbline.gateway.asgi as gateway; "
    "print(json.dumps([callable(gateway.application), sorted(sys.modules)]))"
)


def test_it_loads_by_its_name_and_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST], capture_output=True, text=True, timeout=120, check=True
    )
    callable_, modules = json.loads(done.stdout)
    assert callable_
    assert "plumbline.gateway.app" in modules
    assert not {"torch", "transformers", "celery"} & set(modules)


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_it_logs_json_where_that_is_asked_for(level: str) -> None:
    program = f"import plumbline.gateway.asgi, logging; logging.log(logging.{level}, 'hello')"
    environment = {**os.environ, "LOG_FORMAT": "json"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    )
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert (said["level"], said["message"]) == (level, "hello")


def test_an_unknown_log_format_is_refused_by_name() -> None:
    environment = {**os.environ, "LOG_FORMAT": "xml"}
    done = subprocess.run(
        [sys.executable, "-c", "import plumbline.gateway.asgi"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "LOG_FORMAT must be line or json, not 'xml'" in done.stderr
