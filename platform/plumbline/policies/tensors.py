"""What tensors a folder of weights holds, read from the heads of its safetensors files.

An engine that changes its weights in place keeps those that the new folder lacks, so a folder must
hold just what the model has.
"""

from __future__ import annotations

from pathlib import Path

from align import model_folder

TIED = "lm_head.weight"  # may be left out where it is the embedding itself


def check_same(folder: Path, base: Path) -> None:
    """Raises ValueError naming the first tensor that one of the folders has and the other has
    not, or has in another shape."""
    mine, theirs = shapes(folder), shapes(base)
    for name in sorted(mine.keys() | theirs.keys()):
        if name == TIED and None in (mine.get(name), theirs.get(name)):
            continue
        if mine.get(name) != theirs.get(name):
            raise ValueError(
                f"its {name} is {_told(mine.get(name))}, where the base model\u2019s is "
                f"{_told(theirs.get(name))}"
            )


def shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes by name of all tensors in `folder`. Raises ValueError where there are none."""
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            head = model_folder.head(file)
            found |= {name: one["shape"] for name, one in head.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no safetensors file") from error
    if not found:
        raise ValueError(f"{folder} holds no safetensors")
    return found


def _told(shape: list[int] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape))
