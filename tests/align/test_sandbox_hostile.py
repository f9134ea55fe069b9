"""Every program of the hostile corpus, run without its ladder's first rung: the host keeps what it
has, the program gets no more than its due, and the next good program is answered."""

from __future__ import annotations

import shutil

import psutil
import pytest

from align import climbing, walls
from align.programs import RewardProgram
from align.sandbox import Breach, Case, WalledSandbox
from tests.align.canaries import SECRET, watched
from tests.align.hostile import CORPUS, inside

GOOD = inside("return {'total': meta['params']['a'], 'components': {'n': len(response)}}")
CASE = Case(prompt="p", response="four", meta={"params": {"a": 0.5}, "tokens": 1, "turns": 1})


@pytest.fixture(scope="module")
def wall():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")
    with walls.standing({}) as found:
        yield found


@pytest.fixture(scope="module")
def box(wall):
    with WalledSandbox(wall, seconds=0.5) as found:
        yield found


@pytest.fixture(scope="module")
def canaries(tmp_path_factory, box):
    assert (
        box.score(GOOD, [CASE])[0].total == 0.5
    )  # its processes are there before they are counted
    with watched(tmp_path_factory.mktemp("canaries")) as found:
        yield found


def test_the_corpus_is_as_large_as_it_is_said_to_be():
    assert len({one.name for one in CORPUS}) == len({one.code for one in CORPUS}) == len(CORPUS)
    assert len(CORPUS) >= 140


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda one: one.name)
def test_a_hostile_program_gets_nothing_and_breaks_nothing(box, canaries, hostile):
    try:
        (said,) = box.score(canaries.filled(hostile.code), [CASE])
        end, words = ("error", said.error) if said.error else ("fine", repr(said))
    except Breach as breach:
        end, words = "breach", str(breach)
    assert end in hostile.ends, words
    assert SECRET not in words
    assert "root:" not in words
    assert box.score(GOOD, [CASE])[0].total == 0.5
    assert len(canaries.children()) <= len(canaries._children)
    assert canaries.touched() == []


def test_the_host_is_as_it_was(wall, box, canaries):
    """After all of them: no file touched, no call, no process left, and none when it closes."""
    box.score(GOOD, [CASE])
    others = canaries.children() - _family(box)
    before = canaries._children - _family(box)
    assert len(others) <= len(before) + 1  # the interpreter in use, which may be another one now
    canaries._children = canaries.children()
    canaries.check()
    family = _family(box)
    box.close()
    assert not canaries.children() & family, "what other tests keep running is theirs"


def _family(box: WalledSandbox) -> frozenset[int]:
    if box.pid is None:
        return frozenset()
    top = psutil.Process(box.pid)
    return frozenset({top.pid, *(one.pid for one in top.children(recursive=True))})


FATAL = ("endless loop", "list bomb", "a boolean", "os.fork", "lying TimeoutError", "nothing")


def test_a_hostile_program_is_invalid_with_its_reason_and_the_others_go_on(wall):
    """The whole ladder, one after the other in the same two sandboxes."""
    pool = [
        climbing.Answer(
            id=str(i), prompt=str(i // 3), response="x" * i, tokens=i, turns=1, judge={}
        )
        for i in range(9)
    ]
    good = inside("return {'total': len(response) / 1e4, 'components': {'n': len(response)}}")
    corpus = {one.name: one.code for one in CORPUS}
    with WalledSandbox(wall, seconds=0.5) as first, WalledSandbox(wall, seconds=0.5) as second:
        for name in FATAL:
            found = climbing.climb(
                RewardProgram(kind="code", code=corpus[name]), pool, first, second
            )
            assert not found.valid
            assert found.problems[0].endswith(".")
            assert [one.total for one in found.outcomes] == [None] * 9
            fine = climbing.climb(RewardProgram(kind="code", code=good), pool, first, second)
            assert fine.valid, fine.problems
