"""Did the demo work? The served policy against the base, on the utility nobody trained on.

Both answer every held-out demo prompt through the engine; the gold utility (the average taste of
the panel, free of noise) says which answer is better. Only a demo can do this: of people, nobody
knows the true taste.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from align.demo import raters
from align.jobs import Message
from plumbline.collect.models import Prompt
from plumbline.demo.status import seconds_by_stage
from plumbline.loop import winrate
from plumbline.loop.models import Evaluation, Experiment
from plumbline.policies import engines, serving
from plumbline.policies.models import Deployment, Policy

STREAMS = 8
SECONDS = 300.0  # one answer may take, on a busy machine
SEED = 20261121


def verdict(experiment: Experiment) -> dict[str, Any]:
    """`gold_win_rate` of `current` over the base with its 95% interval, and what it cost."""
    project = experiment.project
    deployment = Deployment.objects.get(project=project, alias=serving.CURRENT)
    current, base = deployment.policy, serving.base_policy(project)
    serving.ensure_loaded(current)
    heldout = experiment.prompt_set.prompts.filter(split=Prompt.Split.HELDOUT).order_by("pk")
    asked = [prompt.messages for prompt in heldout]
    ours, theirs = (_answers(policy, asked, experiment.max_tokens) for policy in (current, base))
    wins = [raters.gold_win(*row) for row in zip(asked, ours, theirs, strict=True)]
    rate = winrate.WinRate(wins.count(1.0), wins.count(0.5), wins.count(0.0))
    low, high = rate.interval()
    # Whoever the opponent was, `kl` is the candidate's distance from the base.
    measured = Evaluation.objects.filter(round__policy_out=current, kl__isnull=False).first()
    return {
        "gold_win_rate": round(rate.rate, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "kl": round(measured.kl, 3) if measured and measured.kl is not None else None,
        "seconds": seconds_by_stage(experiment),
        "policy": current.name,
    }


def _answers(policy: Policy, asked: list[list[Message]], max_tokens: int) -> list[str]:
    """One answer to each conversation, at temperature 1."""
    url = engines.urls()[0] + "/v1/chat/completions"
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        ThreadPoolExecutor(STREAMS) as streams,
    ):

        def answer(numbered: tuple[int, list[Message]]) -> str:
            number, messages = numbered
            body = {
                "model": serving.engine_name(policy),
                "messages": messages,
                "temperature": 1.0,
                "max_tokens": max_tokens,
                "seed": SEED + number,
            }
            reply = client.post(url, json=body).raise_for_status().json()
            return str(reply["choices"][0]["message"]["content"] or "")

        return list(streams.map(answer, enumerate(asked)))
