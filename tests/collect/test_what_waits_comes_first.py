"""What is still open stands before what is over, on either database: they sort nothings apart."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.collect import enrolment, queue
from plumbline.collect.models import Flag
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


def in_order(client, path: str, *words: str) -> bool:
    response = client.get(path)
    page = response.content.decode()
    page = page[page.index('id="main"') :]
    places = [re.search(rf">\s*{re.escape(word)}\s*<", page) for word in words]
    assert all(places), words
    return [one.start() for one in places if one] == sorted(one.start() for one in places if one)


def test_open_campaigns_and_then_those_that_closed_last(project, alice, client_for):
    opened, first, last = (open_campaign(project, comparisons=0) for _ in range(3))
    for one in (first, last):
        one.closed_at = timezone.now()
        one.save()
    names = (opened.name, last.name, first.name)
    assert in_order(client_for(alice), "/p/alpha/campaigns/", *names)
    assert in_order(client_for(alice), "/p/alpha/", *names)


def test_open_flags(project, alice, bob, client_for):
    campaign = open_campaign(project, comparisons=2)
    for words in ("raised first", "raised last"):
        queue.flag(queue.claim_next(bob, campaign), "broken", words, uuid4())
    assert queue.resolve(Flag.objects.get(words="raised last"), alice, "Fine.", retire=False)
    page = client_for(alice).get(f"/p/alpha/campaigns/{campaign.pk}/flags/").content.decode()
    assert page.index("raised first") < page.index("raised last")


def test_people_who_are_there(project, alice, bob, carol, client_for):
    campaign = open_campaign(project)
    for person in (bob, carol):
        queue.claim_next(person, campaign)
    enrolment.leave(campaign, bob)
    path = f"/p/alpha/campaigns/{campaign.pk}/people/"
    assert in_order(client_for(alice), path, "carol", "bob")
