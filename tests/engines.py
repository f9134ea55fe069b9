"""Real engines for any test: the embedded engine in its own process, and weights to load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
DEMO_BASE = ROOT / "workers/align/demo/base"


@dataclass
class EngineProcess:
    """`align.gpu.serve` on a base model, on a port of its own that survives a restart."""

    log: Path
    port: int = 0
    model: Path = DEMO_BASE
    max_model_len: int = 512
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            self.port = free_port()
        command = [sys.executable, "-m", "align.gpu.serve", "--model", str(self.model)]
        command += ["--served-model-name", "base", "--port", str(self.port)]
        command += ["--max-model-len", str(self.max_model_len)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + 280
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the engine did not start in five minutes"
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL, as a crash would look."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def unload_all(self) -> None:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=280) as http:
            served = http.get("/v1/models").raise_for_status().json()["data"]
            for name in [one["id"] for one in served if one["id"] != "base"]:
                gone = http.post("/v1/unload_lora_adapter", json={"lora_name": name})
                assert gone.status_code in (200, 404), gone.text

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url + "/health", trust_env=False, timeout=2).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="session")
def _engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    pytest.importorskip("torch")
    running = EngineProcess(tmp_path_factory.mktemp("engine") / "engine.log")
    running.start()
    yield running
    running.kill()


@pytest.fixture
def engine(_engine: EngineProcess) -> Iterator[EngineProcess]:
    """One engine for the whole session, for tests that do not harm it. What a test loads it need
    not unload: the next one finds the base alone."""
    yield _engine
    _engine.unload_all()


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine that the test may kill and start again."""
    pytest.importorskip("torch")
    running = EngineProcess(tmp_path / "engine.log")
    running.start()
    yield running
    running.kill()


@dataclass(frozen=True)
class Committed:
    """A weights folder as training leaves it."""

    path: Path
    sha256: str


@pytest.fixture(scope="session")
def commit_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Committed]:
    """`commit_weights(seed, mode="lora", scale=...)`: the demo base, changed at random, committed.

    A larger scale changes the answers more; 0 leaves them as they were.
    """
    torch = pytest.importorskip("torch")
    from align.gpu import checkpoint, model
    from align.jobs import ModelRef, Weights

    def commit(seed: int, mode: str = "lora", scale: float = 0.05) -> Committed:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        assert mode in ("lora", "full")
        weights = Weights(mode="lora", rank=4) if mode == "lora" else Weights(mode="full")
        policy = model.start(ModelRef(base=str(DEMO_BASE)), weights)
        with torch.no_grad():
            for parameter in policy.model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn_like(parameter)
                    parameter += noise * (scale if mode == "lora" else scale * parameter.std())
        folder = tmp_path_factory.mktemp("weights") / f"{mode}-{seed}"
        manifest = checkpoint.commit(folder, lambda stray: model.save(policy, stray))
        return Committed(folder, manifest.sha256)

    return commit
