"""A policy's own page, its votes, its place in the family tree; what is decided about it."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.loop import advance, decisions, retractions
from plumbline.loop.models import Decision, Stage
from plumbline.policies.models import Deployment, Flip, Policy
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
LAB = "/p/alpha/lab/"
FIRST = [[0], [1]]


def text(response) -> str:
    assert response.status_code == 200, response.status_code
    return unescape(response.content.decode())


def page_of(policy: Policy) -> str:
    return f"{LAB}policies/{policy.pk}/"


@pytest.fixture
def served(project, bob, carol):
    """A round whose policy is current, with four votes, and one after it that waits."""
    experiment = lab.experiment(project, name="Warmer", autopilot=True)
    first = lab.finished_round(experiment, steps=1)
    campaign = open_campaign(project, comparisons=2, overlap=2)
    for comparison in campaign.comparisons.all():
        first.ballots.add(*(crowd.vote(who, comparison, FIRST) for who in (bob, carol)))
    Policy.objects.filter(pk=first.policy_out.pk).update(state="promoted")
    Deployment.objects.create(project=project, policy=first.policy_out, previous=experiment.start)
    other = lab.experiment(project, name="Shorter", start=experiment.start, knobs={"beta": 0.3})
    second = lab.finished_round(other, steps=1, policy_in=first.policy_out)
    second.ballots.add(crowd.vote(bob, open_campaign(project).comparisons.first(), FIRST))
    second.stage = Stage.PROMOTE
    second.save()
    return first, second


def test_the_page_says_what_promoting_would_change(researcher, served):
    first, second = served
    Deployment.objects.update(canary=second.policy_out, canary_share=0.1)
    page = text(researcher.get(page_of(second.policy_out)))
    for words in (
        "What promoting would change",
        "1 vote of 1 round: ",
        "0 votes of 0 rounds",
        "answers 10.0 % of the requests to current",
        "knobs: beta",
        "67.2 %",
        "Win rate against current 67.2%",
        "5 votes",
        "Promote to current",
        "Hold",
        "Reject",
    ):
        assert words in page, words
    assert "<td>0.1</td><td>0.3</td>" in page


def test_the_page_of_what_is_served_says_what_rolling_back_would_change(researcher, served):
    first, _ = served
    page = text(researcher.get(page_of(first.policy_out)))
    for words in (
        "What rolling back would change",
        "alpha-base",
        "Roll back",
        "4 votes of 1 round",
    ):
        assert words in page, words
    assert "Promote to current" not in page


def test_a_base_has_a_page_too(researcher, project):
    page = text(researcher.get(page_of(lab.policy(project))))
    assert "Nothing is served yet" in page
    assert "Nothing was decided yet" in page


def test_another_projects_policy_is_not_found(researcher, charlie):
    from plumbline.accounts.models import Project

    foreign = lab.policy(Project.objects.get(slug="beta"))
    for path in ("", "votes/"):
        assert researcher.get(page_of(foreign) + path).status_code == 404


def test_a_held_candidate_is_not_promoted_by_the_autopilot(researcher, served, monkeypatch):
    _, second = served
    second.experiment.autopilot = True
    second.experiment.save()
    promoted = []
    monkeypatch.setattr(advance.serving, "promote", lambda *args, **how: promoted.append(args))
    hold = page_of(second.policy_out) + "hold/"
    said = text(researcher.post(hold, {"do": "hold", "reason": "I look first."}, follow=True))
    assert "is held until somebody decides" in said
    assert advance.promote(second) is None
    assert promoted == []
    again = text(researcher.post(hold, {"do": "hold", "reason": "Again."}, follow=True))
    assert "held already" in again
    text(researcher.post(hold, {"do": "resume", "reason": "It is fine."}, follow=True))
    assert advance.promote(second) == Stage.DONE
    assert len(promoted) == 1


def test_every_decision_is_kept_with_who_when_why_and_what_was_known(
    researcher, served, alice, project
):
    first, second = served
    made = second.policy_out
    assert "Say why" in text(researcher.post(page_of(made) + "hold/", {"do": "hold"}, follow=True))
    researcher.post(page_of(made) + "hold/", {"do": "hold", "reason": "I look first."})
    assert "Say why" in text(researcher.post(page_of(made) + "reject/", follow=True))
    researcher.post(page_of(made) + "reject/", {"reason": "It rambles."})
    kept = Decision.objects.get(what="reject")
    assert (kept.actor, kept.reason) == (alice, "It rambles.")
    assert kept.evidence["gate"]["passed"]
    assert kept.evidence["win_rates"]["current"]["rate"] == 0.672
    alias = Deployment.objects.get()
    for before, after, evidence in (
        (first.policy_in, first.policy_out, {}),
        (first.policy_out, first.policy_in, {"rolled_back": first.policy_out.name}),
    ):
        Flip.objects.create(
            deployment=alias, before=before, after=after, actor=alice, reason="So.",
            evidence=evidence,
        )  # fmt: skip
    for address in (page_of(made), f"{LAB}experiments/{second.experiment_id}/rounds/1/"):
        page = text(researcher.get(address))
        for words in ("I look first.", "It rambles.", "Rejected", "Held", "by alice"):
            assert words in page, words
    words = [line.words for line in decisions.history([first.policy_out])]
    assert words == ["Rolled back from, as current", "Promoted to current"]


def test_what_the_gate_turns_down_is_a_decision_of_nobody(served):
    _, second = served
    assert decisions.reject(second.policy_out, actor=None, reason="The gate did not pass.")
    (line,) = decisions.history([second.policy_out])
    assert (line.actor, line.reason) == ("automatic", "The gate did not pass.")
    assert not decisions.reject(second.policy_out, actor=None, reason="Again.")


def test_a_policy_leads_to_its_votes_and_a_vote_to_its_policies(researcher, served, bob):
    first, second = served
    votes = text(researcher.get(page_of(second.policy_out) + "votes/"))
    assert "5 votes of 2 people" in votes
    assert votes.count("Where it went") >= 5
    one = text(researcher.get(f"{page_of(second.policy_out)}votes/?round={first.pk}"))
    assert "4 votes of 2 people" in one
    ballot = first.ballots.first()
    where = text(researcher.get(f"{LAB}votes/{ballot.pk}/"))
    assert where.index(first.policy_out.name) < where.index(second.policy_out.name)
    assert "which trained on it" in where
    assert "which builds on one that did" in where
    comparison = ballot.comparison
    listed = f"/p/alpha/campaigns/{comparison.campaign_id}/comparisons/{comparison.pk}/"
    assert f"{LAB}votes/{ballot.pk}/" in text(researcher.get(listed))


def test_a_person_is_told_which_models_their_votes_are_in_and_of_no_single_vote(
    client_for, served, bob
):
    first, second = served
    page = text(client_for(bob).get(f"{LAB}my-work/"))
    assert f"In 2 models: {first.policy_out.name}, {second.policy_out.name}." in page
    mine = first.ballots.filter(annotator=bob).first()
    assert client_for(bob).get(f"{LAB}votes/{mine.pk}/").status_code == 403, "it tells hidden tests"


def test_votes_are_listed_a_page_at_a_time(researcher, project, bob):
    made = lab.finished_round(lab.experiment(project), steps=1)
    campaign = open_campaign(project, comparisons=60)
    made.ballots.set([crowd.vote(bob, one, FIRST) for one in campaign.comparisons.all()])
    address = page_of(made.policy_out) + "votes/"
    assert "Page 1 of 2" in text(researcher.get(address))
    assert text(researcher.get(address + "?page=2")).count("the vote of bob") == 10


def test_the_tree_runs_from_the_base_to_what_is_served(researcher, served, alice):
    first, second = served
    retractions.retract_vote(first.ballots.first(), actor=alice, reason="A slip.")
    page = text(researcher.get(LAB + "policies/lineage/"))
    assert page.count('"><title>') == 3
    assert page.count('class="main"') == 1, "from the current policy to the base"
    assert page.count(">tainted<") == 2
    for words in ("Warmer, round 1", "4 votes", "Base model", second.policy_out.name):
        assert words in page, words


def test_a_long_tree_is_shown_a_page_at_a_time(researcher, project, django_assert_max_num_queries):
    at = lab.policy(project)
    experiment = lab.experiment(project, start=at)
    for number in range(1, 301):
        made = lab.policy(project, f"p{number}", parent=at)
        experiment.rounds.create(number=number, stage="done", policy_in=at, policy_out=made)
        at = made
    Deployment.objects.create(project=project, policy=at)
    with django_assert_max_num_queries(20):
        page = text(researcher.get(LAB + "policies/lineage/"))
    assert page.count('"><title>') == 40
    assert "Page 1 of 8" in page
    assert text(researcher.get(LAB + "policies/lineage/?page=8")).count('"><title>') == 21
