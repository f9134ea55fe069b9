"""The gateway as it is deployed: a process of its own that an ASGI server starts."""

from __future__ import annotations

import json
import subprocess
import sys

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
