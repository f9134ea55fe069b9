"""What an engine on this machine is started with, as settings say."""

from __future__ import annotations

import sys
from pathlib import Path

from django.conf import settings

from align import few_cores, model_folder
from plumbline.fleet import devices

VLLM = settings.ROOT / ".venv-vllm/bin/python"
WORKERS = str(settings.ROOT / "workers")  # where `align` is, which that environment lacks
AT_ONCE = 4  # adapters in one batch of vLLM's
IN_MEMORY = 16  # adapters in the host's memory beside them; others are read again for use


class Missing(Exception):
    """Something the chosen engine needs is not installed."""


def check() -> None:
    """Raises Missing with what to do about it."""
    if settings.ENGINE == "vllm" and not VLLM.is_file():
        raise Missing("ENGINE=vllm needs vLLM's own environment; `make engine` builds it.")
    base = Path(settings.BASE_MODEL)
    if base.is_dir():  # the engine itself says where there is none
        try:
            model_folder.check(base)
            model_folder.check_templates(base)
        except ValueError as refused:
            raise Missing(f"The base model is refused: {refused}.") from refused


def command_line(port: int) -> list[str]:
    """The program and its arguments. Raises Missing."""
    check()
    base = ["--model", settings.BASE_MODEL, "--served-model-name", settings.BASE_NAME]
    base += ["--host", "127.0.0.1", "--port", str(port)]
    base += ["--max-model-len", str(settings.MAX_MODEL_LEN)]
    if settings.ENGINE != "vllm":
        return [sys.executable, "-m", "align.gpu.serve", *base]
    lora = ["--enable-lora", "--max-lora-rank", "64", "--enforce-eager"]
    lora += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    lora += ["--max-loras", str(AT_ONCE), "--max-cpu-loras", str(IN_MEMORY)]
    # For policies with full weights.
    lora += ["--middleware", "align.reloading.Reloading"]
    lora += ["--worker-extension-cls", "align.reloading.Holder"]
    if settings.ENGINE_SLEEPS and devices.of_host():  # the CPU build knows no sleep mode
        lora.append("--enable-sleep-mode")
    if not _has_gpus():
        lora += few_cores.arguments()
    return [str(VLLM), "-m", "vllm.entrypoints.openai.api_server", *base, *lora]


def environment() -> dict[str, str]:
    """What it is told beside this process's own environment."""
    its = devices.of_engine()
    gpus = devices.environment(its) if its else {}
    if settings.ENGINE != "vllm":
        return gpus
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_SERVER_DEV_MODE": str(int(settings.ENGINE_SLEEPS)),
        "PYTHONPATH": WORKERS,
        **gpus,
        **({} if _has_gpus() else few_cores.environment()),
    }


def _has_gpus() -> bool:
    return bool(devices.of_engine() or devices.of_host())
