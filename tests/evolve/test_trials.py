"""A program before it may judge, and what becomes of it: judge, round, retired."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from align import seeded_writer
from align.icpl import calibrate
from plumbline.collect import origins
from plumbline.collect.models import Ballot, Campaign, Completion
from plumbline.collect.strategy import Picked
from plumbline.evolve import promoting, trials
from plumbline.evolve.models import Program
from plumbline.loop import campaigns, rows
from plumbline.loop.models import Experiment
from tests.evolve import laboratory
from tests.evolve.conftest import answer, likes
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.django_db


def votes(evolution, user, count, taste=likes):
    """A campaign of its own in which somebody compared pairs of other answers."""
    campaign = Campaign.objects.create(project=evolution.project, name="Other votes")
    prompts = list(evolution.prompt_set.prompts.order_by("pk"))
    rng = random.Random(5)
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        texts = sorted({answer(rng) for _ in range(3)}, key=lambda text: rng.random())[:2]
        if len(texts) < 2 or taste(texts[0]) == taste(texts[1]):
            continue
        pair = tuple(
            Completion.objects.create(prompt=prompt, text=text, token_ids=[0] * len(text.split()))
            for text in texts
        )
        comparison = campaigns.compare(campaign, prompt.pk, Picked(pair, 1.0), "random")
        better = int(taste(texts[1]) > taste(texts[0]))
        now = timezone.now()
        Ballot.objects.create(
            comparison=comparison, annotator=user, seat=0, shown=[0, 1], outcome="ranked",
            ranking=[[better], [1 - better]], claimed_at=now, cast_at=now,
            expires_at=now + timedelta(minutes=5),
        )  # fmt: skip


def steady():
    """Polite and plain: what spaces, wrappers and praise leave as it is."""
    return seeded_writer.build({"politeness": 2.0, "certainty": 0.8, "questions": -0.1}, {})


@pytest.fixture
def winner(evolution_of, rater):
    evolution = evolution_of()
    generation = evolution.generations.get()
    return laboratory.add(generation, 0, steady())


def test_a_program_that_agrees_with_people_becomes_a_judge_and_labels_a_round(
    winner, rater, alice, settings
):
    votes(winner.generation.evolution, rater, 420)
    trial = trials.begin(winner, alice)
    with pytest.raises(ValueError, match="under way"), transaction.atomic():
        trials.begin(winner, alice)
    trials.tick()
    run_jobs()
    trials.tick()
    trial.refresh_from_db()
    winner.refresh_from_db()
    assert trial.error == ""
    assert trial.passed, trial.checks
    assert trial.temperature > 0
    assert trial.figures["low"] > calibrate.LEAST_ACCURACY
    assert trial.figures["log_loss"] < 0.69
    assert winner.status == Program.Status.CANDIDATE_JUDGE

    version = promoting.promote(winner, "Kind and plain", alice)
    version.refresh_from_db()
    assert version.judge.kind == "program"
    assert version.settings["program"] == winner.program
    assert version.settings["knobs"]["temperature"] == pytest.approx(trial.temperature)
    assert (winner.status, winner.judge) == (Program.Status.ACTIVE, version)
    with pytest.raises(ValueError, match="already"):
        promoting.promote(winner, "Again", alice)

    made = promoting.try_out(winner, alice)
    assert made.labels == Experiment.Labels.JUDGE
    assert list(made.labellers.all()) == [version.judge]
    assert made.judge == Experiment.Judge.PEOPLE
    assert (made.algorithm, made.rounds_wanted) == ("dpo", 1)
    assert promoting.try_out(winner, alice).name != made.name

    promoting.retire(winner)
    winner.refresh_from_db()
    assert winner.status == Program.Status.RETIRED
    with pytest.raises(ValueError, match="Make the program a judge first"):
        promoting.try_out(winner, alice)


def test_too_few_votes_are_told_honestly(winner, rater, alice):
    with pytest.raises(ValueError, match="Nobody has voted yet"):
        trials.begin(winner, alice)
    votes(winner.generation.evolution, rater, 30)
    trial = trials.begin(winner, alice)
    trials.tick()
    run_jobs()
    trials.tick()
    trial.refresh_from_db()
    assert trial.passed is False
    first = trial.checks[0]
    assert first["passed"] is None
    assert "Too few" in first["evidence"]
    winner.refresh_from_db()
    assert winner.status == Program.Status.VALIDATED
    with pytest.raises(ValueError, match="has not passed"):
        promoting.promote(winner, "Kind", alice)


def test_a_sessions_own_rankings_are_no_proof(evolution_of, rater, alice):
    evolution = evolution_of()
    laboratory.ranked(evolution, rater)
    assert Ballot.objects.filter(outcome="ranked").exists()
    assert trials.human_pairs(evolution.best) == []


def test_rankings_of_picks_train_at_half_their_weight(evolution_of, rater):
    evolution = evolution_of()
    generation = laboratory.ranked(evolution, rater)
    ballots = campaigns.evidence(generation.campaign.comparisons.all())
    told = list(rows.comparison_rows(ballots))
    assert told
    assert {weight for row in told for *_, weight in row["preferences"]} == {origins.ICPL_WEIGHT}
    assert {row["counts"] for row in told} == {origins.ICPL_WEIGHT}
    for comparison in generation.campaign.comparisons.all():
        assert comparison.why["source"] == "icpl"
        assert comparison.why["selection_biased"] is True
