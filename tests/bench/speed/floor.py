"""What each side's imports weigh before anything is loaded: no training can hold less."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Mapping
from typing import Any

from tests.bench.speed.clock import memory


def nothing(options: Mapping[str, Any]) -> dict[str, float]:
    """Resident GiB after importing either side."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        return {side: pool.apply(_import, (side,)) for side in ("ours", "trl_side")}


def _import(side: str) -> float:
    importlib.import_module(f"tests.bench.speed.{side}")
    return memory()["rss_gib"]
