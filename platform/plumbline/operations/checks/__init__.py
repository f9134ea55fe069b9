"""Every file in this folder is a check of `manage.py verify`, found by its name."""

from __future__ import annotations

from align import discovery
from plumbline.operations.check import Check


def discover() -> dict[str, type[Check]]:
    """Check classes by file name."""
    return discovery.discover(__name__, Check)
