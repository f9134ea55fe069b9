"""What a reward-model objective is: a loss over what a model says of one batch of comparisons.

Each response is read once, however many judgements mention it; an objective says how many numbers
the head gives for it, which judgements it learns from, and how the numbers become a reward and a
preference. Light enough for the web process to import, like `align.algorithm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from align.knobs import Declared

if TYPE_CHECKING:
    from torch import Tensor

Reads = Literal["preferences", "rankings", "ratings"]
Forward = Literal["answers", "side_by_side", "policy"]


@dataclass(frozen=True)
class Preferences:
    """P(i > j) for pairs of responses of a batch; all tensors have shape (P,)."""

    i: Tensor  # int64 index into the scores
    j: Tensor
    p: Tensor  # a tie counts half
    weight: Tensor
    tie: Tensor | None = None  # share of the votes that called it a tie
    strength: Tensor | None = None  # how much better i is said to be, -1 to 1, the mean of votes
    margin: Tensor | None = None  # log-odds that a difference of scores is to exceed, for i over j
    tastes: Tensor | None = None  # (P, K): how far each head fits whoever voted, as shares


@dataclass(frozen=True)
class Rankings:
    """N rankings of up to K responses, each as groups of equals."""

    items: Tensor  # (N, K) int64 index into the scores; anything where there is none
    place: Tensor  # (N, K) int64: 0 for the best group, 1 for the next, ...; -1 where there is none
    weight: Tensor  # (N,)


@dataclass(frozen=True)
class Ratings:
    """Judgements of single responses by criterion; all tensors have shape (N,)."""

    item: Tensor  # int64 index into the scores
    criterion: Tensor  # int64 index into the criteria
    value: Tensor  # 0 to 1
    weight: Tensor


@dataclass(frozen=True)
class Said:
    """What people said of a batch; an objective reads one of the three."""

    preferences: Preferences
    rankings: Rankings | None = None
    ratings: Ratings | None = None
    tokens: Tensor | None = None  # (R,), of each answer

    def weight(self, reads: Reads) -> Tensor:
        """How much each of the judgements counts, (N,)."""
        found = getattr(self, reads)
        assert found is not None, f"a batch without {reads}"
        weight: Tensor = found.weight
        return weight


@dataclass(frozen=True, kw_only=True)
class Objective(Declared):
    """Base of all objectives; the fields of a subclass are its knobs.

    Attributes:
        reads: which judgements it learns from.
        forward: what the model reads at once: an answer behind its prompt, two answers side by
            side in one prompt, or an answer under a policy and its reference, untrained.
        relative: whether `score` reads its field.
        by_rater: whether each vote is a preference of its own, with its rater's `tastes`.
        by_step: whether `penalty` is added to the mean loss of each optimiser step's whole batch.
        head_rate: the head's learning rate over the backbone's.
    """

    reads: ClassVar[Reads] = "preferences"
    forward: ClassVar[Forward] = "answers"
    relative: ClassVar[bool] = False
    by_rater: ClassVar[bool] = False
    by_step: ClassVar[bool] = False
    head_rate: ClassVar[float] = 1.0

    @property
    def votes_for_ratings(self) -> bool:
        """Of one that reads ratings: whether it makes them from votes instead of people's own."""
        return False

    @property
    def start(self) -> float:
        """Spread of the head's numbers before training; a head of zeros gives the backbone no
        gradient until it has moved."""
        return 0.0

    @property
    def asked(self) -> int:
        """How many of the numbers, the last of them, are read at the end of the prompt instead of
        at the end of the answer."""
        return 0

    def width(self, criteria: Sequence[str]) -> int:
        """How many numbers the head gives for an answer, W; `criteria` are those people rated."""
        return 1

    def loss(self, values: Tensor, said: Said) -> Tensor:
        """Losses (N,) of the judgements it reads, before weighting, from values (R, W)."""
        raise NotImplementedError

    def sums(self, values: Tensor, said: Said) -> Tensor:
        """What `penalty` is made from: sums over judgements, which a batch's parts add up to."""
        raise NotImplementedError

    def penalty(self, sums: Tensor, weight: Tensor) -> Tensor:
        """What is added to a batch's mean loss, (), from its `sums` and the head's rows (W, H)."""
        raise NotImplementedError

    def step_figures(self, sums: Tensor) -> dict[str, float]:
        """Figures worth logging of a batch's `sums`."""
        return {}

    def score(self, values: Tensor, field: Tensor) -> Tensor:
        """The reward (R,) of answers with values (R, W); `field` (W,) is the values' mean over the
        answers that the model was trained on."""
        return values[:, 0]

    def routed(self, values: Tensor, tastes: Tensor) -> Tensor:
        """The reward (R,) for whoever has these shares of the heads (K,), of a mixture."""
        raise NotImplementedError

    def logit(self, values: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Log-odds (P,) that answer i is preferred to j."""
        score = self.score(values, values.new_zeros(values.shape[1]))
        return score[i] - score[j]

    def figures(self, values: Tensor, said: Said) -> dict[str, tuple[float, float]]:
        """Further figures worth logging: their sums, and how much each was summed over."""
        return {}
