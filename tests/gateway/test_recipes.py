"""The recipes of docs/feedback.md do what they say, as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumbline.accounts import keys
from plumbline.gateway.models import ClientComparison, Feedback, StoredCompletion

ROOT = Path(__file__).resolve().parents[2]
RUN = {
    "bash": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--input-type=module", "-e"],
}


def run(language: str, gateway: Any, project: Any, user: Any) -> str:
    if shutil.which(RUN[language][0]) is None:
        pytest.skip(f"no {RUN[language][0]} on this machine")
    text = (ROOT / "docs/feedback.md").read_text()
    (recipe,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    _, secret = keys.create(project, "recipes", ["infer", "feedback"], user)
    environment = {**os.environ, "GATEWAY": gateway.url, "KEY": secret}
    done = subprocess.run(
        [*RUN[language], recipe], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_with_curl(gateway: Any, current: Any, project: Any, alice: Any) -> None:
    assert '"correction":"Paris."' in run("bash", gateway, project, alice)
    said = Feedback.objects.get()
    assert said.completion_id == StoredCompletion.objects.get().completion_id


def test_with_python(gateway: Any, current: Any, project: Any, alice: Any) -> None:
    run("python", gateway, project, alice)
    assert sorted(Feedback.objects.values_list("key", flat=True)) == ["regenerated", "thumbs"]
    assert ClientComparison.objects.get().ranking == [[2], [0, 1]]


def test_with_javascript_and_a_link(gateway: Any, current: Any, project: Any, alice: Any) -> None:
    assert run("javascript", gateway, project, alice).strip() == "202"
    assert Feedback.objects.get().by_link
