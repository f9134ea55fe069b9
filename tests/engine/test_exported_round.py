"""vLLM serves the adapter of an exported round, unmodified."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from plumbline.loop import folder
from plumbline.policies.models import Policy
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.django_db]


def test_vllm_loads_the_adapter_of_an_exported_round(
    vllm: Any, project: Any, commit_weights: Any, tmp_path: Path
) -> None:
    round = lab.finished_round(lab.experiment(project), steps=1)
    weights = commit_weights(5, "lora", 0.3)
    Policy.objects.filter(pk=round.policy_out.pk).update(
        path=str(weights.path), sha256=weights.sha256
    )
    round.refresh_from_db()
    with tarfile.open(fileobj=io.BytesIO(b"".join(folder.tar(round)))) as archive:
        archive.extractall(tmp_path, filter="data")
    adapter = tmp_path / folder.name(round) / "adapter"
    body = {"lora_name": "exported", "lora_path": str(adapter)}
    reply = vllm.post("/v1/load_lora_adapter", **body)
    assert reply.status_code == 200, reply.text
    assert "exported" in vllm.models()
    plain, adapted = (vllm.say(model=name, temperature=0) for name in ("demo-base", "exported"))
    assert adapted != plain
    assert vllm.post("/v1/unload_lora_adapter", lora_name="exported").status_code == 200
