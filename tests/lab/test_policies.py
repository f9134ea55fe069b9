"""Policies: lineage, aliases, and what promoting without an engine says."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.policies.models import Deployment, Flip, Policy
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
URL = "/p/alpha/lab/policies/"


@pytest.fixture
def engine_away(settings) -> None:
    """No engine listens where the settings say it does."""
    settings.ENGINE_URL = "http://127.0.0.1:9"


def text(response) -> str:
    return unescape(response.content.decode())


def test_a_project_without_policies_is_told_where_they_come_from(researcher):
    page = text(researcher.get(URL))
    assert "Nothing is served yet" in page
    assert "The base model appears with the first experiment" in page


def test_children_follow_their_parent(researcher, project):
    base = lab.policy(project)
    first = lab.policy(project, "first", parent=base)
    lab.policy(project, "second", parent=base)
    lab.policy(project, "first-of-first", parent=first)
    page = text(researcher.get(URL))
    found = [
        page.index(f">{name}<") for name in ("alpha-base", "first", "first-of-first", "second")
    ]
    assert found == sorted(found)
    assert "lineage depth-2" in page


def test_a_policy_is_shown_with_its_maker_and_its_figures(researcher, project):
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"))
    page = text(researcher.get(URL))
    for words in (
        made.policy_out.name,
        "Warmer answers, round 1",
        "67.2 %",
        "7.43",
        "abababababab…",
    ):
        assert words in page, words


def test_every_move_of_an_alias_is_listed(researcher, project, alice):
    base = lab.policy(project)
    better = lab.policy(project, "better", parent=base)
    current = Deployment.objects.create(project=project, policy=better, previous=base)
    Flip.objects.create(
        deployment=current, before=base, after=better, actor=alice, reason="Warmer",
        evidence={"gate": "passed"},
    )  # fmt: skip
    page = text(researcher.get(URL))
    for words in ("Warmer", '"gate": "passed"', "Roll current back?"):
        assert words in page, words


def test_promoting_asks_with_what_is_served_now_in_view(researcher, project):
    made = lab.finished_round(lab.experiment(project))
    assert "<dt>Serves now</dt><dd>nothing yet</dd>" in text(researcher.get(URL))
    Deployment.objects.create(project=project, policy=made.policy_in)
    page = text(researcher.get(URL))
    assert "<dt>Serves now</dt><dd>alpha-base</dd>" in page
    assert "<dt>Win rate against alpha-base</dt>" in page


def test_promoting_needs_a_reason(researcher, project):
    better = lab.policy(project, "better", parent=lab.policy(project))
    response = researcher.post(f"{URL}{better.pk}/promote/", {"reason": " "}, follow=True)
    assert "Say why it is promoted" in text(response)


def test_promoting_without_an_engine_changes_nothing_and_says_so(researcher, project, engine_away):
    better = lab.policy(project, "better", parent=lab.policy(project))
    response = researcher.post(f"{URL}{better.pk}/promote/", {"reason": "Better"}, follow=True)
    assert "Not promoted: " in text(response)
    assert not Deployment.objects.exists()
    assert Policy.objects.get(name="better").state == "candidate"


def test_rolling_back_without_an_engine_changes_nothing_and_says_so(
    researcher, project, engine_away
):
    base = lab.policy(project)
    better = lab.policy(project, "better", parent=base)
    Deployment.objects.create(project=project, policy=better, previous=base)
    response = researcher.post(f"{URL}roll-back/", {"reason": "Worse"}, follow=True)
    assert "Not rolled back: " in text(response)
    assert Deployment.objects.get().policy == better


def test_with_nothing_before_there_is_nothing_to_roll_back_to(researcher, project):
    Deployment.objects.create(project=project, policy=lab.policy(project))
    response = researcher.post(f"{URL}roll-back/", {"reason": "Worse"}, follow=True)
    assert "current has no previous policy to roll back to." in text(response)


def test_a_candidate_can_be_rejected_once(researcher, project, engine_away):
    better = lab.policy(project, "better", parent=lab.policy(project))
    first = researcher.post(f"{URL}{better.pk}/reject/", {"reason": "No."}, follow=True)
    again = researcher.post(f"{URL}{better.pk}/reject/", {"reason": "No."}, follow=True)
    assert "better is rejected." in text(first)
    assert "The engine may still hold it: the engine at" in text(first)
    assert "better is no longer a candidate." in text(again)
    assert Policy.objects.get(name="better").state == "rejected"


def test_the_base_model_cannot_be_rejected(researcher, project):
    base = lab.policy(project)
    researcher.post(f"{URL}{base.pk}/reject/", {"reason": "No."})
    assert Policy.objects.get().state == "candidate"


def test_a_button_leads_back_to_its_page_but_never_off_the_site(researcher, project, engine_away):
    better = lab.policy(project, "better", parent=lab.policy(project))
    reject = f"{URL}{better.pk}/reject/"
    assert researcher.post(reject, {"next": "/p/alpha/"})["Location"] == "/p/alpha/"
    assert researcher.post(reject, {"next": "https://evil.example/"})["Location"] == URL
    assert researcher.post(reject, {"next": "//evil.example/"})["Location"] == URL


def test_another_projects_policy_is_not_found(researcher, charlie):
    theirs = lab.policy(charlie.projects.get())
    for button in ("promote", "reject"):
        assert researcher.post(f"{URL}{theirs.pk}/{button}/", {"reason": "x"}).status_code == 404
    assert theirs.name not in text(researcher.get(URL))


def test_an_annotator_may_not_promote(bob, project, client_for):
    better = lab.policy(project, "better", parent=lab.policy(project))
    assert client_for(bob).get(URL).status_code == 403
    assert client_for(bob).post(f"{URL}{better.pk}/promote/").status_code == 403


def test_more_policies_need_no_more_queries(researcher, project, django_assert_max_num_queries):
    one = lab.experiment(project)
    for _ in range(4):
        lab.finished_round(one, steps=1)
    with django_assert_max_num_queries(8):
        researcher.get(URL)
