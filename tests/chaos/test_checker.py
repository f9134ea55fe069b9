"""The checker finds every loss, double and mixture that is planted, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.checker import Verdict
from tests.chaos.journal import Command, Journal, read


def command(key: str, *events: str, what: str = "vote", **told) -> Command:
    """`events`: what it was told, in order."""
    one = Command(what, key, intent={"at": 100.0, "by": "ann", "choices": ["A1"], **told})
    for event in events:
        line = {"at": 101.0, **told}
        (one.acks if event == "ack" else one.refusals).append(line)
    return one


def vote(key: str, **changes) -> dict:
    row = {"key": key, "comparison": 1, "annotator": "ann", "seat": 0}
    return row | {"outcome": "ranked", "choice": "A1"} | changes


def judged(commands, rows, overlap: int = 2) -> Verdict:
    verdict = Verdict()
    checker.votes(verdict, commands, rows, overlap)
    return verdict


def test_a_platform_that_kept_its_word_is_told_so():
    told = [command("a", "ack"), command("b"), command("c", "refused"), command("d")]
    rows = [vote("a"), vote("b", comparison=2)]
    verdict = judged(told, rows)
    assert verdict.kept, verdict.words()
    assert verdict.unknown == 2
    assert "1 votes that were done unheard" in verdict.words()


def test_an_acknowledged_vote_that_is_not_there_is_lost():
    verdict = judged([command("a", "ack"), command("b", "ack")], [vote("a")])
    assert verdict.lost == ["vote b was acknowledged and is not there"]
    assert "broke its word" in verdict.words()


def test_a_refusal_after_an_acknowledgement_does_not_take_it_back():
    assert judged([command("a", "ack", "refused")], []).lost


@pytest.mark.parametrize(
    "rows",
    [
        [vote("a"), vote("a", comparison=2)],
        [vote("a"), vote("b", comparison=2)],
    ],
    ids=["one key twice", "nobody meant it"],
)
def test_what_is_there_twice_or_uninvited_is_doubled(rows):
    assert len(judged([command("a", "ack")], rows).doubled) == 1


def test_two_votes_of_one_person_on_one_comparison_are_doubled():
    rows = [vote("a"), vote("b", seat=1)]
    verdict = judged([command("a", "ack"), command("b", "ack")], rows)
    assert verdict.doubled == ["ann has 2 votes on comparison 1"]


def test_more_votes_than_wanted_are_doubled():
    told = [command("a", "ack"), command("b", "ack", by="bob")]
    verdict = judged(told, [vote("a"), vote("b", annotator="bob")], overlap=1)
    assert verdict.doubled == ["comparison 1 has 2 votes, 1 wanted"]


def test_a_refused_vote_that_is_there_is_wrong():
    assert judged([command("a", "refused")], [vote("a")]).wrong


@pytest.mark.parametrize("changed", [{"choice": "B3"}, {"annotator": "bob"}])
def test_a_vote_that_says_something_else_is_wrong(changed):
    assert judged([command("a", "ack")], [vote("a", **changed)]).wrong


FLIPS = [
    {"at": 50.0, "before": None, "after": "base", "reason": "first"},
    {"at": 90.0, "before": "base", "after": "p1", "reason": "move m1"},
]


def stream(**changes) -> Command:
    told = {"version": "p1", "models": ["p1"], "finish": "stop", "text": "hello"}
    return command("s", "ack", what="stream", **{**told, **changes})


def streamed(one: Command) -> Verdict:
    verdict = Verdict()
    checker.streams(verdict, [one], FLIPS, {"base": {"hey"}, "p1": {"hello", "hello!"}})
    return verdict


def test_a_stream_of_one_current_policy_is_pure():
    assert streamed(stream()).kept
    assert streamed(command("s", what="stream")).counts["streams unanswered or broken off"] == 1


@pytest.mark.parametrize(
    "changed",
    [{"models": ["p1", "base"]}, {"version": "base"}, {"text": "hey"}, {"text": "hel hey"}],
    ids=["chunks of two", "stamped as another", "text of another", "text of both"],
)
def test_a_mixed_stream_is_found(changed):
    assert streamed(stream(**changed)).mixed


def test_a_stream_without_its_end_or_of_a_policy_that_was_not_current_is_wrong():
    assert streamed(stream(finish=None)).wrong
    assert streamed(stream(version="p9", models=["p9"])).wrong
    old = stream(version="base", models=["base"], text="hey")
    assert old.intent is not None
    assert streamed(old).wrong
    old.intent["at"] = 91.0  # a moment after the move
    assert streamed(old).kept


def moved(one: Command, flips=FLIPS, points_at: str = "p1") -> Verdict:
    verdict = Verdict()
    checker.moves(verdict, [one], flips, points_at)
    return verdict


def test_moves_are_a_chain_and_each_is_made_once():
    assert moved(command("m1", "ack", what="move", policy="p1")).kept
    assert moved(command("m2", "ack", what="move", policy="p1")).kept  # it was there already
    assert moved(command("m2", "ack", what="move", policy="p2")).lost
    away = [*FLIPS, {"at": 100.5, "before": "p1", "after": "p2", "reason": "a round's"}]
    assert moved(command("m2", "ack", what="move", policy="p1"), away, "p2").kept
    away[-1]["at"] = 99.5  # before the move was meant
    assert moved(command("m2", "ack", what="move", policy="p1"), away, "p2").lost
    assert moved(command("m1", what="move"), points_at="base").wrong
    twice = [*FLIPS, {"at": 95.0, "before": "p1", "after": "p1", "reason": "move m1"}]
    assert moved(command("m1", what="move"), twice).doubled
    broken = [FLIPS[0], {**FLIPS[1], "before": "p7"}]
    assert moved(command("m1", what="move"), broken).wrong


def test_a_job_ends_once():
    def ended(**changes) -> Verdict:
        verdict = Verdict()
        job = {"id": 1, "kind": "train", "state": "succeeded", "attempt": 3, "done": 1}
        checker.jobs(verdict, [job | changes])
        return verdict

    assert ended().kept
    assert ended(done=2).doubled
    assert ended(done=0).doubled
    assert ended(state="running", done=0).wrong


def test_a_round_ends_with_what_it_drew_and_one_policy():
    def ended(**changes) -> Verdict:
        verdict = Verdict()
        one = {"number": 1, "stage": "done", "error": "", "frozen": "x", "hashed": "x"}
        one |= {"completions": 8, "draws": 8, "policies": 1}
        checker.rounds(verdict, [one | changes])
        return verdict

    assert ended().kept
    assert ended(completions=7).lost
    assert ended(completions=9).doubled
    assert ended(policies=2).doubled
    assert ended(hashed="y").wrong
    assert ended(stage="train").wrong
    assert ended(stage="failed", error="out of memory").wrong


def test_what_a_journal_holds_survives_its_writer(tmp_path):
    program = """
import sys, os, signal
from pathlib import Path
from tests.chaos.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.intent("vote", "a", by="ann")
journal.ack("vote", "a")
journal.intent("vote", "b", by="ann")
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "ann.jsonl"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    with path.open("ab") as half:
        half.write(b'{"event": "ack", "what": "vo')
    found = {one.key: one for one in read([path])}
    assert found["a"].acked
    assert found["b"].unknown


def test_a_journal_that_contradicts_itself_is_refused(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.ack("vote", "a")
    with pytest.raises(ValueError, match="never meant"):
        read([journal.path])
    other = Journal(tmp_path / "k")
    other.intent("vote", "a")
    other.intent("vote", "a")
    with pytest.raises(ValueError, match="meant twice"):
        read([other.path])
    assert json.loads((tmp_path / "k").read_text().splitlines()[0])["event"] == "intent"
