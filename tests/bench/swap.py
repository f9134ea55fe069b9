"""`make bench NAME=swap`: an alias moves among adapters on vLLM while 32 streams ask for it.

The product's own parts: vLLM (the embedded engine where it is not installed), the gateway in a
process of its own, and `serving.promote` and `serving.retire`. Each promotion loads an adapter that
the engine does not hold, hears a word from it and moves the alias; then what the alias no longer
needs is unloaded. `seconds` is the time from the call of a promotion to the first token of a stream
that is asked for when it has returned, its goal a second in the median; `promoted` is the part
until it has returned. `troubles` counts streams that failed, ended early, named two policies, or
said anything else than what their policy says alone; it must be 0.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import push
from tests.bench.speed import cases, contest, engine
from tests.swapping import Streams, hear, learn

GOAL = 1.0  # seconds
POLICIES = 4
PROMOTIONS, FEW = 100, 20
CONTEXT = 512
VLLM = Path(__file__).resolve().parents[2] / ".venv-vllm/bin/python"
# In fp32, so that what a policy says does not depend on what runs beside it.
EXACT = {
    True: ["--dtype", "float32", "--max-loras", "4", "--max-cpu-loras", "8"],
    False: ["--precision", "fp32"],
}


def adapters(base: str, folder: Path) -> list[Path]:
    """Committed LoRA adapters that change what the base says."""
    import torch

    from align.gpu import checkpoint, model
    from align.jobs import ModelRef, Weights

    made = []
    for seed in range(POLICIES):
        torch.manual_seed(seed)
        policy = model.start(ModelRef(base=base), Weights(mode="lora", rank=4))
        with torch.no_grad():
            for parameter in policy.model.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn_like(parameter) * 0.1
        path = folder / f"weights-{seed}"
        checkpoint.commit(path, lambda stray, policy=policy: model.save(policy, stray))
        made.append(path)
    return made


def swaps(base: str, folders: Sequence[Path], scratch: Path, promotions: int) -> dict[str, Any]:
    """All promotions, under the streams."""
    vllm = VLLM.is_file()
    with engine.running(base, CONTEXT, scratch, str(VLLM) if vllm else None, EXACT[vllm]) as served:
        environment = {
            "PLUMBLINE_HOME": str(scratch / "home"),
            "ENGINE": "vllm" if vllm else "transformers",
            "ENGINE_URL": served.url,
            "BASE_MODEL": base,
            "BASE_NAME": "base",
            "MAX_MODEL_LEN": str(CONTEXT),
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
        }
        os.environ.update(environment)
        import django

        django.setup()
        project, user, secret = push._platform()
        from plumbline.policies import serving
        from plumbline.policies.models import Policy

        policies = [push._policy(project, base, path) for path in folders]
        Policy.objects.update(weights=Policy.Weights.LORA)
        for policy in policies:
            policy.refresh_from_db()
            serving.ensure_loaded(policy)
        known = learn(served.url, [policy.name for policy in policies])
        for policy in policies:
            serving.release(policy)
        serving.promote(project, policies[-1], actor=user, reason="swap", evidence={})
        promoted, first, unloaded = [], [], 0
        question = next(iter(known[policies[0].name]))
        with push.gateway(scratch, environment) as url:
            streams = Streams(url, secret, known)
            with streams.client() as client, streams.asking():
                for policy in itertools.islice(itertools.cycle(policies), promotions):
                    begun = time.monotonic()
                    serving.promote(project, policy, actor=user, reason="swap", evidence={})
                    promoted.append(time.monotonic() - begun)
                    heard = hear(client, "current", question)
                    first.append(heard.first - begun)
                    streams.judge(heard, question)
                    if heard.policy != policy.name:
                        streams.troubles.append(f"{heard.policy} answered after {policy.name}")
                    unloaded += len(serving.retire())
    return {
        "engine": "vllm" if vllm else "embedded",
        "seconds": spread(first),
        "promoted": spread(promoted),
        "answered": streams.answered,
        "troubles": len(streams.troubles),
        "such_as": streams.troubles[:3],
        "unloaded": unloaded,
        "streams": streams.count,
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "median": contest.significant(statistics.median(seconds)),
        "p95": contest.significant(statistics.quantiles(seconds, n=20)[-1]),
        "worst": contest.significant(max(seconds)),
    }


def main(arguments: Sequence[str]) -> None:
    from align import demo

    asked = cases.read(cases.parser("swap", __doc__), arguments)
    started, machine = time.monotonic(), contest.machine(asked.threads)
    promotions = asked.rounds or (FEW if asked.quick else PROMOTIONS)
    with tempfile.TemporaryDirectory(prefix="swap-", dir=asked.folder) as name:
        scratch = Path(name)
        (scratch / "home").mkdir()
        base = str(demo.BASE)
        found = swaps(base, adapters(base, scratch), scratch, promotions)
    took = found["seconds"]["median"]
    print(
        json.dumps(
            {
                "bench": "swap",
                "ratio": contest.significant(GOAL / took),
                "of": "a second over the seconds from a promotion to its first token",
                "goal": 1.0,
                "met": took <= GOAL and not found["troubles"],
                **found,
                "promotions": promotions,
                "machine": machine,
                "seconds_in_all": round(time.monotonic() - started),
            }
        )
    )
