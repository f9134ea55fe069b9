"""A candidate that won by length or form is stopped at the gate, and one that is better is not."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse

from align.demo import prompts, raters
from align.measure import drift, length_control
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Prompt, PromptSet
from plumbline.loop import advance, decisions, hacking, rounds
from plumbline.loop.models import Round, Stage
from plumbline.policies.models import Deployment, Policy
from tests.lab import laboratory as lab
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.django_db

LEARNS = {
    **{"learning_rate": 5e-3, "epochs": 5, "batch_size": 8, "micro_batch_size": 8},
    **{"checkpoint_every": 50, "warmup_ratio": 0.1},
}
COUNT = 80  # prompts to train on, and as many held out
HACKING = ["length drift", "win at equal length", "faults in form", "change of form"]
Worth = Callable[[Ballot, str], float]


@pytest.fixture
def many(project):
    """As many questions of the demo, instead of the usual few."""
    found = PromptSet.objects.create(project=project, name="Many questions")
    for split in ("train", "heldout"):
        for text in prompts.texts(split)[:COUNT]:
            Prompt.objects.create(
                set=found,
                split=split,
                messages=[{"role": "user", "content": text}],
                digest=hashlib.sha256(text.encode()).hexdigest(),
            )
    return found


def by_length(ballot: Ballot, text: str) -> float:
    return len(text)


def by_quality(ballot: Ballot, text: str) -> float:
    taste = {"truth": 1.0, "plainness": 1.0, "politeness": 1.0}
    return raters.utility(taste, ballot.comparison.prompt.messages, text)


def go(round: Round, user: Any, worth: Worth) -> Round:
    """Tick, work and vote for the worthier answer until the round is over."""
    for _ in range(60):
        advance.tick()
        round.refresh_from_db()
        if round.over:
            return round
        busy = run_jobs()
        campaign = round.campaign
        if campaign is not None and campaign.closed_at is None:
            while (ballot := queue.claim_next(user, campaign)) is not None:
                worths = [worth(ballot, s.completion.text) for s in ballot.comparison.slots.all()]
                ranking = [[0], [1]] if worths[0] > worths[1] else [[1], [0]]
                ranking = [[0, 1]] if worths[0] == worths[1] else ranking
                queue.cast(ballot, queue.Verdict("ranked", ranking=ranking), uuid4())
                busy += 1
        if not busy:
            time.sleep(0.2)  # a busy engine; the loop would look again just like this
    raise AssertionError(f"the round stands still at {round.stage}: {round.error}")


def rows_of(round: Round) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in round.gate["checks"]}


@pytest.fixture
def whole_round(experiment_of, many, engine, settings, rater, tmp_path):
    """`whole_round(worth)`: a round whose labels, and so its reward model, follow `worth`."""
    settings.ENGINE_URL = engine.url
    settings.SCORES_DIR = tmp_path / "scores"

    def run(worth: Worth, **fields: Any) -> Round:
        defaults = {
            "prompt_set": many,
            "prompts_per_round": COUNT,
            "heldout_prompts": COUNT,
            "max_tokens": 64,
            "gate_win_rate": 0.5,
            "optimiser": LEARNS,
            "reward_optimiser": {**LEARNS, "learning_rate": 3e-3},
        }
        experiment = experiment_of(**{**defaults, **fields})
        return go(rounds.begin(experiment), rater, worth)

    return run


@pytest.mark.sqlite
def test_a_round_that_a_length_loving_judge_labelled_is_stopped(whole_round):
    round = whole_round(by_length)
    assert round.stage == Stage.DONE, round.error
    found = rows_of(round)
    assert found["win rate"]["passed"], "by its own judge the candidate has surely won"
    assert round.figures["drift"]["length"]["low"] > 1
    row = found["win at equal length"]
    assert not row["passed"]
    assert row["values"]["low"] <= 0.5 < row["values"]["raw"]
    assert row["values"]["explained"] > 0.5
    assert not round.gate["passed"]
    assert round.policy_out.state == Policy.State.REJECTED
    assert not Deployment.objects.filter(policy=round.policy_out).exists()
    print("\n" + "\n".join(check["evidence"] for check in round.gate["checks"]))


@pytest.mark.sqlite
def test_a_round_that_quality_labelled_passes_the_same_gate(whole_round, project):
    round = whole_round(by_quality)
    assert round.stage == Stage.DONE, round.error
    found = rows_of(round)
    assert all(found[name]["passed"] and found[name]["blocking"] for name in HACKING)
    assert found["win rate"]["passed"]
    assert "length" not in found, "the row that only informs has given way"
    assert round.gate["passed"]
    assert Deployment.objects.get(project=project, alias="current").policy == round.policy_out
    print("\n" + "\n".join(check["evidence"] for check in round.gate["checks"]))


def test_what_a_gate_refused_is_not_promoted_without_a_reason(project, alice, client_for):
    made = lab.finished_round(lab.experiment(project), steps=1)
    row = {"name": "length drift", "passed": False, "blocking": True, "evidence": "", "values": {}}
    made.gate = {"passed": False, "checks": [row]}
    made.save()
    policy = made.policy_out
    answer = client_for(alice).post(reverse("policy-promote", args=["alpha", policy.pk]), {})
    assert "Say why it is promoted" in str(answer.wsgi_request._messages._queued_messages[0])
    assert not Deployment.objects.filter(policy=policy).exists()
    assert decisions.evidence(policy)["gate"] == made.gate, "which stays with a promotion"


def face_offs(
    longer: Callable[[random.Random], int],
    wins: Callable[[random.Random, int], bool],
    count: int = 200,
    text: str = "It is a planet of rock.",
) -> list[drift.FaceOff]:
    draw = random.Random(1)
    found = []
    for number in range(count):
        more = longer(draw)
        theirs = drift.Answer("It is a planet.", 40, False)
        mine = drift.Answer(text, 40 + more, False)
        found.append(drift.FaceOff(str(number), mine, theirs, float(wins(draw, more))))
    return found


def labelled(likes_length: bool) -> list[tuple[float, float]]:
    """What raters said of pairs of one policy's answers, and by how much the first was longer."""
    draw = random.Random(2)
    longer = [draw.choice((-1, 1)) * draw.randrange(5, 30) for _ in range(100)]
    return [
        (float(more > 0) if likes_length else float(draw.random() < 0.5), float(more))
        for more in longer
    ]


