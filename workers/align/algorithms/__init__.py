"""Every file in this folder is an algorithm, found by its name; adding one touches nothing else."""

from __future__ import annotations

from align import discovery
from align.algorithm import Algorithm


def discover() -> dict[str, type[Algorithm]]:
    """Algorithm classes by file name."""
    return discovery.discover(__name__, Algorithm)


def get(name: str) -> type[Algorithm]:
    """The class behind a name. Raises ValueError listing what there is."""
    return discovery.find(__name__, Algorithm, name)
