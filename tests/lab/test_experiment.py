"""One experiment's page, pause and resume."""

from __future__ import annotations

import pytest

from plumbline.loop.models import Experiment, Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def found(project) -> Experiment:
    return lab.experiment(project, name="Warmer answers", weights={"mode": "lora", "rank": 16})


def address(experiment) -> str:
    return f"/p/alpha/lab/experiments/{experiment.pk}/"


def test_the_rounds_come_with_their_figures(researcher, found):
    lab.finished_round(found)
    page = researcher.get(address(found)).content.decode()
    for words in ("Round 1", "67.2 %", "7.43", "31.2", "Candidate", "Done"):
        assert words in page, words


def test_every_setting_is_on_the_page(researcher, found):
    page = researcher.get(address(found)).content.decode()
    for words in (
        "Answers to each prompt",
        "LoRA rank",
        "KL to base, at most",
        "Beta",
        "Autopilot",
    ):
        assert words in page, words


def test_settings_left_at_their_defaults_are_shown_with_them(researcher, project):
    found = lab.experiment(project, knobs={}, weights={}, optimiser={})
    page = researcher.get(address(found)).content.decode()
    for label, value in (("Beta", "0.1"), ("Soft labels", "on"), ("LoRA rank", "16")):
        assert f"<dt>{label}</dt><dd>{value}</dd>" in page, label


def test_a_first_round_against_the_base_says_that_both_are_the_same(researcher, found):
    lab.finished_round(found)
    assert "the same policy" in researcher.get(address(found)).content.decode()


def test_no_round_yet_is_said(researcher, found):
    assert "No round has begun" in researcher.get(address(found)).content.decode()


def test_the_rounds_are_polled_while_one_is_under_way(researcher, found):
    lab.round_at(found, Stage.TRAIN)
    part = researcher.get(address(found), headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith("<section")
    assert 'hx-trigger="every 2s"' in part


def test_the_polling_stops_when_no_round_is_under_way(researcher, found):
    lab.finished_round(found)
    assert "every 2s" not in researcher.get(address(found)).content.decode()


def test_it_can_be_paused_and_resumed(researcher, found):
    for state in ("paused", "active"):
        researcher.post(f"{address(found)}pause/", {"state": state})
        found.refresh_from_db()
        assert found.state == state


def test_a_finished_experiment_stays_finished(researcher, found):
    Experiment.objects.update(state="finished")
    response = researcher.post(f"{address(found)}pause/", {"state": "active"}, follow=True)
    assert "This experiment has finished." in response.content.decode()
    found.refresh_from_db()
    assert found.state == "finished"


def test_another_projects_experiment_is_not_found(researcher, charlie):
    theirs = lab.experiment(charlie.projects.get())
    assert researcher.get(address(theirs)).status_code == 404
    assert researcher.post(f"{address(theirs)}pause/").status_code == 404


def test_an_annotator_may_not_look_or_pause(bob, found, client_for):
    assert client_for(bob).get(address(found)).status_code == 403
    assert client_for(bob).post(f"{address(found)}pause/").status_code == 403


def test_more_rounds_need_no_more_queries(researcher, found, django_assert_max_num_queries):
    for number in (1, 2, 3):
        lab.finished_round(found, steps=1, number=number)
    with django_assert_max_num_queries(9):
        researcher.get(address(found))
