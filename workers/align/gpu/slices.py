"""A training state on disk in one file for each rank that wrote it, read back by any number.

A file holds its rank's slices; one after the other, in order of rank, they are the whole tensors.
What has no dimensions (a count) and the ranks' random states are every file's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from align.gpu.ranks import Ranks, mine, rows

STEM = "state"


def write(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write this rank's file."""
    part = "" if ranks.size == 1 else f"-{ranks.rank + 1:05d}-of-{ranks.size:05d}"
    save_file(
        {name: mine(tensor).contiguous() for name, tensor in tensors.items()},
        folder / f"{STEM}{part}.safetensors",
    )


class Slices:
    """The files of a state, however many."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob(f"{STEM}*.safetensors"))
        self._files: list[Any] = [safe_open(path, "pt") for path in paths]
        self._names = set(self._files[0].keys())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def own(self, name: str, rank: int) -> Tensor:
        """What a rank wrote for itself; what the first one did, where there was no such rank."""
        tensor: Tensor = self._files[rank if rank < len(self._files) else 0].get_tensor(name)
        return tensor

    def part(self, name: str, model: Tensor, ranks: Ranks) -> Tensor:
        """A rank's slice of a tensor that is sliced as `model` is; a count as it is."""
        if not self._files[0].get_slice(name).get_shape():
            return self.own(name, 0)
        return self._rows(name, *rows(model, ranks.rank, ranks.size))

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows of a whole tensor, out of the files that hold them."""
        found: list[Tensor] = []
        at = 0
        for one in self._files:
            held = one.get_slice(name)
            end = at + held.get_shape()[0]
            first, last = max(start, at), min(stop, end)
            found.append(held[first - at : last - at] if first < last else held[0:0])
            at = end
        return torch.cat(found)
