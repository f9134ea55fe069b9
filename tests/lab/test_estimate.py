"""What an experiment will take: from the form alone, from past jobs, and never from nowhere."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.utils import timezone

from align import jobs
from plumbline.loop import estimate, forms, speeds
from plumbline.loop.forms import ExperimentForm
from plumbline.loop.models import RoundStage, Stage
from plumbline.loop.speeds import Range
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/experiments/new/"


@pytest.fixture
def prompts(project):
    return lab.prompt_set(project, train=20, heldout=10)


def told(project, base: str = "/base", **changed) -> estimate.Estimate:
    """The estimate of the form as it begins, with some fields changed."""
    form = ExperimentForm(project)
    bound = ExperimentForm(project, forms.as_data(form) | {"name": "Try"} | changed)
    assert bound.is_valid(), bound.errors
    data = bound.cleaned_data
    asked_as = bound.campaigns.get(data["asked_as"])
    return estimate.of(project, {**data, "asked_as": asked_as}, base)


def past(round, kind: str, seconds: float, result: dict, spec=None) -> None:
    """A job of a kind that took so long."""
    started = timezone.now() - timedelta(hours=1)
    specs = {
        "sample": jobs.SampleJob(engine_url="http://engine", model="base", n=4),
        "score": jobs.ScoreJob(),
        "reward": jobs.RewardJob(base=jobs.ModelRef(base="/base")),
        "train": jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="/base")),
    }
    lab.job(
        round,
        f"{kind}:{lab.Job.objects.count()}",
        spec or specs[kind],
        result=result,
        started_at=started,
        finished_at=started + timedelta(seconds=seconds),
    )


def test_votes_are_counted_from_the_form(project, prompts):
    assert told(project).votes.amount == Range(24, 40)  # 20 prompts, 2 rounds; some are all alike
    found = told(project, prompts_compared=5, overlap=3, rounds_wanted=4,
                 pairs_from="reward_model", pair_rule="max_min")  # fmt: skip
    assert found.votes.amount.high == 60
    assert "5 comparisons × 3 × 4 rounds" in found.votes.source
    judged = told(project, judge="people")
    assert judged.votes.amount.high == 60  # 10 face-offs a round besides


def test_a_base_that_lies_elsewhere_is_not_guessed_about(project, prompts):
    found = told(project)
    assert found.fleet.amount is None
    assert found.wall.amount is None
    assert all("/base lies elsewhere" in one.source for one in found.parts)


def test_a_figure_without_a_past_is_called_rough_and_says_by_what(project, prompts, settings):
    found = told(project, settings.BASE_MODEL)
    assert found.fleet.amount.low < found.fleet.amount.high
    assert found.fleet.source == "Rough: nothing like it has run in this project."
    assert "million parameters on a few processor cores" in found.parts[0].source


def test_past_jobs_of_the_project_say_how_fast_it_goes(project, prompts):
    round = lab.round_at(lab.experiment(project, prompt_set=prompts), Stage.DONE)
    for seconds in (10, 12, 14):
        past(round, "sample", seconds, {"completions": 100, "seconds": seconds})
        past(round, "score", seconds, {"scored": 100, "skipped": 0, "seconds": seconds - 2})
        past(round, "reward", seconds, {"trained_on": 10})
        past(round, "train", seconds, {"examples": 10, "seconds": seconds - 5.0})
    found = told(project, prompt_set=prompts.pk, prompts_per_round=20, heldout_prompts=10)
    assert found.fleet.source == "By the pace of this project's past jobs."
    by_title = {one.title: one for one in found.parts}
    drawn = by_title["Answers to training prompts"]
    assert drawn.source == "Measured on the last 3 jobs of this kind in this project."
    # 20 prompts x 4 answers in each of 2 rounds, at 0.10 to 0.14 seconds.
    assert (drawn.amount.low, drawn.amount.high) == pytest.approx((16.0, 22.4))
    trained = by_title["Training the policy"]
    # 5 s to begin, then 0.5 to 0.9 s an example, 12 to 20 of them a round.
    assert (trained.amount.low, trained.amount.high) == pytest.approx((22.0, 46.0))


def test_jobs_of_other_weights_attempts_or_projects_say_nothing(project, prompts, charlie):
    round = lab.round_at(lab.experiment(project, prompt_set=prompts), Stage.DONE)
    full = jobs.TrainJob(
        algorithm="dpo", start=jobs.ModelRef(base="/base"), weights=jobs.Weights(mode="full")
    )
    past(round, "train", 10, {"examples": 10, "seconds": 9.0}, full)
    other = lab.round_at(lab.experiment(charlie.projects.get()), Stage.DONE)
    past(other, "train", 10, {"examples": 10, "seconds": 9.0})
    past(round, "score", 10, {"scored": 10, "skipped": 0, "seconds": 9.0})
    lab.Job.objects.filter(kind="score").update(attempt=2)
    like = {"start.base": "/base", "weights.mode": "lora"}
    assert speeds.of(project, "train", "/base", 96, like) is None
    assert speeds.of(project, "train", "/base", 96, like | {"weights.mode": "full"}).measured
    assert speeds.of(project, "score", "/base", 96, {}) is None


def test_labelling_takes_as_long_as_it_took(project, prompts):
    made = lab.round_at(lab.experiment(project, prompt_set=prompts), Stage.DONE)
    campaign = open_campaign(project, comparisons=5)
    made.campaign = campaign
    made.save()
    made.ballots.set([lab.ballot(one) for one in campaign.comparisons.all()])
    stage = RoundStage.objects.get(round=made, stage=Stage.LABEL)
    stage.finished_at = stage.started_at + timedelta(seconds=50)
    stage.save()
    assert estimate._past_labelling(project) == [10.0]
    found = estimate._labelling(project, Range(10, 20), {"labels": "people"})
    assert found.amount == Range(100, 200)
    assert found.source == "Votes come in as in this project's last 1 labelled rounds."


def test_a_deadline_bounds_the_wait(project, prompts):
    values = {"labels": "people", "deadline_minutes": 1, "rounds_wanted": 2}
    found = estimate._labelling(project, Range(100, 200), values)
    assert found.amount == Range(120, 120)
    assert "No round waits beyond its deadline." in found.source


def test_costs_are_told_only_where_there_are_prices(project, prompts, settings):
    found = told(project)
    assert found.cost.amount is None
    assert "Votes have no price" in found.cost.source
    assert "No price is set for an hour of a GPU" in found.cost.source
    settings.GPU_HOUR_PRICE = "3.60"
    campaign = open_campaign(project, comparisons=1, hourly_rate=Decimal("24.00"))
    part = estimate._cost(project, campaign, Range(10, 20), Range(1000, 2000))
    # 10 to 20 votes of 15 to 60 s at 24 an hour, and 1000 to 2000 s at a thousandth a second.
    assert (part.amount.low, part.amount.high) == pytest.approx((1.0 + 1.0, 8.0 + 2.0))
    assert "which is a rough figure" in part.source


def test_the_page_tells_it_before_and_while_the_form_is_filled_in(researcher, project, prompts):
    page = unescape(researcher.get(URL).content.decode())
    assert "What it will take" in page
    assert "24 to 40" in page
    sent = forms.as_data(ExperimentForm(project)) | {"rounds_wanted": 4}
    live = unescape(researcher.post(f"{URL}estimate/", sent).content.decode())
    assert "48 to 80" in live
    assert "<html" not in live
    waits = unescape(researcher.post(f"{URL}estimate/", sent | {"epochs": ""}).content.decode())
    assert "The estimate waits for these to be right: Epochs." in waits


def test_nothing_is_kept_by_an_estimate(researcher, bob, client_for, project, prompts):
    sent = forms.as_data(ExperimentForm(project)) | {"name": "Try"}
    researcher.post(f"{URL}estimate/", sent)
    assert not project.experiments.exists()
    assert client_for(bob).post(f"{URL}estimate/", sent).status_code == 403
