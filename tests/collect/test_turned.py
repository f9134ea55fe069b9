"""A person's quality page says how many of their votes training turned around, and the cap."""

from __future__ import annotations

from html import unescape

import pytest
from django.urls import reverse

from plumbline.collect.models import Enrolment
from plumbline.collect.quality import turned
from plumbline.policies.models import RewardModel
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


def test_turned_votes_are_told_with_their_cap(project, alice, bob, client_for):
    campaign = open_campaign(project)
    Enrolment.objects.create(campaign=campaign, user=bob)
    address = reverse("quality-person", args=("alpha", campaign.pk, bob.pk))
    assert "Turned around for training" not in client_for(alice).get(address).content.decode()
    labels = {
        "turned_by_rater": {str(bob.pk): 10, str(alice.pk): 1},
        "asked_by_rater": {str(bob.pk): 40, str(alice.pk): 30},
        "cap": 0.25,
    }
    RewardModel.objects.create(
        project=project, name="alpha-r1-reward", objective="bradley_terry", path="/r",
        sha256="ab", ballots_used=9, metrics={"labels": labels},
    )  # fmt: skip
    (found,) = turned.of(project, bob)
    assert (found.turned, found.votes, found.share, found.capped) == (10, 40, 0.25, True)
    assert not turned.of(project, alice)[0].capped
    page = unescape(client_for(alice).get(address).content.decode())
    assert "Turned around for training" in page
    assert "cap met" in page
    assert "25.0 %" in page
