"""Which of a round's checkpoints becomes its policy.

Each candidate answers prompts that the round did not train on; a reward model of its own, trained
on votes that trained nothing else, compares the answers with those of the policy the round started
from. The best one within the KL budget wins: the judge was never the labeller.
"""

from __future__ import annotations

import random
from statistics import fmean
from typing import Any

from django.conf import settings
from django.db.models import Count, Q

from align import jobs
from align.algorithm import Draws
from plumbline.collect.models import Completion, Prompt
from plumbline.loop import evaluation, rebuilding, roundjobs, rows
from plumbline.loop.models import Round
from plumbline.policies import serving, trials
from plumbline.policies.models import Policy

ONE = Draws(n=1, temperature=1.0)


def prompts(round: Round) -> list[Prompt]:
    """Training prompts whose votes are kept from training, least used first; as many as the
    evaluation has."""
    if round.replays is not None:
        return rebuilding.validation_prompts(round.replays)
    experiment = round.experiment
    used = Count("rounds", filter=Q(rounds__experiment=experiment) & ~Q(rounds=round))
    train = experiment.prompt_set.prompts.filter(split=Prompt.Split.TRAIN)
    found = [one for one in train.annotate(used=used).order_by("pk") if rows.validates(one)]
    if not found:
        raise ValueError(f"{experiment.prompt_set} has too few prompts to choose checkpoints by.")
    random.Random(f"{experiment.seed}:validation").shuffle(found)
    return list(sorted(found, key=lambda prompt: prompt.used)[: experiment.heldout_prompts])


def choose(round: Round, candidates: list[Policy]) -> Policy | None:
    """The best candidate; None while its judge is at work. What was found stays with the round."""
    if len(candidates) == 1 or round.validator is None:
        return candidates[-1]
    asked = prompts(round)
    answers = {}
    for policy in [*candidates, round.policy_in]:
        job = roundjobs.sample(round, f"validate:{policy.pk.hex}", policy, asked, ONE)
        if job is not None:
            rows.import_completions(job, policy, {prompt.pk for prompt in asked})
            answers[policy.pk] = list(
                Completion.objects.filter(batch=job.pk).select_related("prompt").order_by("pk")
            )
    if len(answers) <= len(candidates):
        return None
    everything = [completion for found in answers.values() for completion in found]
    spec = jobs.ScoreJob(
        cache=str(settings.SCORES_DIR),
        reward_model=round.validator.path,
        policies={
            "base": jobs.ModelRef(base=round.experiment.start.base_model),
            **{str(policy.pk): policy.ref for policy in candidates},
        },
        by_token=True,
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "validate", spec, {jobs.ITEMS: lambda: rows.item_rows(everything)})
    if roundjobs.finished(job) is None:
        return None
    scores = rows.read_scores(job)
    theirs = {a.prompt_id: a for a in answers[round.policy_in.pk]}
    table = [
        _row(policy, {a.prompt_id: a for a in answers[policy.pk]}, theirs, scores)
        for policy in candidates
    ]
    budget = round.experiment.gate_kl
    within = [row for row in table if row["kl"] is not None and row["kl"] <= budget]
    best = max(within, key=lambda row: row["rate"]) if within else min(table, key=_drift)
    round.figures = {**round.figures, "checkpoints": table, "chosen": best["policy"]}
    round.save(update_fields=["figures"])
    return next(policy for policy in candidates if str(policy.pk) == best["policy"])


def let_go(candidates: list[Policy], chosen: Policy) -> None:
    """The others leave the engine; they stay as records."""
    for policy in candidates:
        if policy != chosen:
            trials.reject(policy, actor=None, reason="Another checkpoint was chosen.")
            serving.release(policy)


def _row(
    policy: Policy,
    mine: dict[int, Completion],
    theirs: dict[int, Completion],
    scores: dict[str, jobs.ScoreRow],
) -> dict[str, Any]:
    won = evaluation.by_scores(mine, theirs, scores)
    low, high = won.interval()
    found = [scores[str(answer.pk)] for answer in mine.values()]
    k1, k3 = evaluation.divergence(found, str(policy.pk), "base")
    return {
        "policy": str(policy.pk),
        "name": policy.name,
        "step": policy.metrics.get("step") or policy.metrics.get("steps"),
        "rate": won.rate,
        "low": low,
        "high": high,
        "kl": k1,
        "kl_k3": k3,
        "tokens": fmean(len(answer.token_ids or ()) for answer in mine.values()),
    }


def _drift(row: dict[str, Any]) -> float:
    return row["kl"] if row["kl"] is not None else float("inf")
