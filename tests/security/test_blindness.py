"""A ballot tells nothing of who wrote its answers, to a person or to a program that reads it."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from plumbline.collect.models import Ballot, Completion
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def blind(project, bob, client_for):
    """Ballots of bob's on pairs in which slot 0 is always the candidate's answer."""
    base = lab.policy(project)
    other = lab.policy(project, "alpha-candidate", parent=base)
    campaign = open_campaign(project, comparisons=24, quality={"repeat_share": 0.0})
    for comparison in campaign.comparisons.all():
        for slot, policy in zip(comparison.slots.all(), (other, base), strict=True):
            Completion.objects.filter(pk=slot.completion_id).update(
                policy=policy, text=f"An answer of number {comparison.pk * 7 + slot.slot}."
            )
    browser = client_for(bob)
    pages = []
    for _ in range(24):
        answer = browser.post(f"/p/alpha/campaigns/{campaign.pk}/claim/", follow=True)
        pages.append(answer)
        ballot = Ballot.objects.get(annotator=bob, outcome="")
        vote = {"choice": "A2", "key": str(uuid4())}
        assert browser.post(f"/p/alpha/ballots/{ballot.pk}/", vote).status_code == 303
    return base, other, pages


def test_a_ballot_names_nobody_who_wrote(blind, project):
    """No name, id, digest or token count of a policy or a completion, in page or headers."""
    base, other, pages = blind
    ids = [str(pk) for pk in Completion.objects.values_list("pk", flat=True)]
    words = [base.name, other.name, str(base.pk), str(other.pk), "candidate", *ids]
    words += [one.replace("-", "") for one in words]
    assert len(pages) == 24
    assert len({response.request["PATH_INFO"] for response in pages}) == 24
    for response in pages:
        assert response.status_code == 200
        said = response.content.decode() + str(dict(response.headers))
        assert "An answer of number" in said
        for word in words:
            assert word not in said, word


def test_sides_and_their_markup_do_not_depend_on_who_wrote(blind):
    """Whatever stands around the two answers is the same, and their order is by chance."""
    first = []
    for response in blind[2]:
        page = response.content.decode()
        numbers = [int(one) for one in re.findall(r"An answer of number (\d+)\.", page)]
        first.append(numbers[0] < numbers[-1])  # the candidate's has the smaller number
    assert 2 <= sum(first) <= 22, "of 24, by chance"
