"""How a live comparison begins: with the next prompt of a set, or with what a person writes.

One at a time for each person and campaign: who left one finds it again as far as it was written.
Sides are shuffled for the screen, and which policy stands behind an alias is settled here, once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from align.jobs import Message
from plumbline.accounts.models import User
from plumbline.collect.live import settings
from plumbline.collect.live.form import split
from plumbline.collect.models import (
    Ballot,
    Campaign,
    Comparison,
    Enrolment,
    LiveAnswer,
    Prompt,
    PromptSet,
)
from plumbline.collect.prompts import digest
from plumbline.collect.queue import Refused, gate, history, seats, training
from plumbline.policies.models import Policy

LIVE = Comparison.Kind.LIVE
LONGEST_MESSAGE = 8000  # characters
MOST_TURNS = 40
MOST_BEGUN, BEGUN_IN = 20, timedelta(minutes=2)  # by one person in one campaign
_chance = random.SystemRandom()


def begin(user: User, campaign: Campaign) -> Ballot | None:
    """The live comparison that this person left, or one on the next prompt of the campaign's set;
    None where neither is. Raises Refused where it cannot begin now."""
    live = settings.of(campaign)
    if live is None or gate.why_not(user, campaign):
        return None
    with transaction.atomic():
        now = seats.lock_person(user)
        mine = history.live_claims(user, campaign).first() or _left(user, campaign, now)
        if mine is not None or live.prompts is None:
            return mine
        # One prompt is not given to two people, so they choose one after the other.
        Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
        left = list(_prompts(campaign, live.prompts).values_list("pk", flat=True))
        if not left:
            return None
        chosen = Prompt.objects.get(pk=_chance.choice(left))
        return _start(user, campaign, live, chosen, now)


def write(user: User, campaign: Campaign, words: str, after: Ballot | None = None) -> Ballot:
    """A live comparison on what the person wrote, after a conversation where `after` has one.

    Sent twice it begins once. Raises Refused with a sentence.
    """
    live = settings.of(campaign)
    if live is None or not live.writing:
        raise Refused("This campaign has prompts of its own.")
    if why := gate.why_not(user, campaign):
        raise Refused(why)
    asked: list[Message] = [*conversation(after), {"role": "user", "content": _message(words)}]
    if len(asked) > MOST_TURNS:
        raise Refused("This conversation is as long as it may be; start a new one.")
    with transaction.atomic():
        now = seats.lock_person(user)
        mine = history.live_claims(user, campaign).first() or _left(user, campaign, now)
        if mine is not None:
            if mine.comparison.prompt.messages == asked:
                return mine
            raise Refused("You have a comparison open; answer or skip it first.")
        prompt, _ = Prompt.objects.get_or_create(
            set=_own_set(campaign),
            digest=digest(asked),
            defaults={"messages": asked, "split": split(campaign.purpose)},
        )
        return _start(user, campaign, live, prompt, now)


def writes(user: User, campaign: Campaign) -> bool:
    """Whether this person may begin by writing now."""
    live = settings.of(campaign)
    return live is not None and live.writing and not gate.why_not(user, campaign)


def conversation(after: Ballot | None) -> list[Message]:
    """The prompt of a live vote and the answer it preferred; empty where it preferred none."""
    if after is None or after.comparison.kind != LIVE or after.outcome != Ballot.Outcome.RANKED:
        return []
    best = after.ranking[0]
    if len(best) != 1:
        return []
    text = after.comparison.slots.select_related("completion").get(slot=best[0]).completion.text
    return [*after.comparison.prompt.messages, {"role": "assistant", "content": text}]


def written(ballot: Ballot) -> bool:
    """Whether its prompt is one that people wrote in the campaign."""
    return ballot.comparison.prompt.set.name == _own_name(ballot.comparison.campaign)


def prompts_left(campaign: Campaign) -> int:
    """Prompts of the campaign's set that nobody has or had."""
    live = settings.of(campaign)
    return 0 if live is None or live.prompts is None else _prompts(campaign, live.prompts).count()


def _prompts(campaign: Campaign, source: int) -> QuerySet[Prompt]:
    """Asked about by nobody: one that somebody took and left without a word is free again."""
    held = Ballot.objects.filter(comparison=OuterRef("pk"), outcome="", expires_at__gt=Now())
    asked = Comparison.objects.filter(campaign=campaign, prompt=OuterRef("pk"))
    asked = asked.filter(Q(only_for=None) | Exists(held))
    fitting = Prompt.objects.filter(set=source, split=split(campaign.purpose))
    return fitting.filter(~Exists(asked))


def _left(user: User, campaign: Campaign, now: datetime) -> Ballot | None:
    """A new claim on a live comparison that the person began and said nothing of."""
    open_ones = Comparison.objects.filter(
        campaign=campaign, kind=LIVE, only_for=user, retired_at=None
    ).order_by("-pk")
    comparison = open_ones.select_for_update(of=("self",)).first()
    if comparison is None:
        return None
    comparison.campaign = campaign
    before = comparison.ballots.filter(annotator=user).order_by("-revision").first()
    assert before is not None, "a live comparison begins with its person's ballot"
    seat = seats.free_seat(comparison)
    return history.open_claim(user, comparison, seat, now, after=before)


def _start(
    user: User, campaign: Campaign, live: settings.Live, prompt: Prompt, now: datetime
) -> Ballot:
    begun = Ballot.objects.filter(
        annotator=user,
        comparison__campaign=campaign,
        comparison__kind=LIVE,
        claimed_at__gt=now - BEGUN_IN,
    )
    if begun.count() >= MOST_BEGUN:
        raise Refused("That was a lot at once. Wait a minute, then go on.")
    theirs = gate.join(user, campaign)
    if theirs.trained_at is None and training.of_campaign(campaign).exists():
        raise Refused("The training comes first; begin it on the campaign’s page.")
    comparison = Comparison.objects.create(
        campaign=campaign, prompt=prompt, kind=LIVE, strategy="live", only_for=user
    )
    sampling = {"temperature": live.temperature, "max_tokens": live.max_tokens}
    LiveAnswer.objects.bulk_create(
        LiveAnswer(comparison=comparison, slot=slot, policy=policy, sampling=sampling)
        for slot, policy in enumerate(_policies(campaign, live))
    )
    sides = [0, 1]
    _chance.shuffle(sides)
    ballot = history.open_claim(user, comparison, 0, now, order=sides)
    if theirs.votes is None:
        history.count_votes(Enrolment.objects.filter(pk=theirs.pk))
    return ballot


def _policies(campaign: Campaign, live: settings.Live) -> Sequence[Policy]:
    found = [settings.resolve(campaign.project, side) for side in (live.first, live.second)]
    if None in found:
        raise Refused("The model behind this campaign is not served at the moment.")
    return [policy for policy in found if policy is not None]


def _message(words: str) -> str:
    words = words.replace("\r\n", "\n").replace("\0", "").strip()
    if not words:
        raise Refused("Write something first.")
    if len(words) > LONGEST_MESSAGE:
        raise Refused(f"That is too long: {LONGEST_MESSAGE} characters at most.")
    return words


def _own_set(campaign: Campaign) -> PromptSet:
    return PromptSet.objects.get_or_create(
        project=campaign.project,
        name=_own_name(campaign),
        defaults={"source": f"people, in {campaign.name}"},
    )[0]


def _own_name(campaign: Campaign) -> str:
    return f"Written in campaign {campaign.pk}"
