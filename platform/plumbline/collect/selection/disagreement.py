"""The two answers whose order the last reward model's members disagree on most, for nine in ten.

What a vote on a pair would tell of the members is its information (BALD): the entropy of their mean
verdict less the mean entropy of theirs. Pairs that all call a toss-up have none, however close. One
prompt in ten gets a random pair, for figures that no model chose. In a first round there are no
members yet, and all pairs are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import ClassVar

from align import ensemble
from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Need, Picked, Strategy, mostly

SHARE = 0.9  # of the prompts


class Disagreement(Strategy):
    needs: ClassVar[Need] = "members"

    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        return mostly(_most(answers, known), SHARE, answers, rng)


def _most(answers: Sequence[Completion], known: Known) -> tuple[Completion, ...]:
    """The pair that a vote would tell most of; nothing where no pair is in dispute."""

    def told(pair: tuple[Completion, ...]) -> float:
        first, second = (known.members[answer.pk] for answer in pair)
        return ensemble.information(first, second, known.temperature)

    scored = [answer for answer in answers if len(known.members.get(answer.pk, ())) > 1]
    best = max(combinations(scored, 2), key=told, default=())
    return best if best and told(best) > 0 else ()
