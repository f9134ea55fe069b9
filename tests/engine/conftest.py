"""Engines to talk to: the embedded one and real vLLM, each started once for all tests.

Both serve the demo base under the name `demo-base`, with a context of 512 tokens.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("torch")

from align import demo, few_cores  # noqa: E402
from tests.gateway.conftest import secret, start_gateway  # noqa: E402, F401
from tests.ports import free_port  # noqa: E402

ROOT = Path(__file__).parents[2]
VLLM_PYTHON = ROOT / ".venv-vllm/bin/python"
CONTEXT = 512
QUESTION = "What does a panda eat?"


@dataclass
class Engine:
    """A running engine and the shortest ways to ask it something."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=120)

    def chat(self, content: str = QUESTION, **body: object) -> dict:
        fields = {"model": "demo-base", "max_tokens": 96, **body}
        messages = [{"role": "user", "content": content}]
        reply = self.post("/v1/chat/completions", messages=messages, **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def say(self, content: str = QUESTION, **body: object) -> str:
        return self.chat(content, **body)["choices"][0]["message"]["content"]

    def complete(self, prompt: object, **body: object) -> dict:
        fields = {"model": "demo-base", "max_tokens": 48, "return_token_ids": True, **body}
        reply = self.post("/v1/completions", prompt=prompt, **fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def tokens(self, content: str = QUESTION) -> list[int]:
        reply = self.post("/tokenize", messages=[{"role": "user", "content": content}])
        return reply.json()["tokens"]

    def models(self) -> list[str]:
        return [card["id"] for card in httpx.get(self.url + "/v1/models").json()["data"]]


def start(command: list[str], log: Path, patience: float, **env: str) -> Engine:
    """Run an engine until its /health answers."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
        )
    engine = Engine(f"http://127.0.0.1:{port}", process, log)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(engine.url + "/health").status_code == 200:
                return engine
        except httpx.TransportError:
            time.sleep(0.2)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    raise AssertionError(f"no engine after {patience} s:\n{log.read_text()[-3000:]}")


def serve(log: Path, model: Path = demo.BASE) -> Engine:
    command = [sys.executable, "-m", "align.gpu.serve", "--model", str(model)]
    command += ["--served-model-name", "demo-base", "--max-model-len", str(CONTEXT)]
    command += ["--precision", "fp32"]  # so that answers can be compared with other programs'
    return start(command, log, 180, OMP_NUM_THREADS="1")


def stop(engine: Engine) -> None:
    engine.process.terminate()
    try:
        engine.process.wait(20)
    except subprocess.TimeoutExpired:
        engine.process.kill()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = serve(tmp_path_factory.mktemp("serve") / "log")
    yield engine
    stop(engine)


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Real vLLM in fp32, so that greedy answers can be compared."""
    if not VLLM_PYTHON.exists():
        pytest.skip("no .venv-vllm here; `make engine` builds it")
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(demo.BASE), "--served-model-name", "demo-base", "--enforce-eager"]
    command += ["--max-model-len", str(CONTEXT), "--dtype", "float32"]
    command += ["--enable-lora", "--max-lora-rank", "64", "--max-loras", "4"]
    command += ["--max-cpu-loras", "8"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    command += ["--middleware", "align.reloading.Reloading"]
    command += ["--worker-extension-cls", "align.reloading.Holder", *few_cores.arguments()]
    engine = start(
        command,
        tmp_path_factory.mktemp("vllm") / "log",
        600,
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="1",
        VLLM_SERVER_DEV_MODE="1",
        **few_cores.environment(),
        PYTHONPATH=str(ROOT / "workers"),
    )
    yield engine
    stop(engine)


@pytest.fixture(scope="session")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three LoRA adapters on the demo base, random and large enough to change what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    from align.gpu import model as models

    folders = []
    for seed in range(3):
        torch.manual_seed(seed)
        base = models.load_base(demo.BASE, torch.device("cpu"))
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        adapted = get_peft_model(base, config)
        for name, matrix in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(matrix, std=0.5)
        folders.append(tmp_path_factory.mktemp("lora") / f"adapter{seed}")
        adapted.save_pretrained(str(folders[-1]))
    return folders


@pytest.fixture
def make_policy(
    transactional_db: None,
    project: Any,
    commit_weights: Callable[..., Any],
    vllm: Any,
    settings: Any,
) -> Iterator[Callable[..., Any]]:
    """Policies of the demo base; afterwards vLLM has the base's weights again."""
    from plumbline.policies.models import Policy
    from plumbline.policies.serving import base_policy

    settings.ENGINE, settings.ENGINE_URL, settings.BASE_NAME = "vllm", vllm.url, "demo-base"
    committed = functools.cache(commit_weights)

    def make(seed: int, mode: str = "full", scale: float = 0.3) -> Any:
        folder = committed(seed, mode, scale)
        return Policy.objects.create(
            project=project,
            name=f"{mode}-{seed}-{uuid.uuid4().hex[:6]}",
            weights=mode,
            base_model=base_policy(project).base_model,
            path=str(folder.path),
            sha256=folder.sha256,
        )

    yield make
    assert vllm.post("/v1/weights", name="demo-base").status_code == 200


@pytest.fixture
def promote(project: Any) -> Callable[..., Any]:
    from plumbline.policies import serving

    def to(policy: Any, alias: str = "current") -> Any:
        return serving.promote(project, policy, actor=None, reason="test", evidence={}, alias=alias)

    return to


@pytest.fixture
def client(
    start_gateway: Any,  # noqa: F811
    secret: str,  # noqa: F811
    vllm: Any,
) -> Iterator[httpx.Client]:
    """Of a gateway before vLLM, with a key."""
    url = start_gateway(vllm.url).url
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=120) as one:
        yield one
