"""What the demo's engine is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plumbline.demo import stack
from plumbline.fleet import devices


class Notes(stack.Stack):
    """Writes down what it would start."""

    def start(self, name: str, *command: str, **environment: str) -> Any:
        self.command_line, self.environment = command, environment


@pytest.fixture
def notes(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Notes:
    settings.ENGINE, settings.GPUS = "vllm", "all"
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(stack, "VLLM", python)
    return Notes(print)


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_the_engine_gets_the_gpus_that_are_its_own(
    notes: Notes, settings: Any, engine: str
) -> None:
    settings.ENGINE = engine
    notes.engine()
    assert "CUDA_VISIBLE_DEVICES" not in notes.environment
    settings.ENGINE_GPUS = "1"
    notes.engine()
    assert notes.environment["CUDA_VISIBLE_DEVICES"] in {"1", *devices.of_engine()}


def test_vllm_can_be_told_to_sleep_where_it_has_a_gpu_to_lend(
    notes: Notes, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sleeps, gpus, mode, dev in (
        (False, {"0": "GPU-x"}, False, "0"),
        (True, {"0": "GPU-x"}, True, "1"),
        (True, {}, False, "1"),  # with the flag the CPU build would not start
    ):
        settings.ENGINE_SLEEPS = sleeps
        monkeypatch.setattr(devices, "_by_number", lambda gpus=gpus: gpus)
        notes.engine()
        assert ("--enable-sleep-mode" in notes.command_line) == mode
        assert notes.environment["VLLM_SERVER_DEV_MODE"] == dev
