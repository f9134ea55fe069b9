"""What is known of raters' tastes where a round's reward model is a mixture of several.

Everything is in the model's own figures, as its job told it: nothing here is computed anew, and no
vote is changed. Raters are known by the number of their account, as in the job's files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.accounts.models import User
from plumbline.loop import history
from plumbline.loop.models import Round
from plumbline.policies.models import RewardModel


@dataclass(frozen=True)
class RaterTaste:
    """weights: of each head, 0 to 1, for this rater. `gain` is how many nats more a vote of theirs
    gets from several tastes than from one; `own` and `common` are the shares of their unseen votes
    that the two have right. None where only the trained heads know the rater."""

    name: str
    votes: int | None
    weights: Sequence[float]
    best: int  # the head, from 1
    gain: float | None
    own: float | None
    common: float | None


@dataclass(frozen=True)
class Tastes:
    """heads: each head's share of the prompts, empty where no mixture was trained. differ: whether
    raters were shown to have different tastes; gain, low, high: by how much, in nats a vote."""

    heads: Sequence[float]
    differ: bool
    gain: float | None
    low: float | None
    high: float | None
    votes: int
    raters: Sequence[RaterTaste]


def of(model: RewardModel) -> Tastes | None:
    """What the model's job found; None where it was not asked."""
    found: Mapping[str, Any] | None = model.metrics.get("labels", {}).get("tastes")
    if found is None:
        return None
    routes: Mapping[str, Sequence[float]] = model.metrics.get("routes", {})
    known: Mapping[str, Mapping[str, Any]] = found["raters"]
    names = _names({*known, *routes})
    raters = []
    for key in {**known, **routes}:
        one = known.get(key, {})
        weights = routes.get(key) or one["shares"]
        raters.append(
            RaterTaste(
                name=names.get(key, "somebody"),
                votes=one.get("votes"),
                weights=weights,
                best=max(range(len(weights)), key=lambda k: weights[k]) + 1,
                gain=one.get("gain"),
                own=one.get("by_own"),
                common=one.get("by_one"),
            )
        )
    raters.sort(key=lambda one: (one.best, -max(one.weights), one.name))
    return Tastes(
        heads=model.metrics.get("shares", []),
        differ=found["differ"],
        gain=found["gain"],
        low=found["low"],
        high=found["high"],
        votes=found["votes"],
        raters=raters,
    )


def weights(model: RewardModel, raters: Sequence[User]) -> list[float]:
    """How a mixture is read for a group: the mean of its members' weights of the heads.

    Raises ValueError where the model is no mixture, or knows none of them.
    """
    routes: Mapping[str, Sequence[float]] = model.metrics.get("routes", {})
    if not routes:
        raise ValueError(
            "This reward model is no mixture of tastes; it says the same to everybody."
        )
    theirs = [routes[str(one.pk)] for one in raters if str(one.pk) in routes]
    if not theirs:
        raise ValueError("The mixture was trained on no vote of these raters.")
    return [sum(column) / len(theirs) for column in zip(*theirs, strict=True)]


def before(round: Round) -> dict[str, list[float]]:
    """Raters' shares of the heads in the newest earlier mixture of the experiment, by which the
    next one numbers its heads; empty where there is none."""
    for one in reversed(history.before(round)):
        model = one.reward_model
        if model is not None and (found := model.metrics.get("labels", {}).get("tastes")):
            return {name: list(rater["shares"]) for name, rater in found["raters"].items()}
    return {}


def _names(keys: set[str]) -> dict[str, str]:
    found = User.objects.filter(pk__in=[key for key in keys if key.isdigit()])
    return {str(pk): name for pk, name in found.values_list("pk", "username")}
