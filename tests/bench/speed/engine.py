"""The engine that a measured round samples from: a process of its own, its CPU seconds counted."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from align import few_cores
from align.tether import tethered
from tests.ports import free_port

psutil: Any = importlib.import_module("psutil")  # it has no types

PATIENCE = 300.0  # seconds until it answers


@dataclass(frozen=True)
class Engine:
    """A running engine that serves `base`."""

    url: str
    process: Any  # psutil's

    def cpu(self) -> float:
        """CPU seconds of the process and its children so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return float(sum(sum(one.cpu_times()[:2]) for one in family))

    def load(self, name: str, path: Path) -> None:
        """Serve an adapter (or, embedded, full weights) and hear a word from it."""
        body = {"lora_name": name, "lora_path": str(path)}
        self._post("/v1/load_lora_adapter", body)
        self._post("/v1/completions", {"model": name, "prompt": [1, 4], "max_tokens": 1})

    def _post(self, path: str, body: Mapping[str, object]) -> None:
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            reply = client.post(self.url + path, json=body)
        if not reply.is_success:
            raise RuntimeError(f"{path}: {reply.text[:500]}")


@contextlib.contextmanager
def running(
    base: str,
    context: int,
    scratch: Path,
    vllm: str | None,
    more: Sequence[str] = (),
    cores: Collection[int] = (),
) -> Iterator[Engine]:
    """An engine for as long as it is needed. `vllm`: the Python of vLLM's environment, for it
    instead of the embedded engine; `more`: what else it is told; `cores`: those it has to itself,
    all of this process's otherwise. Raises RuntimeError with its log if it does not start."""
    port = free_port()
    log = scratch / "engine.log"
    command = _vllm(vllm) if vllm else [sys.executable, "-m", "align.gpu.serve"]
    command += ["--model", base, "--served-model-name", "base", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--max-model-len", str(context), *more]
    with log.open("wb") as out, confined_to(cores or os.sched_getaffinity(0)):
        process = subprocess.Popen(
            tethered(*command, by=signal.SIGTERM),  # a bench that is killed leaves no engine
            stdout=out,
            stderr=out,
            env=_vllm_environment() if vllm else None,
        )
    engine = Engine(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    try:
        _wait(engine, process, log)
        yield engine
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def confined_to(cores: Collection[int]) -> Iterator[None]:
    """What is started meanwhile computes on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(engine.url + "/health", trust_env=False, timeout=5).is_success:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the engine did not start:\n{log.read_text()[-3000:]}")


def _vllm(python: str) -> list[str]:
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    return [*command, "--enable-lora", "--max-lora-rank", "64", *few_cores.arguments()]


def _vllm_environment() -> dict[str, str]:
    """Without our PYTHONPATH: vLLM's environment has packages of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {
        **kept,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        **few_cores.environment(),
    }
