"""The list of experiments."""

from __future__ import annotations

import pytest

from plumbline.loop.models import Stage
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/experiments/"


def test_an_empty_project_is_told_what_to_do(researcher):
    page = researcher.get(URL).content.decode()
    assert "No experiments yet" in page
    assert f"{URL}new/" in page


def test_a_row_says_where_the_experiment_stands(researcher, project):
    one = lab.experiment(project, name="Warmer answers", rounds_wanted=3)
    lab.finished_round(one)
    lab.round_at(one, Stage.TRAIN)
    page = researcher.get(URL).content.decode()
    for words in ("Warmer answers", "dpo", "2 of 3", "67.2 %", "55.3 % – 77.0 %", "Train"):
        assert words in page, words


def test_an_annotator_may_not_and_a_stranger_finds_nothing(project, bob, charlie, client_for):
    assert client_for(bob).get(URL).status_code == 403
    assert client_for(charlie).get(URL).status_code == 404


def test_other_projects_experiments_are_not_listed(researcher, charlie):
    lab.experiment(charlie.projects.get(), name="Secret plan")
    assert "Secret plan" not in researcher.get(URL).content.decode()


def test_more_experiments_need_no_more_queries(researcher, project, django_assert_max_num_queries):
    for _ in range(3):
        lab.finished_round(lab.experiment(project), steps=1)
    with django_assert_max_num_queries(9):
        researcher.get(URL)


def test_a_long_list_has_pages(researcher, project):
    start, prompts = lab.policy(project), lab.prompt_set(project, train=1, heldout=1)
    for _ in range(27):
        lab.experiment(project, start=start, prompt_set=prompts)
    assert "Page 1 of 2" in researcher.get(URL).content.decode()
    assert "Experiment 0" in researcher.get(URL, {"page": 2}).content.decode()
