"""Regression on several criteria: a head for each, and their mean as the reward.

What people rated (helpful, correct, ...) is foretold by a head of its own, with squared error on a
scale from 0 to 1, as in multi-head reward models (HelpSteer, arXiv:2311.09528). Learning from votes
instead, the one criterion is `preferred`: the share of the other answers that an answer beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from align.knobs import knob
from align.objective import Objective, Reads, Said

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Regression(Objective):
    title: ClassVar[str] = "Regression on ratings"
    reads: ClassVar[Reads] = "ratings"

    sharpness: float = knob(
        4.0,
        "Log-odds that one answer is preferred, where it is rated 1 and the other 0.",
        above=0,
    )

    from_votes: bool = knob(
        False,
        "Learn how many of the others an answer beat in people's votes. Off: people's ratings, by "
        "the criteria that the campaign asks for.",
    )

    @property
    def votes_for_ratings(self) -> bool:
        return self.from_votes

    def width(self, criteria: Sequence[str]) -> int:
        return len(criteria)

    def loss(self, values: Tensor, said: Said) -> Tensor:
        rated = said.ratings
        assert rated is not None
        told = 0.5 + values[rated.item, rated.criterion]  # an untrained head says the middle
        return (told - rated.value) ** 2

    def score(self, values: Tensor, field: Tensor) -> Tensor:
        return self.sharpness * values.mean(1)
