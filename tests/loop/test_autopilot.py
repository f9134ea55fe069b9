"""Autopilot: when an experiment begins its next round by itself, and the sentences it leaves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.loop import advance, autopilot, noise, rounds, spending
from plumbline.loop.models import (
    Autopilot,
    Experiment,
    PilotChange,
    PilotDecision,
    Stage,
)
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def experiment(project) -> Experiment:
    return lab.experiment(project, rounds_wanted=5)


def pilot(experiment, **fields) -> Autopilot:
    quiet = {"no_gain_rounds": 0, "noise_floor": False}
    return Autopilot.objects.create(experiment=experiment, **{**quiet, **fields})


def numbers(experiment) -> list[int]:
    return sorted(experiment.rounds.values_list("number", flat=True))


def check(experiment, name: str) -> dict:
    newest = PilotDecision.objects.filter(experiment=experiment).first()
    return next(one for one in newest.checks if one["name"] == name)


def test_without_an_autopilot_rounds_follow_each_other(experiment):
    lab.finished_round(experiment, steps=1)
    advance.tick()
    assert numbers(experiment) == [1, 2]
    assert not PilotDecision.objects.exists()


def test_on_it_begins_the_next_round_and_stores_why(experiment):
    pilot(experiment, most_votes=100)
    lab.finished_round(experiment, steps=1)
    advance.tick()
    assert numbers(experiment) == [1, 2]
    made = PilotDecision.objects.get()
    assert made.goes_on
    assert [one["evidence"] for one in made.checks] == [
        "1 of 5 rounds are done.",
        "0 votes are given of 100; a round like the last one takes 0 more, which fits.",
    ]


def test_off_every_round_waits_for_a_person(experiment, alice):
    pilot(experiment, on=False)
    lab.finished_round(experiment, steps=1)
    advance.tick()
    assert numbers(experiment) == [1]
    autopilot.begin_next(experiment)
    assert numbers(experiment) == [1, 2]
    with pytest.raises(ValueError, match="still in progress"):
        autopilot.begin_next(experiment)


def test_a_budget_of_votes_stops_before_it_is_overdrawn_and_a_change_goes_on(experiment, alice):
    pilot(experiment, most_votes=7)
    made = lab.finished_round(experiment, steps=1)
    made.campaign = open_campaign(experiment.project, comparisons=4)
    made.save()
    for one in made.campaign.comparisons.all():
        lab.ballot(one)
    for _ in range(3):
        advance.tick()
    assert numbers(experiment) == [1]
    assert PilotDecision.objects.count() == 1  # asked every second, decided once
    stopped = PilotDecision.objects.get()
    assert [one["name"] for one in stopped.stops] == ["votes"]
    assert stopped.stops[0]["evidence"] == (
        "4 votes are given of 7; a round like the last one takes 4 more, which is more than is "
        "left."
    )
    experiment.refresh_from_db()
    assert experiment.state == Experiment.State.ACTIVE
    assert autopilot.change(experiment, alice, {"on": True, "most_votes": 8})
    advance.tick()
    assert numbers(experiment) == [1, 2]
    assert PilotDecision.objects.count() == 2


def test_gpu_hours_and_money_are_counted_from_jobs_and_prices(experiment, settings):
    made = lab.finished_round(experiment, steps=1)
    job = made.jobs.get(purpose="train").job
    job.started_at = timezone.now() - timedelta(hours=3)
    job.finished_at = job.started_at + timedelta(hours=2)
    job.save()
    assert spending.of(experiment).gpu_hours == pytest.approx(2.0)
    assert spending.of(experiment).money is None
    unpriced = pilot(experiment, most_money=10)
    found = {one.name: one for one in autopilot.checks(experiment, unpriced, made)}
    assert found["money"].stops  # what cannot be counted is not spent
    settings.GPU_HOUR_PRICE = "2.50"
    found = {one.name: one for one in autopilot.checks(experiment, unpriced, made)}
    assert not found["money"].stops
    assert found["money"].evidence.startswith("5 is spent of 10; a round like the last one takes 5")
    unpriced.most_gpu_hours = 3.9
    found = {one.name: one for one in autopilot.checks(experiment, unpriced, made)}
    assert found["gpu hours"].stops


def test_rounds_without_a_gain_stop_it(experiment):
    pilot(experiment, no_gain_rounds=2)
    for low in (0.55, 0.44):
        made = lab.finished_round(experiment, steps=1)
        made.evaluations.update(rate=0.52, low=low, high=0.6)
        assert autopilot.no_gain(experiment, 2).stops is False
    made = lab.finished_round(experiment, steps=1)
    made.evaluations.update(rate=0.5, low=0.4, high=0.6)
    advance.tick()
    assert numbers(experiment) == [1, 2, 3]
    assert check(experiment, "no gain")["evidence"] == (
        "Of the last 2 rounds none was surely better than the policy it met: round 2 52.0% (44.0% "
        "to 60.0%); round 3 50.0% (40.0% to 60.0%)."
    )


def test_the_budget_of_kl_is_of_the_policy_that_the_next_round_would_start_from(experiment):
    pilot(experiment, most_kl=7.0)
    made = lab.finished_round(experiment, steps=1)  # 7.43 nats, but not promoted
    assert not autopilot.decide(experiment, experiment.pilot, made).stops
    made.policy_out.state = "promoted"
    made.policy_out.save()
    Autopilot.objects.update(version=2)
    advance.tick()
    assert numbers(experiment) == [1]
    assert (
        "7.43 nats a sequence from the base; the budget is 7" in check(experiment, "kl")["evidence"]
    )


def test_the_noise_floor_is_where_the_model_errs_no_more_than_people_slip():
    def found(same: int, right: int, n: int = 100) -> noise.Noise:
        from plumbline.collect.quality.intervals import proportion

        tied = proportion(0, 0, "none")
        return noise.Noise(proportion(same, n, ""), tied, proportion(right, n, ""))

    reached = autopilot.noise_floor(found(same=82, right=90))
    assert found(82, 90).slips == pytest.approx(0.1)  # 2 e (1 - e) = 0.18
    assert reached.stops
    assert "10.0% of their votes are slips that no model could foretell" in reached.evidence
    assert not autopilot.noise_floor(found(same=82, right=89)).stops
    few = autopilot.noise_floor(found(same=8, right=10, n=10))
    assert not few.stops
    assert "Too few to decide by" in few.evidence


def test_it_is_not_known_without_repeats_or_a_reward_model(experiment):
    made = lab.finished_round(experiment, steps=1)
    said = autopilot.noise_floor(noise.of(experiment, made))
    assert not said.stops
    assert said.evidence == (
        "Not known whether more votes would help. The last round trained no reward model that "
        "votes could test."
    )


def test_repeats_and_duplicates_are_read_from_the_experiments_own_campaigns(experiment):
    made = lab.finished_round(experiment, steps=1)
    campaign = made.campaign = open_campaign(experiment.project, comparisons=3)
    made.save()
    first, second, gold = campaign.comparisons.order_by("pk")
    vote = lab.ballot(first)
    second.kind, second.repeats, second.only_for = "repeat", first, vote.annotator
    second.save()
    gold.kind, gold.expected = "gold", {"outcome": "ranked", "ranking": [[0, 1]]}
    gold.save()
    again, wrong = lab.ballot(second), lab.ballot(gold)
    for one in (again, wrong):
        one.annotator = vote.annotator
        one.save()
    found = noise.of(experiment, made)
    assert (found.same.n, found.same.value) == (1, 1.0)
    assert (found.tied.n, found.tied.value) == (1, 0.0)


def test_every_change_leaves_a_row_and_a_finished_experiment_may_go_on(experiment, alice):
    lab.finished_round(experiment, steps=1)
    Experiment.objects.update(rounds_wanted=1)
    advance.tick()
    experiment.refresh_from_db()
    assert experiment.state == Experiment.State.FINISHED
    wanted = {"on": True, "rounds_wanted": 2, "promotes": True, "most_votes": 50}
    assert autopilot.change(experiment, alice, wanted)
    assert not autopilot.change(experiment, alice, wanted)
    row = PilotChange.objects.get()
    assert (row.actor, row.before["rounds_wanted"], row.after["rounds_wanted"]) == (alice, 1, 2)
    assert (row.before["on"], row.after["on"], row.after["most_votes"]) == (False, True, 50)
    advance.tick()
    assert numbers(experiment) == [1, 2]
    experiment.refresh_from_db()
    assert experiment.autopilot
    assert experiment.state == Experiment.State.ACTIVE


def test_the_end_of_the_plan_is_stored_as_well(experiment):
    pilot(experiment)
    Experiment.objects.update(rounds_wanted=1)
    lab.finished_round(experiment, steps=1)
    advance.tick()
    experiment.refresh_from_db()
    assert experiment.state == Experiment.State.FINISHED
    assert PilotDecision.objects.get().stops[0]["evidence"] == "1 of 1 rounds are done."


@pytest.mark.parametrize("ended", [Stage.FAILED, Stage.CANCELLED])
def test_a_person_may_go_on_after_a_round_that_came_to_nothing(experiment, ended):
    lab.round_at(experiment, ended)
    advance.tick()
    assert numbers(experiment) == [1]
    autopilot.begin_next(experiment)
    assert numbers(experiment) == [1, 2]
    Experiment.objects.update(state=Experiment.State.PAUSED)
    with pytest.raises(ValueError, match="paused; resume it first"):
        autopilot.begin_next(experiment)


def test_stopping_touches_nothing_that_is_under_way(experiment, alice):
    under_way = rounds.begin(experiment)
    autopilot.change(experiment, alice, {"on": False})
    under_way.refresh_from_db()
    assert not under_way.over
