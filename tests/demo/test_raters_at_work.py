"""Simulated raters vote as people do: by claiming and casting, one ballot each."""

from __future__ import annotations

import pytest

from align.demo import raters
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison, Completion
from plumbline.demo import seed
from plumbline.demo.raters import vote_once


@pytest.fixture
def campaign(db) -> Campaign:
    demo = seed.project()
    questions = seed.prompt_set(demo)
    campaign = Campaign.objects.create(project=demo, name="Test", overlap=len(raters.PANEL))
    for prompt in questions.prompts.order_by("pk")[:4]:
        comparison = Comparison.objects.create(campaign=campaign, prompt=prompt)
        for slot, text in enumerate(("I do not know.", "Thank you, good question!")):
            answer = Completion.objects.create(prompt=prompt, text=text, draw=slot)
            Candidate.objects.create(comparison=comparison, completion=answer, slot=slot)
    return campaign


def votes(campaign: Campaign) -> dict[tuple[int, str], list[list[int]]]:
    ballots = Ballot.objects.filter(comparison__campaign=campaign).exclude(outcome="")
    return {(b.comparison_id, b.annotator.username): b.ranking for b in ballots}


def test_they_vote_until_every_comparison_has_its_overlap(campaign) -> None:
    while vote_once():
        pass
    assert queue.complete(campaign)
    assert len(votes(campaign)) == 4 * len(raters.PANEL)


def test_they_leave_a_closed_campaign_alone(campaign) -> None:
    from django.utils import timezone

    Campaign.objects.filter(pk=campaign.pk).update(closed_at=timezone.now())
    assert vote_once() == 0


def test_the_same_comparison_gets_the_same_vote_however_it_was_shown(campaign) -> None:
    while vote_once():
        pass
    first = votes(campaign)
    Ballot.objects.all().delete()
    Comparison.objects.update(full=False)  # nobody but a test takes ballots away
    while vote_once():
        pass
    assert votes(campaign) == first
