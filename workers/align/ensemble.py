"""Several reward models' scores read as one reward, and how far they agree on a pair.

Scores of different members have no common scale, so each is centred and divided by its spread over
the same answers first. Variances divide by n - 1 everywhere (arXiv:2310.02743's own code does so
in one place and by n in another, so that its penalty means two things).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Reading = Literal["mean", "worst", "uncertainty", "nominal"]
ROOM = 16  # members at most: beyond five more of them tell little


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """`members` reward models that each learn from the votes on prompts drawn anew, and how their
    scores are read as one. `sharing`: heads on one backbone, cheap and alike in
    what fools them, or an adapter each, at each one's full price. A probe's members share its base.
    """

    members: int = 1
    sharing: Literal["heads", "adapters"] = "heads"
    reading: Reading = "mean"
    penalty: float = 0.5  # "uncertainty": times the members' variance
    nominal_share: float = 0.6  # "nominal": of the least doubtful member; the rest is the minimum's


def check(how: Ensemble) -> None:
    """Raises ValueError with a sentence about the first setting that cannot work."""
    if not 1 <= how.members <= ROOM:
        raise ValueError(f"an ensemble has 1 to {ROOM} members, not {how.members}")
    if how.sharing not in ("heads", "adapters"):
        raise ValueError(f"members share heads or adapters, not {how.sharing}")
    if how.reading not in ("mean", "worst", "uncertainty", "nominal"):
        raise ValueError(f"there is no reading {how.reading!r} of an ensemble")
    if not (math.isfinite(how.penalty) and how.penalty >= 0):
        raise ValueError(f"the penalty on disagreement must be 0 or more, not {how.penalty}")
    if not 0 <= how.nominal_share <= 1:
        raise ValueError(f"the nominal share must be between 0 and 1, not {how.nominal_share}")


def read(how: Ensemble, scores: Tensor, doubt: Tensor) -> Tensor:
    """Members' scores on one scale (B, M) as one reward (B,).

    mean; worst: the minimum (WCO); uncertainty: the mean less `penalty` times the variance (UWO);
    nominal: `nominal_share` times the score of the member with the least `doubt` (M,), the rest of
    the minimum, after BRME (arXiv:2409.15360). Its members state a doubt for each answer, which
    they learn from a first model's scores, never from votes; here a doubt is one for each member,
    its log-loss on votes that it did not see, so that what is called sure was measured.
    """
    if how.reading == "worst":
        return scores.amin(1)
    if how.reading == "uncertainty" and scores.shape[1] > 1:
        return scores.mean(1) - how.penalty * scores.var(1)
    if how.reading == "nominal":
        nominal = scores[:, int(doubt.argmin())]
        return how.nominal_share * nominal + (1 - how.nominal_share) * scores.amin(1)
    return scores.mean(1)


def share(first: Sequence[float], second: Sequence[float]) -> float:
    """The share of members that score the first answer higher, equal scores counting half."""
    assert len(first) == len(second) > 0
    won = sum((a > b) + (a == b) / 2 for a, b in zip(first, second, strict=True))
    return won / len(first)


def certainty(first: Sequence[float], second: Sequence[float], temperature: float = 1.0) -> float:
    """2 |mean_m sigmoid((r_m - r'_m) / temperature) - 0.5|: 0 where members cancel out, 1 where
    all are sure."""
    chances = _chances(first, second, temperature)
    return 2 * abs(sum(chances) / len(chances) - 0.5)


def information(first: Sequence[float], second: Sequence[float], temperature: float = 1.0) -> float:
    """What a vote on two answers would tell of which member is right, in nats (BALD):
    H(mean_m p_m) - mean_m H(p_m) with p_m = sigmoid((r_m - r'_m) / temperature). 0 where all say
    the same, log 2 where half are sure of either."""
    chances = _chances(first, second, temperature)
    each = sum(map(_entropy, chances)) / len(chances)
    return max(0.0, _entropy(sum(chances) / len(chances)) - each)


def _chances(first: Sequence[float], second: Sequence[float], temperature: float) -> list[float]:
    """P(first over second) by member."""
    assert len(first) == len(second) > 0
    return [
        (1 + math.tanh((a - b) / temperature / 2)) / 2 for a, b in zip(first, second, strict=True)
    ]


def _entropy(p: float) -> float:
    return -sum(one * math.log(one) for one in (p, 1 - p) if one > 0)
