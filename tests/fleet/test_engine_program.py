"""What an engine is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align import few_cores
from plumbline.fleet import devices, engine


@pytest.fixture
def vllm_here(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings.ENGINE, settings.GPUS = "vllm", "all"
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(engine, "VLLM", python)


@pytest.mark.parametrize("which", ["vllm", "transformers"])
def test_the_engine_gets_the_gpus_that_are_its_own(
    vllm_here: None, settings: Any, which: str
) -> None:
    settings.ENGINE = which
    assert "CUDA_VISIBLE_DEVICES" not in engine.environment()
    settings.ENGINE_GPUS = "1"
    assert engine.environment()["CUDA_VISIBLE_DEVICES"] in {"1", *devices.of_engine()}


def test_vllm_can_be_told_to_sleep_where_it_has_a_gpu_to_lend(
    vllm_here: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sleeps, gpus, mode, dev in (
        (False, {"0": "GPU-x"}, False, "0"),
        (True, {"0": "GPU-x"}, True, "1"),
        (True, {}, False, "1"),  # with the flag the CPU build would not start
    ):
        settings.ENGINE_SLEEPS = sleeps
        monkeypatch.setattr(devices, "_by_number", lambda gpus=gpus: gpus)
        assert ("--enable-sleep-mode" in engine.command_line(8002)) == mode
        assert engine.environment()["VLLM_SERVER_DEV_MODE"] == dev


def test_vllm_on_a_few_cores_is_one_process_that_leaves_one_free(
    vllm_here: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ENGINE = "vllm"
    for cores, gpus, one in ((2, {}, True), (4, {}, True), (8, {}, False), (2, {"0": "x"}, False)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)))
        monkeypatch.setattr(devices, "_by_number", lambda gpus=gpus: gpus)
        said = engine.environment().get("OMP_NUM_THREADS")
        assert (few_cores.EXECUTOR in engine.command_line(8002)) == one
        assert said == (str(cores - 1) if one else None)


def test_an_engine_that_is_not_installed_is_told_with_the_way_out(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.ENGINE = "vllm"
    monkeypatch.setattr(engine, "VLLM", tmp_path / "nowhere")
    with pytest.raises(engine.Missing, match="`make engine` builds it"):
        engine.command_line(8002)
