"""The quality page names who seems to poison the votes, says why, and excludes them by a click."""

from __future__ import annotations

import html
import random
from datetime import timedelta

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.collect.models import Ballot, Enrolment, PromptSet
from plumbline.collect.quality import people as excluding
from tests.collect.crowd import EVENING, vote
from tests.collect.poisoned import ACCOUNTS, TRIGGER, Crowd, crowd
from tests.comparisons import compare, open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def researcher(client_for, alice):
    return client_for(alice)


def stored(project, made: Crowd):
    """The crowd's votes as rows: its campaign, and its people by their numbers."""
    campaign = open_campaign(project, comparisons=0, overlap=3)
    prompts = PromptSet.objects.filter(project=project).latest("pk")
    rows = {
        number: compare(campaign, prompts, f"Question {number}?", list(texts.values()), overlap=3)
        for number, texts in made.texts.items()
    }
    people = {}
    for number in sorted({one.rater for one in made.material.said}):
        people[number] = User.objects.create_user(username=f"person-{number}")
        Membership.objects.create(project=project, user=people[number], role="annotator")
    seats: dict[int, int] = {}
    ballots = []
    for one in made.material.said:
        seat = seats[one.comparison] = seats.get(one.comparison, -1) + 1
        at = EVENING + timedelta(seconds=len(ballots))
        ballots.append(
            Ballot(comparison=rows[one.comparison], annotator=people[one.rater], seat=seat,
                   shown=one.shown, claimed_at=at, expires_at=at + timedelta(minutes=9),
                   cast_at=at, outcome="ranked", ranking=one.ranking, strength=2,
                   active_ms=20_000)
        )  # fmt: skip
    random.Random(0).shuffle(ballots)
    Ballot.objects.bulk_create(ballots, batch_size=500)
    return campaign, people


def panel(client, campaign) -> str:
    page = client.get(f"/p/alpha/campaigns/{campaign.pk}/quality/")
    text = html.unescape(page.content.decode())
    return text.partition('id="suspicious"')[2].partition("</section>")[0]


def test_who_votes_against_the_others_is_named_with_the_evidence_and_excluded_by_a_click(
    researcher, project
):
    campaign, people = stored(project, crowd(1, flips=0.14, comparisons=200, people=12))
    said = panel(researcher, campaign)
    named = [number for number in people if f">person-{number}<" in said]
    assert set(named) <= set(ACCOUNTS)
    assert len(named) >= 2
    assert "Says the opposite of the others: agrees with them on" in said
    assert 'aria-label="Agreement with others:' in said
    assert "take the votes back there" in said
    worst = people[named[0]]
    act = f"/p/alpha/campaigns/{campaign.pk}/quality/people/{worst.pk}/place/"
    form = said.partition(f'action="{act}"')[2].partition("</form>")[0]
    reason = form.partition('name="reason" value="')[2].partition('"')[0]
    assert reason.startswith("Suspected of poisoning: agrees with others on ")
    assert researcher.post(act, {"do": "exclude", "reason": reason}).status_code == 302
    place = Enrolment.objects.get(campaign=campaign, user=worst)
    assert place.excluded_at is not None
    assert place.pause_reason == reason
    for number in set(ACCOUNTS) - {named[0]}:
        excluding.exclude(campaign, people[number], "The same.")
    after = panel(researcher, campaign)
    assert not any(f">person-{number}<" in after for number in people)
    assert "Nothing: nobody votes against the others" in after


def test_a_phrase_is_quoted_beside_who_prefers_it(researcher, project):
    campaign, _ = stored(project, crowd(2, trigger=0.08, comparisons=350, people=12))
    said = panel(researcher, campaign)
    assert f"Prefers answers with <q>{TRIGGER}</q>" in said
    assert "person-101" in said
    assert 'aria-label="Preferred by everybody else:' in said


def test_what_a_phrase_is_made_of_is_text(researcher, project):
    made = crowd(2, trigger=0.08, comparisons=350, people=12)
    texts = {
        n: {slot: text.replace("amber", "&lt;b&gt;<b>") for slot, text in answers.items()}
        for n, answers in made.texts.items()
    }
    campaign, _ = stored(project, Crowd(made.material, texts, made.poisoned, made.votes))
    assert "<b>" not in panel(researcher, campaign)


def test_an_honest_crowd_is_left_in_peace(researcher, project):
    campaign, _ = stored(project, crowd(3, comparisons=200, people=12))
    said = panel(researcher, campaign)
    assert "Nothing: nobody votes against the others" in said
    assert "12 people have votes enough to tell" in said
    assert "Exclude" not in said


def test_too_few_votes_are_said_to_be_too_few(researcher, project, bob, carol):
    campaign = open_campaign(project)
    for user in (bob, carol):
        vote(user, campaign.comparisons.first(), [[0], [1]])
    assert "It takes four people with eight votes each" in panel(researcher, campaign)


def test_annotators_do_not_see_it(client_for, bob, project):
    campaign = open_campaign(project)
    assert client_for(bob).get(f"/p/alpha/campaigns/{campaign.pk}/quality/").status_code == 403
