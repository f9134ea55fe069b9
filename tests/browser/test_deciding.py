"""The pages to decide on: nothing serious for axe-core, and nothing wider than the screen."""

from __future__ import annotations

import pytest

from plumbline.loop import decisions, rebuilding, retractions, rows
from plumbline.policies.models import Deployment, Flip, Guard, Look, Policy
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def laboratory(project, bob, carol, alice):
    """Three rounds, the second served and the third its canary and held; a retracted person, a
    rebuild, a guard that has looked."""
    base = lab.policy(project)
    experiment, made = lab.experiment(project, name="Warmer answers", start=base), []
    for number in range(3):
        before = made[-1].policy_out if made else base
        round = lab.finished_round(experiment, steps=1, policy_in=before)
        state = "candidate" if number == 2 else "promoted"
        Policy.objects.filter(pk=round.policy_out.pk).update(parent=before, state=state)
        campaign = open_campaign(project, comparisons=2, overlap=2)
        for comparison in campaign.comparisons.all():
            round.ballots.add(*(crowd.vote(who, comparison, [[0], [1]]) for who in (bob, carol)))
        round.ballots_sha256 = rows.ballots_digest(round.ballots.all())
        round.save()
        round.policy_out.refresh_from_db()
        made.append(round)
    first, second, third = made
    alias = Deployment.objects.create(
        project=project, policy=second.policy_out, previous=first.policy_out,
        canary=third.policy_out, canary_share=0.1,
    )  # fmt: skip
    flip = Flip.objects.create(
        deployment=alias, before=first.policy_out, after=second.policy_out, actor=alice,
        reason="Better on held-out prompts.", evidence={"gate": {"passed": True}},
    )  # fmt: skip
    retractions.retract_person(project, carol, actor=alice, reason="Turned out to be a script.")
    rebuilding.begin(experiment, actor=alice, reason="Without carol.")
    retractions.retract_vote(first.ballots.first(), actor=alice, reason="Said at random.")
    decisions.hold(third.policy_out, actor=alice, reason="I look at the canary first.")
    guard = Guard.objects.create(deployment=alias, metric="errors", created_by=alice)
    seen = {"figure": 0.2, "previous_figure": 0.01, "requests": 100, "previous_requests": 400}
    Look.objects.create(
        guard=guard, flip=flip, number=1, seen=100, p_value=1e-6, level=5e-3, alarm=True,
        evidence=seen,
    )  # fmt: skip
    return made


def test_axe_finds_nothing_serious_where_people_decide(site, browse, alice, laboratory, faults):
    first, second, third = laboratory
    pages = (
        *(f"/p/alpha/lab/policies/{one.policy_out.pk}/" for one in (second, third)),
        f"/p/alpha/lab/policies/{third.policy_out.pk}/votes/",
        "/p/alpha/lab/policies/lineage/",
        f"/p/alpha/lab/votes/{first.ballots.first().pk}/",
        "/p/alpha/lab/retractions/",
        f"/p/alpha/lab/retractions/?vote={second.ballots.first().pk}",
        "/p/alpha/routing/current/guards/",
        f"/p/alpha/lab/experiments/{first.experiment_id}/rounds/1/",
    )
    for width, dark in ((1280, False), (390, True)):
        page = browse(alice, width=width, dark=dark)
        for address in pages:
            assert page.goto(address).status == 200, address
            assert faults(page) == [], (address, width, dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        page.context.close()


def test_a_candidate_is_held_with_the_keyboard_alone(site, browse, alice, laboratory):
    _, _, third = laboratory
    page = browse(alice)
    page.goto(f"/p/alpha/lab/policies/{third.policy_out.pk}/")
    page.get_by_label("Reason").focus()
    page.keyboard.type("The canary did well.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=goes on by its gate")
    assert not decisions.held(third.policy_out)
