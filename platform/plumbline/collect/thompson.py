"""Double Thompson sampling of a prompt's answers, as the exact chance of every pair.

Two members of the reward model drawn by chance each name their best answer; the second is drawn
again until it names another than the first (arXiv:1604.07101 draws so from a posterior).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from plumbline.collect import shares
from plumbline.collect.models import Completion
from plumbline.collect.shares import Odds, Pair
from plumbline.collect.strategy import Batch, Known

TRIES = 30  # of the second draw


def odds(batch: Batch, prompt: int) -> Odds:
    """The chance of each pair; all alike where no members scored two answers."""
    answers, known = batch.prompts[prompt], batch.of(prompt)
    told = shares.scored(known, answers)
    if not told:
        return shares.uniform(answers)
    rows = sorted({at for pair in told for at in pair})
    members = len(known.members[answers[rows[0]].pk])
    named = Counter(
        max(rows, key=lambda at: known.members[answers[at].pk][member]) for member in range(members)
    )
    share = {at: count / members for at, count in named.items()}
    found: dict[Pair, float] = dict.fromkeys(told, 0.0)
    for first, p in share.items():
        never = p**TRIES
        for second, q in share.items():
            if second != first:
                found[_pair(first, second)] += p * (1 - never) * q / (1 - p)
        found[_least_sure(known, answers, told, first)] += p * never
    return found


def _least_sure(known: Known, answers: Sequence[Completion], told: list[Pair], first: int) -> Pair:
    """Of an answer's pairs, the one whose vote is most open."""
    mine = [pair for pair in told if first in pair]
    return min(mine, key=lambda pair: abs(shares.says(known, answers, pair)["chance"] - 0.5))


def _pair(i: int, j: int) -> Pair:
    return min(i, j), max(i, j)
