"""Killed in front of or behind any step of saving, a run ends with the bits of one that never was.

The steps are read out of the code: every call that changes the disk stands between two named
places, and every name is struck here, so a new step without a name, or a name that is never
reached, fails.
"""

from __future__ import annotations

import ast
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from align import failpoints, jobs
from align.gpu import checkpoint, train
from align.run import Run
from tests.align.conftest import do, forked

CODE = Path(checkpoint.__file__)
TREE = ast.parse(CODE.read_text())
CHANGING = {"mkdir", "writer", "write_bytes", "_sync_file", "sync_dir", "rename", "rmtree"}
# Of the folder around it: nothing is lost where it is made or synced twice, or not at all.
BARE = {"mkdir": 1, "sync_dir": 1}
SEED = random.randrange(10**6)  # shown when a test fails


def called(node: ast.stmt) -> str:
    """The name of what a statement calls; "" where it is not a plain call."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return ""
    function = node.value.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def bodies() -> Iterator[list[ast.stmt]]:
    for node in ast.walk(TREE):
        for name in ("body", "orelse", "finalbody"):
            found = getattr(node, name, None)
            if isinstance(found, list):
                yield found


def names() -> list[str]:
    return sorted(
        node.args[0].value
        for node in ast.walk(TREE)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "failpoints.reach"
        and isinstance(node.args[0], ast.Constant)
    )


NAMES = names()
# Reached only where a write failed, and where an earlier attempt left something behind.
WHEN_IT_FAILED = {"checkpoint.failed", "checkpoint.cleared"}
WHEN_SWEEPING = {"checkpoint.sweep", "checkpoint.swept"}


def test_every_step_that_changes_the_disk_stands_between_two_named_places() -> None:
    bare: dict[str, int] = {}
    steps = 0
    for body in bodies():
        for at, node in enumerate(body):
            if called(node) not in CHANGING:
                continue
            before = called(body[at - 1]) if at else ""
            behind = called(body[at + 1]) if at + 1 < len(body) else ""
            if (before, behind) == ("reach", "reach"):
                steps += 1
            else:
                bare[called(node)] = bare.get(called(node), 0) + 1
    assert bare == BARE
    assert steps >= 9
    assert len(NAMES) == len(set(NAMES)) >= 18


def orders(folder: Path, **given: str) -> Path:
    """A folder of failpoints, beside a run directory."""
    found = folder.with_name(f"{folder.name}-orders")
    found.mkdir(exist_ok=True)
    for name, order in given.items():
        (found / name).write_text(order)
    return found


def struck(folder: Path, name: str, order: str, more: dict[str, str] | None = None) -> int:
    """Train in a child with these orders; its exit status. The order must have been taken."""
    given = orders(folder, **{name: order, **(more or {})})

    def action() -> None:
        failpoints.FOLDER = str(given)
        do(train.work, folder)

    status = forked(action)
    assert list(given.glob(f"{name}.*")), f"{name} was not reached, or not so often"
    assert not (given / name).exists()
    return status


def counted(fresh: Callable[[str], Path]) -> dict[str, int]:
    """How often an undisturbed run reaches each place."""
    folder = fresh("counting")
    said = folder / "places.txt"

    def action() -> None:
        def reach(name: str) -> None:
            with said.open("a") as out:
                out.write(f"{name}\n")

        failpoints.reach = reach
        do(train.work, folder)

    assert forked(action) == 0
    reached = said.read_text().split()
    return {name: reached.count(name) for name in NAMES}


def strike(folder: Path, name: str, order: str) -> int:
    """Let the order strike at a place, however the run gets there."""
    if name in WHEN_IT_FAILED:
        return struck(folder, name, order, {"checkpoint.described": "full after 3"})
    if name in WHEN_SWEEPING:
        assert struck(folder, "checkpoint.described", "kill after 3") == -signal.SIGKILL
    return struck(folder, name, order)


def goes_on(folder: Path, whole: str, what: str) -> None:
    assert do(train.work, folder)["sha256"] == whole, what
    assert not list(folder.rglob(f"{checkpoint.STRAY}*")), what
    for one in checkpoint.numbered(folder / jobs.CHECKPOINTS):
        checkpoint.verify(one)


def test_every_place_is_reached(fresh: Callable[[str], Path]) -> None:
    found = counted(fresh)
    assert {n for n, count in found.items() if not count} == WHEN_IT_FAILED | WHEN_SWEEPING


@pytest.mark.parametrize("name", NAMES)
def test_killed_there_it_ends_with_the_same_weights(
    fresh: Callable[[str], Path], whole: str, name: str
) -> None:
    """The second time around, where most are of a checkpoint that is written beside the steps."""
    folder = fresh("killed")
    times = {"checkpoint.set_aside": 0, "checkpoint.discard": 0, "checkpoint.discarded": 0}
    only_once = name in WHEN_IT_FAILED | WHEN_SWEEPING
    order = "kill" if only_once else f"kill after {times.get(name, 1)}"
    assert strike(folder, name, order) == -signal.SIGKILL
    goes_on(folder, whole, name)


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(set(NAMES) - WHEN_IT_FAILED - WHEN_SWEEPING))
def test_killed_there_at_any_time_it_ends_with_the_same_weights(
    fresh: Callable[[str], Path], whole: str, name: str
) -> None:
    times = counted(fresh)[name]
    for at in random.Random(SEED).sample(range(times), min(5, times)):
        folder = fresh(f"time-{at}")
        assert struck(folder, name, f"kill after {at}") == -signal.SIGKILL
        goes_on(folder, whole, f"{name}, time {at}, seed {SEED}")


@pytest.mark.parametrize(
    "name", ["begin", "filled", "described", "sync_file", "rename", "renamed", "reserve", "discard"]
)
def test_a_disk_that_is_full_there_is_a_sentence_and_costs_only_time(
    fresh: Callable[[str], Path], whole: str, name: str
) -> None:
    folder = fresh("full")
    assert struck(folder, f"checkpoint.{name}", "full after 1") == jobs.DISK_FULL
    assert not (folder / jobs.RESULT).exists()
    for one in checkpoint.numbered(folder / jobs.CHECKPOINTS):
        checkpoint.verify(one)
    goes_on(folder, whole, name)


def test_an_error_of_any_kind_leaves_nothing_half_done(
    fresh: Callable[[str], Path], whole: str
) -> None:
    folder = fresh("error")
    assert struck(folder, "checkpoint.described", "error after 1") == 1
    assert not list(folder.rglob(f"{checkpoint.STRAY}*"))
    goes_on(folder, whole, "error")


def test_a_stop_in_the_middle_of_a_save_still_keeps_that_save(
    fresh: Callable[[str], Path], whole: str
) -> None:
    """SIGTERM while a checkpoint is slow to be written: the attempt ends when it is whole."""
    folder = fresh("slow")
    given = orders(folder, **{"checkpoint.described": "sleep 0.3 after 1"})

    def action() -> None:
        failpoints.FOLDER = str(given)
        real = Run.metrics

        def metrics(self: Run, step: int, values: dict[str, float]) -> None:
            real(self, step, values)
            if step == 3:
                signal.raise_signal(signal.SIGTERM)

        Run.metrics = metrics  # type: ignore[assignment,method-assign]
        do(train.work, folder)

    assert forked(action) == 75
    newest = checkpoint.numbered(folder / jobs.CHECKPOINTS)[-1]
    assert checkpoint.verify(newest).metadata["step"] == 3
    goes_on(folder, whole, "stopped")
