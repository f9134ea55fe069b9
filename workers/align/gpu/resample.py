"""How often each member of an ensemble learns from each prompt's votes: the bootstrap by prompt.

A prompt's comparisons stay together, since they are no more independent than its answers. Counts
are Poisson(1), drawn from the seed, the member and the prompt's own text, so that neither the order
of comparisons nor who else is there changes them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from align.gpu.comparisons import Comparison


def drawn(compared: Sequence[Comparison], members: int, seed: int) -> list[Comparison]:
    """The comparisons with their `times`; as they are where there is one member."""
    if members == 1:
        return list(compared)
    return [
        replace(one, times=tuple(times(one.sequences[0].prompt, m, seed) for m in range(members)))
        for one in compared
    ]


def times(prompt: Sequence[int], member: int, seed: int) -> int:
    """A Poisson(1) count."""
    rng = random.Random(f"{seed}:{member}:{','.join(map(str, prompt))}")
    left, count = rng.random() - math.exp(-1), 0
    chance = math.exp(-1)
    while left > 0:
        count += 1
        chance /= count
        left -= chance
    return count
