"""What the best of n answers of a policy would give, from answers that were drawn and scored once.

One reward model picks; where another one scored the same answers, it tells what the pick is worth
to somebody who did not pick. Exact and without bias (`align.measure.best_of_n`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median_low, stdev
from uuid import UUID

from django.db.models import Count
from django.db.models.functions import MD5

from align.measure import best_of_n
from align.measure.ratings import Z
from plumbline.judges.models import Score
from plumbline.policies.models import Policy, RewardModel

LEAST = 2  # prompts with several answers, before anything is said


@dataclass(frozen=True)
class Best:
    """The best of n: its gains over one answer in log-odds, and how far from the policy it is."""

    n: int
    kl: float  # as the draws show the policy, in nats
    bound: float  # log n - (n - 1) / n
    gain: float
    low: float
    high: float
    other: float | None  # the gain by the other model
    win_rate: float | None  # against one answer, by the other model


@dataclass(frozen=True)
class Frontier:
    """A policy's best of n by `model`, judged by `other` too where there is one."""

    policy: Policy
    model: RewardModel
    other: RewardModel | None
    prompts: int
    answers: int  # of each prompt
    rows: list[Best]


def frontiers(policies: Sequence[Policy]) -> list[Frontier]:
    """Of each policy that has prompts with several answers scored by one model."""
    return [found for policy in policies if (found := _of(policy)) is not None]


def _of(policy: Policy) -> Frontier | None:
    scores = Score.objects.filter(completion__policy=policy)
    counts = (
        scores.values("reward_model")
        .annotate(answers=Count("pk"), prompts=Count("completion__prompt", distinct=True))
        .order_by("-reward_model__created_at")
    )
    several = [(one["answers"] - one["prompts"], one["reward_model"]) for one in counts]
    several = [one for one in several if one[0] > 0]
    if not several:
        return None
    several.sort(key=lambda one: -one[0])  # stable: of equals the newest model
    models = RewardModel.objects.in_bulk([pk for _, pk in several])
    model = models[several[0][1]]
    mine = _by_prompt(policy, model)
    sizes = [len(some) for some in mine.values() if len(some) > 1]
    if len(sizes) < LEAST:
        return None
    count = median_low(sizes)
    kept = {prompt: some for prompt, some in mine.items() if len(some) >= count}
    other, theirs = _other(policy, [models[pk] for _, pk in several[1:]], kept)
    rows = [_best(n, kept, model, theirs, other) for n in _sizes(count)]
    return Frontier(policy, model, other, len(kept), count, rows)


Answers = dict[UUID, tuple[str, float]]  # by completion: what it says, as a digest, and its score


def _by_prompt(policy: Policy, model: RewardModel) -> dict[int, Answers]:
    rows = (
        Score.objects.filter(completion__policy=policy, reward_model=model)
        .annotate(digest=MD5("completion__text"))
        .order_by("completion_id")
        .values_list("completion__prompt_id", "completion_id", "digest", "value")
    )
    found: dict[int, Answers] = defaultdict(dict)
    for prompt, answer, digest, value in rows:
        found[prompt][answer] = (digest, value)
    return found


def _other(
    policy: Policy, models: Sequence[RewardModel], kept: Mapping[int, Answers]
) -> tuple[RewardModel | None, dict[UUID, float]]:
    """The newest other model that scored every one of these answers."""
    wanted = {answer for some in kept.values() for answer in some}
    for model in sorted(models, key=lambda one: one.created_at, reverse=True):
        scores = {
            answer: value
            for some in _by_prompt(policy, model).values()
            for answer, (_, value) in some.items()
        }
        if wanted <= scores.keys():
            return model, scores
    return None, {}


def _best(
    n: int,
    kept: Mapping[int, Answers],
    model: RewardModel,
    theirs: Mapping[UUID, float],
    other: RewardModel | None,
) -> Best:
    gains, kls, others, wins = [], [], [], []
    for some in kept.values():
        proxy = [value for _, value in some.values()]
        gains.append(_gain(proxy, proxy, n) / model.temperature)
        # Members of a batch on a GPU may score copies of an answer a hair apart.
        same = dict(some.values())
        digests = [digest for digest, _ in some.values()]
        kls.append(best_of_n.kl_of_samples(digests, [same[one] for one in digests], n))
        if other is not None:
            gold = [theirs[answer] for answer in some]
            others.append(_gain(proxy, gold, n) / other.temperature)
            wins.append(best_of_n.win_rate(proxy, gold, n))
    mean = fmean(gains)
    half = Z * stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return Best(
        n=n,
        kl=fmean(kls),
        bound=best_of_n.kl_bound(n),
        gain=mean,
        low=mean - half,
        high=mean + half,
        other=fmean(others) if others else None,
        win_rate=fmean(wins) if wins else None,
    )


def _gain(proxy: Sequence[float], gold: Sequence[float], n: int) -> float:
    """By how much the best of n by the proxy is better than one answer; of one, by nothing."""
    return best_of_n.expected(proxy, gold, n) - fmean(gold) if n > 1 else 0.0


def _sizes(count: int) -> list[int]:
    """1, 2, 4, ... and the count itself."""
    found = [1]
    while found[-1] * 2 <= count:
        found.append(found[-1] * 2)
    return found if found[-1] == count else [*found, count]
