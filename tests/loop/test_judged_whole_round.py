"""A whole tiny round that judges and people label together, its loop killed on the way."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.judges import attacking, endpoints, judges
from plumbline.judges.models import JudgeVersion
from plumbline.loop import advance, calibrating, judging, rounds, triaging
from plumbline.loop.models import Sent, Stage
from tests.judges import planted
from tests.loop.conftest import run_jobs
from tests.scripted import Scripted, shown

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


def longer(body: dict[str, Any]) -> str:
    """A judge that prefers the longer answer, and says neither where they are about as long."""
    (one, first), (two, second) = shown(body)
    ahead = len(first) - len(second)
    word = f"{one}={two}" if abs(ahead) < 4 else f"{one}>>{two}" if ahead > 0 else f"{two}>>{one}"
    return f"I counted. [[{word}]]"


def vote_for_longer(user: User, campaign: Any) -> int:
    count = 0
    while (ballot := queue.claim_next(user, campaign)) is not None:
        lengths = [len(slot.completion.text) for slot in ballot.comparison.slots.all()]
        best = [[0], [1]] if lengths[0] > lengths[1] else [[1], [0]]
        queue.cast(ballot, queue.Verdict("ranked", ranking=best), uuid4())
        count += 1
    return count


class Killed(BaseException):
    """What a loop that is killed does not survive."""


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """The next call does its work, and then the process dies."""
    real = getattr(module, name)

    def dies(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(module, name, dies)


@pytest.fixture
def person(project) -> User:
    user = User.objects.create_user(username="lena", kind=User.Kind.SIMULATED)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def test_judge_and_people_label_a_round_whose_loop_is_killed_on_the_way(
    experiment_of, project, person, engine, settings, monkeypatch
) -> None:
    settings.ENGINE_URL = engine.url
    with Scripted(longer) as stub:
        settings.PRIVATE_ENDPOINTS = stub.place
        experiment = experiment_of(
            labels="judge_and_people", judge_errors=20, slice_percent=30, judge="judge"
        )
        labeller = judges.make(
            project, "Long", "pairwise", {"verdict": "marker"},
            endpoint=endpoints.add(project, "Stub", stub.url, "one"),
        )  # fmt: skip
        evaluator = judges.make(
            project, "Other", "pairwise", {"verdict": "marker"},
            endpoint=endpoints.add(project, "Other stub", stub.url, "another"),
        )  # fmt: skip
        made = planted.ground(project, 90, [], seed=9)
        for comparison, one, other in made.pairs():
            made.worth[comparison.pk] = float(len(one.text) - len(other.text))
        planted.vote(made, person)
        row = calibrating.calibrate(labeller)
        assert row.finished_at is None
        run_jobs()
        calibrating.collect()
        row.refresh_from_db()
        assert row.usable, row.gate
        experiment.labellers.set([labeller.judge])
        experiment.evaluator = evaluator.judge
        experiment.save()
        round = rounds.begin(experiment)

        once(monkeypatch, judging.asking, "ask")
        once(monkeypatch, judging.asking, "gather")
        once(monkeypatch, triaging, "_ask_people")
        once(monkeypatch, triaging, "cast")
        deaths = 0
        for _ in range(60):
            try:
                advance.tick()
            except Killed:
                deaths += 1
            worked = run_jobs()
            round.refresh_from_db()
            voted = vote_for_longer(person, round.campaign) if round.campaign else 0
            if round.over:
                break
            assert worked or voted or not round.error, round.error
        assert round.stage == Stage.DONE, round.error
        assert deaths == 4
        asked = [body for body in stub.bodies if body["model"] == "one"]
        pairs = round.campaign.comparisons.count()
        assert len(asked) <= 2 * (90 + pairs)  # nothing was asked twice

    assert set(round.judges.values_list("role", "sha256")) == {
        ("label", labeller.sha256),
        ("evaluate", evaluator.sha256),
    }
    sent = Sent.objects.filter(round=round)
    assert sent.count() == pairs
    assert not triaging.suspended(round)
    machine = Ballot.objects.filter(annotator=labeller.judge.account)
    assert machine.values("comparison").distinct().count() == machine.count()
    assert round.ballots.count() == sent.exclude(to="nobody").count()
    assert round.ballots.filter(annotator__kind="ai").count() == sent.filter(to="judge").count()
    against = round.evaluations.get(against="current")
    assert against.judge == "judge"
    assert against.wins + against.ties + against.losses == 6


def test_a_tiny_model_is_attacked_by_the_corpus(project, engine, settings, tmp_path, alice) -> None:
    settings.ENGINE_URL = engine.url
    settings.RUNS_DIR = tmp_path / "runs"
    version = judges.make(
        project, "Tiny", "pairwise", {"verdict": "tokens", "least_mass": 0.0},
        endpoint=endpoints.add(project, "Own", "", settings.BASE_NAME),
    )  # fmt: skip
    # Short, because the demo's context is: what is asked here is what a model makes of attacks.
    short = {**version.settings, "system": "Judge.", "question": "{first}\n{second}\n{reply}"}
    JudgeVersion.objects.filter(pk=version.pk).update(settings=short)
    version.refresh_from_db()
    planted.ground(project, 40, planted.people(1))
    calibrating.calibrate(version)
    run_jobs()
    calibrating.collect()
    if not attacking.bases(version):
        pytest.fail("the tiny model gave no consistent verdict at all")
    row = attacking.begin(version, alice, most=22)
    run_jobs()
    calibrating.collect()
    row.refresh_from_db()
    assert row.error == ""
    silent = sum(one["silent"] for one in row.figures["families"])
    assert row.tried + silent == 22
    print(f"tiny model: {row.flips} of {row.tried} flip, control {row.control_flips}")
