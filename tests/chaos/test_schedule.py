"""A schedule is fixed by its seed, and counts nothing but faults that landed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.chaos import faults, soak
from tests.chaos import schedule as scheduling
from tests.chaos.faults import Fault
from tests.chaos.scene import Missed, Struck, failpoints
from tests.chaos.schedule import Plan, Schedule


class Scene:
    """Nobody is there; `flows` says what is told to be under way."""

    def __init__(self, *under_way: str) -> None:
        self.under_way = under_way
        self.votes, self.pilot = SimpleNamespace(acked=0), SimpleNamespace(moves=0)

    def flows(self, amid: str) -> bool:
        return not amid or amid in self.under_way


def struck(proof: Callable[[], bool], within: float = 0.1) -> Struck:
    return Struck("", "told", proof, time.monotonic() + within)


@pytest.fixture
def schedule(monkeypatch):
    """`schedule({name: fault}, *under_way, **plan)`"""

    def make(kinds: dict[str, Fault], /, *under_way: str, **plan) -> Schedule:
        monkeypatch.setattr(scheduling, "_kinds", lambda: dict(kinds))
        told = Plan(**({"seed": 1, "faults": 6, "seconds": 0.6, "gap": (0.0, 0.01)} | plan))
        return Schedule(told, Scene(*under_way), lambda text: None)

    return make


def test_a_seed_replays_its_schedule_and_another_has_another(schedule):
    def order(seed: int) -> list[list[str]]:
        made = schedule(dict(faults.KINDS), seed=seed)
        return [made._deck() for _ in range(3)]

    assert order(7) == order(7)
    assert order(7) != order(8)
    assert all(sorted(deck) == sorted(faults.KINDS) for deck in order(7))


def test_only_what_landed_counts(schedule):
    def missed(scene) -> Struck:
        raise Missed("nobody was there")

    kinds = {
        "lands": Fault(lambda scene: struck(lambda: True)),
        "shows nothing": Fault(lambda scene: struck(lambda: False)),
        "finds nobody": Fault(missed),
    }
    made = schedule(kinds)
    made.run()
    assert set(made.landed) == {"lands"}
    assert made.landed["lands"] >= 6
    assert set(made.missed) == {"shows nothing", "finds nobody"}


def test_what_has_nothing_to_harm_waits_and_the_others_go_on(schedule):
    kinds = {
        "amid votes": Fault(lambda scene: struck(lambda: True), "votes"),
        "amid streams": Fault(lambda scene: struck(lambda: True), "streams"),
    }
    made = schedule(kinds, "votes", faults=3)
    made.run()
    assert set(made.landed) == {"amid votes"}
    assert not made.missed


def test_what_all_wait_for_does_not_keep_others_from_their_turn(schedule):
    kinds = {
        "amid votes": Fault(lambda scene: struck(lambda: True), "votes"),
        "amid jobs": Fault(lambda scene: struck(lambda: True), "jobs"),
    }
    made = schedule(kinds, "votes", faults=3, seconds=30)
    made.run()
    assert made.landed == {"amid votes": 3}


def test_an_order_that_nobody_takes_in_time_is_taken_back(schedule, tmp_path):
    """Else it stops somebody whom nobody wakes."""
    name = "freeze.listed: stopped there"
    strike = faults.at_failpoint("freeze.listed", "stop")

    def soon(scene) -> Struck:
        given = strike(scene)
        given.until = time.monotonic() + 0.1
        return given

    made = schedule({name: Fault(soon)})
    made.scene.house = SimpleNamespace(failpoints=tmp_path)
    made.scene.struck = lambda detail, proof, within: struck(proof, within)
    made.run()
    assert made.missed[name]
    assert not (tmp_path / "freeze.listed").exists()


def test_faults_keep_pace_with_the_commands_they_are_spread_over(schedule):
    made = schedule({"lands": Fault(lambda scene: struck(lambda: True))}, faults=100, commands=1000)
    made.scene.votes.acked = 300
    made.run()
    assert 30 <= made.landed["lands"] <= 34


def test_once_means_that_every_place_is_struck_once_and_then_it_is_over(schedule):
    kinds = {f"{at}: error there": Fault(lambda scene: struck(lambda: True)) for at in "abc"}
    made = schedule(kinds, once=True, faults=3, seconds=30)
    began = time.monotonic()
    made.run()
    assert sorted(made.places) == sorted(kinds)
    assert time.monotonic() - began < 10


def test_where_nobody_comes_by_somebody_is_brought(schedule):
    """A write that fails is what comes to `checkpoint.failed`; it is made to fail until it does."""
    failed = []

    def fails(scene) -> Struck:
        failed.append(1)
        return struck(lambda: True)

    wanted, brings = "checkpoint.failed: killed there", "checkpoint.described: disk full there"
    kinds = {wanted: Fault(lambda scene: struck(lambda: len(failed) >= 2)), brings: Fault(fails)}
    made = schedule(kinds, once=True, kinds=(wanted,), faults=1, seconds=30)
    made.run()
    assert wanted in made.places
    assert len(failed) >= 2


def test_whoever_is_to_be_brought_is_brought_by_a_kind_that_there_is():
    assert scheduling.BRINGS.keys() <= set(failpoints())
    assert set(scheduling.BRINGS.values()) <= scheduling._kinds().keys()


def test_five_stories_give_a_place_all_five_orders():
    given = [soak._ordered(("a.b", "c.d"), 7, n) for n in range(5)]
    for at in range(2):
        assert len({one[at] for one in given}) == len(scheduling.ORDERS) == 5
    assert given != [soak._ordered(("a.b", "c.d"), 8, n) for n in range(5)]


def test_a_full_disk_is_one_kind_wherever_it_is_met(schedule):
    kinds = {f"{at}: disk full there": Fault(lambda scene: struck(lambda: True)) for at in "abc"}
    made = schedule(kinds)
    made.run()
    assert list(made.landed) == ["disk full there (failpoint)"]
    assert {name.partition(":")[0] for name in made.places} == {"a", "b", "c"}


def test_every_place_in_the_code_is_found():
    found = failpoints()
    assert {"vote.stored", "job.ended", "promotion.flipped", "checkpoint.rename"} <= set(found)
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in found)


def test_there_are_kinds_enough():
    assert len(faults.KINDS) >= 40
    assert len({toxin.toxic for toxin in faults.TOXINS.values()}) == 8
