"""`python -m align.gpu.merge RUNDIR`: the weighted average of policies, in weight space.

Adapters are averaged exactly, as products: the sum of share * B A has at most the sum of the
ranks, and is written as one adapter with the factors side by side. Full weights are averaged
tensor by tensor. Used for soups as references (SALSA, arXiv:2411.01798) and for the mixture of
policies that Nash-MD plays against.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from align import jobs
from align.gpu import checkpoint, model
from align.jobs import MergeJob, ModelRef
from align.run import Run, main

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
A, B = ".lora_A.weight", ".lora_B.weight"


def work(run: Run) -> dict[str, Any]:
    """Average, commit, and name the result. Raises ValueError for policies that do not fit."""
    job = run.job
    if not isinstance(job, MergeJob):
        raise ValueError(f"align.gpu.merge runs merge jobs, not {job.kind} jobs")
    _check(job)
    checkpoint.sweep(run.folder)
    parts = [(job.policies[name], share) for name, share in job.shares.items() if share]
    mode = "lora" if len({ref.base for ref, _ in parts}) == 1 else "full"
    write = average_adapters if mode == "lora" else average_weights
    manifest = checkpoint.commit(
        run.folder / jobs.WEIGHTS, lambda stray: write(parts, stray), {"job": jobs.to_json(job)}
    )
    return {"weights": jobs.WEIGHTS, "sha256": manifest.sha256, "mode": mode}


def average_adapters(parts: Sequence[tuple[ModelRef, float]], folder: Path) -> None:
    """Write the one adapter that equals the average of adapters on the same base.

    The bare base is an adapter whose product is zero: it takes its share and adds nothing.
    """
    factors: dict[str, list[Tensor]] = {}
    config: dict[str, Any] = {}
    for ref, share in parts:
        if ref.adapter is None:
            continue
        path = Path(ref.adapter)
        model.check_adapter(path)
        config = json.loads((path / CONFIG).read_text())
        scale = share * _scaling(config, path)
        found = load_file(path / ADAPTER)
        if factors and found.keys() != factors.keys():
            odd = sorted(found.keys() ^ factors.keys())[0]
            raise ValueError(f"the adapters do not change the same layers: not all have {odd}")
        for name, tensor in found.items():
            if not name.endswith((A, B)):
                raise ValueError(f"{path} has {name}, which is no LoRA factor")
            factors.setdefault(name, []).append(tensor * scale if name.endswith(B) else tensor)
    if not factors:
        raise ValueError("all policies are the bare base: there is nothing to average")
    merged = {
        name: torch.cat(one, 0 if name.endswith(A) else 1).contiguous()
        for name, one in factors.items()
    }
    # One rank everywhere: an adapter whose layers differ in it was refused.
    rank = next(tensor.shape[0] for name, tensor in merged.items() if name.endswith(A))
    save_file(merged, folder / ADAPTER)
    config |= {"r": rank, "lora_alpha": rank, "use_rslora": False}
    config["base_model_name_or_path"] = parts[0][0].base
    jobs.write_json(folder / CONFIG, dict(sorted(config.items())))


@torch.no_grad()
def average_weights(parts: Sequence[tuple[ModelRef, float]], folder: Path) -> None:
    """Write the average of models with weights of their own."""
    (first, share), *others = parts
    result = model.load(first, full=True)
    weights = dict(result.model.named_parameters())
    for p in weights.values():
        p.mul_(share)
    for ref, share in others:
        more = dict(model.load(ref, full=True).model.named_parameters())
        if {n: p.shape for n, p in weights.items()} != {n: p.shape for n, p in more.items()}:
            raise ValueError(f"{ref.base} has other weights than {first.base}")
        for name, p in weights.items():
            p.add_(more[name], alpha=share)
    model.save(result, folder)


def _scaling(config: Mapping[str, Any], path: Path) -> float:
    """What PEFT multiplies an adapter's product by."""
    for key in ("rank_pattern", "alpha_pattern", "use_dora", "lora_bias"):
        if config.get(key):
            raise ValueError(f"{path} uses {key}, which cannot be averaged")
    root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    return float(config["lora_alpha"] / root)


def _check(job: MergeJob) -> None:
    if not job.shares or job.shares.keys() != job.policies.keys():
        raise ValueError("every policy to average needs a share, and every share a policy")
    if not all(math.isfinite(share) for share in job.shares.values()):
        raise ValueError("shares must be numbers")
    if abs(sum(job.shares.values()) - 1) > 1e-9:
        raise ValueError(f"shares must sum to 1, not {sum(job.shares.values()):g}")


if __name__ == "__main__":
    main(work)
