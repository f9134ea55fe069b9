"""Curves: downsampled by the database, and no longer polled once a round is over."""

from __future__ import annotations

import pytest

from plumbline.fleet.models import Metric
from plumbline.lab import curves
from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def training(project):
    return lab.round_at(lab.experiment(project), Stage.TRAIN)


def address(round) -> str:
    return f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/{round.number}/curves/"


def test_a_short_run_keeps_every_step(training):
    job = lab.train_job(training, "running")
    lab.log_training(job, 30)
    loss = curves.charts([("train", job)])[0]
    assert loss.title == "Loss"
    assert loss.steps == list(range(1, 31))
    assert loss.series[0].low == loss.series[0].mean == loss.series[0].high


def test_a_long_run_has_at_most_500_points_a_series(training):
    job = lab.train_job(training, "running")
    lab.log_training(job, 1_203)
    charts = curves.charts([("train", job)])
    assert {chart.key for chart in charts} >= {"train:loss", "train:rewards", "train:logps"}
    assert all(len(chart.steps) <= 500 for chart in charts)
    assert max(charts[0].steps) > 1_195


def test_a_spike_inside_a_bucket_stays_visible(training):
    job = lab.train_job(training, "running")
    Metric.objects.bulk_create(
        Metric(job=job, step=step, name="loss", value=9.0 if step == 777 else 1.0)
        for step in range(1, 2_001)
    )
    (loss,) = curves.charts([("train", job)])
    assert max(loss.series[0].high) == 9.0
    assert min(loss.series[0].low) == 1.0


def test_rewards_share_a_chart_and_an_unknown_metric_gets_its_own(training):
    job = lab.train_job(training, "running")
    for name in ("rewards/chosen", "rewards/rejected", "surprise"):
        Metric.objects.create(job=job, step=1, name=name, value=0.5)
    found = {c.key: [one.name for one in c.series] for c in curves.charts([("train", job)])}
    assert found == {
        "train:rewards": ["rewards/chosen", "rewards/rejected"],
        "train:surprise": ["surprise"],
    }


def test_reward_model_accuracy_shows_training_and_heldout_together(training):
    job = lab.train_job(training, "running")
    for name in ("train/accuracy", "heldout/accuracy", "epoch"):
        Metric.objects.create(job=job, step=1, name=name, value=1.0)
    (chart,) = curves.charts([("reward", job)])
    assert (chart.title, chart.job) == ("Accuracy", "Reward model")
    assert [one.name for one in chart.series] == ["heldout/accuracy", "train/accuracy"]


def test_a_chart_says_in_words_what_it_draws(training):
    job = lab.train_job(training, "running")
    for step, value in ((1, 0.693), (5, 0.412)):
        Metric.objects.create(job=job, step=step, name="loss", value=value)
    (loss,) = curves.charts([("train", job)])
    assert loss.summary == "Loss: loss 0.693 at step 1, 0.412 at step 5."
    assert loss.rows == [(1, [0.693]), (5, [0.412])]


def test_the_endpoint_gives_charts_as_json(researcher, training):
    lab.log_training(lab.train_job(training, "running"), 5)
    response = researcher.get(address(training), headers={"HX-Request": "true"})
    assert response.status_code == 200
    body = response.json()
    assert body["over"] is False
    assert body["charts"][0]["steps"] == [1, 2, 3, 4, 5]


def test_what_the_browser_has_is_not_sent_again(researcher, training):
    job = lab.train_job(training, "running")
    lab.log_training(job, 5)
    first = researcher.get(address(training))
    again = {"If-None-Match": first["ETag"]}
    assert researcher.get(address(training), headers=again).status_code == 304
    Metric.objects.create(job=job, step=6, name="loss", value=0.1)
    assert researcher.get(address(training), headers=again).status_code == 200


def test_polling_stops_when_the_round_is_over(researcher, project):
    over = lab.finished_round(lab.experiment(project))
    response = researcher.get(address(over), headers={"HX-Request": "true"})
    assert response.status_code == 286  # htmx stops polling at this status
    assert response.json()["over"] is True


def test_another_projects_curves_are_not_found(researcher, charlie):
    theirs = lab.finished_round(lab.experiment(charlie.projects.get()))
    assert researcher.get(address(theirs)).status_code == 404
