"""Whether a person may answer in a campaign now, and the sentence that says why not."""

from __future__ import annotations

from django.db.models.functions import Now
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Campaign, Enrolment
from plumbline.collect.queue import caps, training


def place(user: User, campaign: Campaign) -> Enrolment | None:
    """The person's place in the campaign, if they have one yet."""
    return Enrolment.objects.filter(campaign=campaign, user=user).first()


def join(user: User, campaign: Campaign) -> Enrolment:
    """The person's place in the campaign, made where there is none, and dated as their votes are:
    by the database's clock."""
    theirs, made = Enrolment.objects.get_or_create(campaign=campaign, user=user)
    if made:
        Enrolment.objects.filter(pk=theirs.pk).update(joined_at=Now())
    return theirs


def why_not(user: User, campaign: Campaign) -> str:
    """Why this person may not answer in this campaign now, in a sentence; "" if they may."""
    return why_not_revise(user, campaign) or caps.reached(user, campaign)


def why_not_revise(user: User, campaign: Campaign) -> str:
    """The same for a vote of their own that they give anew: no cap holds them back from that."""
    theirs = place(user, campaign)
    return shut(campaign) or turned_away(campaign, theirs) or untrained(user, campaign, theirs)


def shut(campaign: Campaign) -> str:
    """Why the campaign takes no answers from anybody."""
    if campaign.closed_at is not None:
        return "This campaign is closed."
    if campaign.deadline is not None and campaign.deadline <= timezone.now():
        return "This campaign's deadline has passed."
    if campaign.paused_at is not None:
        return "This campaign is paused for now."
    return ""


def turned_away(campaign: Campaign, theirs: Enrolment | None) -> str:
    """Why the campaign takes no answers from this person."""
    if theirs is None:
        return "This campaign is for people who were invited." if campaign.invited_only else ""
    if theirs.excluded_at is not None:
        return "A researcher has ended your part in this campaign."
    if theirs.paused_at is not None:
        return "You are paused in this campaign; a researcher will look at it."
    if theirs.left_at is not None:
        return "You have left this campaign."
    return ""


def untrained(user: User, campaign: Campaign, theirs: Enrolment | None) -> str:
    """Why the training keeps a person out: they have answered all of it, and too little of it as
    expected. While some is left they may answer that."""
    if theirs is not None and theirs.trained_at is not None:
        return ""
    if not training.of_campaign(campaign).exists() or training.left_for(user, campaign).exists():
        return ""
    return (
        "You have answered all training comparisons, and too few as expected. "
        "A researcher decides whether you go on."
    )
