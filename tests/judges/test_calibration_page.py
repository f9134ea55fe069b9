"""The page of a judge against people: empty, asked, measured, and what it may not do."""

from __future__ import annotations

import pytest
from django.urls import reverse

from plumbline.judges.models import Calibration
from plumbline.loop import calibrating
from tests.judges import planted

pytestmark = pytest.mark.django_db


@pytest.fixture
def researcher(alice, project, client_for):
    return client_for(alice)


def url(project, version, name: str = "judge-calibration") -> str:
    return reverse(name, args=[project.slug, version.judge_id])


def test_a_project_without_votes_says_what_is_missing(researcher, project) -> None:
    version = planted.judge(project)
    page = researcher.get(url(project, version)).content.decode()
    assert "Nobody has voted in this project yet" in page
    again = researcher.post(url(project, version, "judge-calibrate"), {"most": 100}, follow=True)
    assert "nothing to compare the judge with" in again.content.decode()
    assert not Calibration.objects.exists()


def test_the_button_measures_and_the_page_tells(researcher, project) -> None:
    made = planted.ground(project, 120, planted.people(2))
    version = planted.judge(project)
    planted.says(version, made, sharp=2.0, length=0.5, position=0.4, noise=0.5)
    asked = researcher.post(url(project, version, "judge-calibrate"), {"most": 1000}, follow=True)
    page = asked.content.decode()
    assert "is measured on 120 voted pairs" in page
    for words in ("Does it say what people say?", "A person, with the others", "Sharpness a",
                  "Does the place matter?", "Lengths: far longer", "<polyline"):  # fmt: skip
        assert words in page
    assert "Question" in page.partition("Where it and people differ")[2]
    row = Calibration.objects.get()
    assert row.created_by is not None
    listed = researcher.get(reverse("judges", args=[project.slug])).content.decode()
    assert url(project, version) in listed
    assert f"{row.figures['agreement']['judge']['value']:.1%}"[:2] in listed
    csv = researcher.get(url(project, version, "judge-curve")).content.decode().splitlines()
    assert csv[0] == "curve,sure,right,votes"
    assert {line.partition(",")[0] for line in csv[1:]} == {"raw", "calibrated"}


def test_a_new_version_voids_the_old_ones_figures(researcher, project) -> None:
    made = planted.ground(project, 120, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made)
    calibrating.calibrate(version)
    planted.judge(project, number=2)
    page = researcher.get(url(project, version)).content.decode()
    assert "It has not been asked" in page
    old = researcher.get(url(project, version) + "?version=1").content.decode()
    assert "Version 2 is current" in old
    assert "Does it say what people say?" in old
    assert researcher.get(url(project, version) + "?version=7").status_code == 404


def test_too_few_votes_are_told_in_a_sentence(researcher, project) -> None:
    made = planted.ground(project, 8, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made)
    asked = researcher.post(url(project, version, "judge-calibrate"), {"most": 100}, follow=True)
    assert "Too few votes" in asked.content.decode()
    wrong = researcher.post(url(project, version, "judge-calibrate"), {"most": 0}, follow=True)
    assert "must be between 1 and" in wrong.content.decode()


def test_annotators_and_strangers_see_nothing(project, client_for, django_user_model) -> None:
    version = planted.judge(project)
    stranger = django_user_model.objects.create_user(username="stranger")
    assert client_for(stranger).get(url(project, version)).status_code == 404
