"""The two answers whose order the last reward model's members disagree on most, for nine in ten.

What a vote on a pair would tell of the members is its information (BALD): the entropy of their mean
verdict less the mean entropy of theirs. Pairs that all call a toss-up have none, however close. One
prompt in ten gets a random pair, for figures that no model chose. In a first round there are no
members yet, and all pairs are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from random import Random
from typing import ClassVar, Literal

from align import ensemble
from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked, Strategy

SHARE = 0.9  # of the prompts


class Disagreement(Strategy):
    needs: ClassVar[Literal["", "contrast", "members"]] = "members"

    def choose(
        self, answers: Sequence[Completion], rng: Random, known: Known = NOTHING
    ) -> list[Picked]:
        most = _most(answers, known)
        share = SHARE if most else 0.0
        at_random = (1 - share) / comb(len(answers), 2)
        if most and rng.random() < share:
            return [Picked(most, p_select=share + at_random)]
        drawn = tuple(rng.sample(answers, 2))
        found = {answer.pk for answer in drawn} == {answer.pk for answer in most}
        return [Picked(drawn, p_select=at_random + share * found)]


def _most(answers: Sequence[Completion], known: Known) -> tuple[Completion, ...]:
    """The pair that a vote would tell most of; nothing where no pair is in dispute."""

    def told(pair: tuple[Completion, ...]) -> float:
        first, second = (known.members[answer.pk] for answer in pair)
        return ensemble.information(first, second, known.temperature)

    scored = [answer for answer in answers if len(known.members.get(answer.pk, ())) > 1]
    best = max(combinations(scored, 2), key=told, default=())
    return best if best and told(best) > 0 else ()
