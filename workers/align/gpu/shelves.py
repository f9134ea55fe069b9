"""Keys and values that a running batch attends to, in rows of one length a shelf.

Rows stay packed: a row that leaves is overwritten by the last one, so attention reads a shelf as
one tensor and nothing is copied from step to step. A row that outgrows its shelf moves to the next,
twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

SHORTEST = 64  # tokens
FEWEST = 8  # rows

Owner = TypeVar("Owner")


@dataclass(frozen=True)
class Measures:
    """What a model keeps of a token: keys and values (heads, width) in each of its layers."""

    layers: int
    heads: int
    width: int
    dtype: torch.dtype
    device: torch.device


class Shelf(Generic[Owner]):
    """Rows of up to `length` tokens, and whose they are."""

    def __init__(self, measures: Measures, length: int) -> None:
        self.length = length
        self.owners: list[Owner] = []
        self._measures = measures
        self._store = self._room(FEWEST)  # (layers, 2, rows, heads, length, width)

    def add(self, owner: Owner) -> int:
        """The number of a new row, its contents still to be written."""
        row = len(self.owners)
        if row == self._store.shape[2]:
            larger = self._room(2 * row)
            larger[:, :, :row] = self._store
            self._store = larger
        self.owners.append(owner)
        return row

    def remove(self, row: int) -> Owner | None:
        """Forget a row. Gives the owner of the row that took its number, if one did."""
        moved = self.owners.pop()
        if row == len(self.owners):
            return None
        self._store[:, :, row] = self._store[:, :, len(self.owners)]
        self.owners[row] = moved
        return moved

    def layer(self, index: int, longest: int) -> tuple[Tensor, Tensor]:
        """Views of keys and values (rows, heads, longest, width)."""
        both = self._store[index, :, : len(self.owners), :, :longest]
        return both[0], both[1]

    def copy_row(self, row: int, other: Shelf[Owner], there: int, tokens: int) -> None:
        """The first `tokens` of a row of another shelf."""
        self._store[:, :, row, :, :tokens] = other._store[:, :, there, :, :tokens]

    def _room(self, rows: int) -> Tensor:
        m = self._measures
        shape = (m.layers, 2, rows, m.heads, self.length, m.width)
        # Zeros: what is masked is still multiplied, and old memory may hold what is no number.
        return torch.zeros(shape, dtype=m.dtype, device=m.device)


def length_for(tokens: int) -> int:
    """The shortest shelf that holds so many: four lengths between two powers of two."""
    step = max(SHORTEST, (1 << (tokens - 1).bit_length()) // 4)
    return -(-tokens // step) * step
