"""A round under fire ends as an undisturbed one: same answers, same votes, same weights.

The worker's whole process tree is killed by SIGKILL in the middle of sampling, of training and of
saving a checkpoint; Redis is flushed and then killed; the loop and the raters are killed too. A
kill that did not land in mid-work is tried again until it does.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos.stack import Stack, strays, wait_until

ROUND_SECONDS = 240


@pytest.fixture
def stacks(tmp_path, engine):
    """Two stacks beside one engine, which is never harmed here."""
    made = []

    def make(name: str) -> Stack:
        stack = Stack(tmp_path / name, engine.url)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()


def wait_for(stack: Stack, condition, seconds: float, pause: float = 0.05):
    """Wait; where it is in vain, say what everybody was doing."""
    try:
        return wait_until(condition, seconds, pause)
    except AssertionError as late:
        raise AssertionError(f"{late}: stuck at {stack.stage()}\n{stack.logs()}") from None


def finish(stack: Stack) -> dict:
    wait_for(stack, lambda: stack.stage() in ("done", "failed"), ROUND_SECONDS, 0.5)
    return stack.result()


def kill_in(stack: Stack, kind: str, landed) -> None:
    """Kill the worker's tree once a running job of `kind` is where `landed` wants it."""

    def there() -> Path | None:
        folder = stack.folder(kind)
        return folder if folder is not None and landed(folder) else None

    wait_for(stack, there, 120, 0.005)
    stack.kill_tree("worker")


def kill_in_mid_save(stack: Stack) -> int:
    """Kill until a half-written checkpoint stays behind; how many kills that took."""
    for kills in range(1, 9):
        before = stack.attempt("train")
        wait_for(stack, lambda before=before: stack.attempt("train") > before, 60)
        folder = stack.folder("train")
        assert folder is not None
        old = set(strays(folder))
        wait_until(lambda folder=folder, old=old: set(strays(folder)) - old, 60, 0.0005)
        stack.kill_tree("worker")
        if set(strays(folder)) - old:
            return kills
        stack.start("worker")
    raise AssertionError("no kill landed in mid-save")


@pytest.mark.timeout(900)
def test_a_round_under_fire_ends_as_an_undisturbed_one(stacks):
    calm = stacks("calm")
    calm.begin()
    expected = finish(calm)
    calm.stop()
    assert expected["stage"] == "done", expected["error"]
    assert expected["deployed"]

    fire = stacks("fire")
    fire.begin()
    faults = []

    kill_in(fire, "sample", lambda folder: (folder / "completions.parts.jsonl").is_file())
    faults.append("worker in mid-sample")
    fire.flush_redis()
    faults.append("redis flushed")
    fire.start("worker")

    wait_for(fire, lambda: fire.stage() in ("select", "label", "reward"), 120)
    fire.kill_tree("raters")
    fire.kill_tree("loop")
    faults += ["raters", "loop"]
    fire.start("raters")
    fire.start("loop")

    kill_in(fire, "train", lambda folder: lines(folder / "events.jsonl") >= 4)
    faults.append("worker in mid-training")
    fire.kill_tree("redis")
    faults.append("redis killed")
    fire.start("worker")
    kills = kill_in_mid_save(fire)
    faults += ["worker in mid-save"] * kills
    fire.start_redis()
    fire.start("worker")

    result = finish(fire)
    print(f"faults that landed: {len(faults)} ({', '.join(faults)}); attempts {result['attempts']}")
    assert result["attempts"]["train"] == 2 + kills
    for figure in expected.keys() - {"attempts"}:
        assert result[figure] == expected[figure], figure
    # Nothing lost, nothing doubled: every comparison has exactly its overlap of votes.
    assert result["ballots"] == result["frozen"] == 3 * result["comparisons"]
    assert result["fullest"] == 3


def lines(path: Path) -> int:
    time.sleep(0.001)
    return path.read_bytes().count(b"\n") if path.is_file() else 0
