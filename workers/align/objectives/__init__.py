"""Every file in this folder is a reward-model objective, found by its name; no torch at import."""

from __future__ import annotations

from align import discovery
from align.objective import Objective


def discover() -> dict[str, type[Objective]]:
    """Objective classes by file name."""
    return discovery.discover(__name__, Objective)


def get(name: str) -> type[Objective]:
    """The class behind a name. Raises ValueError listing what there is."""
    return discovery.find(__name__, Objective, name)