@pytest.mark.parametrize(
    ("likes_length", "stands"), [(True, False), (False, True)], ids=["by length", "by worth"]
)
def test_a_player_who_is_longer_everywhere_is_judged_by_what_length_is_worth(likes_length, stands):
    """Its own meetings cannot tell length from worth; pairs of one policy's answers can."""
    met = face_offs(lambda draw: draw.randrange(5, 30), lambda draw, more: draw.random() < 0.85)
    shares, longer = [one.share for one in met], [one.longer for one in met]
    alone = length_control.controlled(shares, longer)
    assert alone.low > 0.5, "without labels the win seems to stand"
    told = length_control.controlled(
        shares, longer, pull=length_control.STEADY, alike=labelled(likes_length)
    )
    assert (told.low > 0.5) == stands
    swapped = length_control.controlled(
        [1 - one for one in shares], [-one for one in longer],
        pull=length_control.STEADY, alike=labelled(likes_length),
    )  # fmt: skip
    assert swapped.rate == pytest.approx(1 - told.rate, abs=1e-6)


def test_a_ratio_of_lengths_has_an_interval_by_prompts():
    same = face_offs(lambda draw: draw.randrange(-20, 21), lambda draw, more: True)
    assert drift.length_ratio(same).low < 1 < drift.length_ratio(same).high
    twice = drift.length_ratio(face_offs(lambda draw: 80, lambda draw, more: True))
    assert (twice.low, twice.value, twice.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("text", "mark", "broken"),
    [
        ("It is hot. It is hot. It is hot. It is hot.", "repeating themselves", True),
        ("Yes.", "empty or a single word", True),
        ("...", "empty or a single word", True),
        ("- It is hot\n- It is a planet", "with list items", False),
        ("# Mars\nIt is a planet of rock", "with headings", False),
        ("It is a **planet** of rock", "with bold", False),
        ("It is a planet of rock!", "with exclamation marks", False),
    ],
)
def test_a_form_that_answers_did_not_have_is_counted(text, mark, broken):
    met = face_offs(lambda draw: 0, lambda draw, more: True, text=text)
    (found,) = (one for one in drift.changes(met) if one.mark == mark)
    assert (found.mine, found.theirs, found.change.low, found.broken) == (1.0, 0.0, 1.0, broken)
    row = hacking.marks(
        "form", [{**vars(found), "value": 1.0, "low": 1.0, "high": 1.0}], broken, 0.5
    )
    assert not row.passed
    assert f"{mark} 100% against 0%" in row.evidence


def test_what_is_not_sure_is_not_refused():
    ratio = {"value": 2.4, "low": 1.9, "high": 3.0}
    assert hacking.length_drift(ratio, 2.0).passed
    assert not hacking.length_drift({**ratio, "low": 2.1}, 2.0).passed
    assert not hacking.length_drift({"value": 0.3, "low": 0.2, "high": 0.4}, 2.0).passed
    equal = {"raw": 0.8, "rate": 0.5, "low": 0.4, "high": 0.6, "explained": 1.0, "pairs": 50}
    assert not hacking.equal_length(equal, ratio, 0.7, 0.5).passed
    assert hacking.equal_length(equal, {**ratio, "low": 0.9}, 0.7, 0.5).passed, "not surely longer"
    assert hacking.equal_length(equal, ratio, 0.45, 0.5).passed, "no sure win to explain"
    assert hacking.equal_length(equal, ratio, 0.7, 0.0).passed, "switched off"


def test_a_judge_that_sees_more_of_a_win_than_people_do_is_refused():
    apart = {
        "first": "an AI judge", "second": "people", "prompts": 40, "mine": 0.9, "theirs": 0.4,
        "value": 0.5, "low": 0.35, "high": 0.65,
    }  # fmt: skip
    row = hacking.judges_apart(apart, 0.2)
    assert not row.passed
    assert "By an AI judge 90.0% win, by people 40.0%, on the same 40 prompts" in row.evidence
    assert hacking.judges_apart({**apart, "low": 0.15}, 0.2).passed
    for unknown in (None, {**apart, "prompts": 9}):
        row = hacking.judges_apart(unknown, 0.2)
        assert row.passed
        assert not row.blocking
