"""Who is in a campaign: people a researcher enrols, and people who come by a link to it.

A link is an ordinary invitation, as annotator, that also enrols; a member of the project may use it
as well. Leaving somebody out keeps their votes; excluding their votes is the quality page's.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from plumbline.accounts import invitations
from plumbline.accounts.models import Invitation, Membership, Role, User
from plumbline.audit.record import record
from plumbline.collect.models import Ballot, Campaign, CampaignInvitation, Enrolment


def enrol(campaign: Campaign, user: User) -> Enrolment:
    """A place in the campaign, again after leaving. Raises ValueError for who is no member."""
    if not Membership.objects.filter(project=campaign.project_id, user=user).exists():
        raise ValueError(f"{user} is not a member of this project; send them a link instead.")
    place, _ = Enrolment.objects.get_or_create(campaign=campaign, user=user)
    if place.left_at is not None:
        place.left_at = None
        place.save(update_fields=["left_at"])
    return place


def remove(campaign: Campaign, user: User) -> None:
    """No more comparisons of this campaign for them where it is for invited people only."""
    Enrolment.objects.filter(campaign=campaign, user=user, left_at=None).update(
        left_at=timezone.now()
    )


def leave(campaign: Campaign, user: User) -> None:
    """They go of their own accord. Whoever never began gets a place that says they left; seats of
    what they had open are free for others."""
    with transaction.atomic():
        Enrolment.objects.get_or_create(campaign=campaign, user=user)
        remove(campaign, user)
        Ballot.objects.filter(annotator=user, comparison__campaign=campaign, outcome="").update(
            seat=None
        )


def invite(campaign: Campaign, by: User) -> tuple[CampaignInvitation, str]:
    """An invitation to this campaign and the only copy of its token."""
    with transaction.atomic():
        invitation, token = invitations.create(campaign.project, Role.ANNOTATOR, by)
        return CampaignInvitation.objects.create(invitation=invitation, campaign=campaign), token


def find(token: str) -> CampaignInvitation | None:
    """The open invitation to a campaign that a token belongs to."""
    invitation = invitations.find(token)
    if invitation is None:
        return None
    opened = CampaignInvitation.objects.select_related(
        "campaign__project", "invitation__created_by"
    )
    return opened.filter(invitation=invitation).first()


def accept(invited: CampaignInvitation, user: User) -> Enrolment:
    """Make the person a member where they are none, and enrol them. Raises ValueError when the
    link was used meanwhile, or they are in the campaign already (which leaves the link)."""
    campaign = invited.campaign
    with transaction.atomic():
        here = Enrolment.objects.filter(campaign=campaign, user=user, left_at=None)
        member = Membership.objects.filter(project=campaign.project_id, user=user).exists()
        if member and here.exists():
            raise ValueError(f"You are in {campaign} already.")
        if member:
            invitations.use(invited.invitation, user)
        else:
            invitations.accept(invited.invitation, user)
        return enrol(campaign, user)


def open_links(campaign: Campaign) -> list[Invitation]:
    rows = campaign.invitations.select_related("invitation__created_by").filter(
        invitation__accepted_by=None, invitation__expires_at__gt=timezone.now()
    )
    return [row.invitation for row in rows.order_by("-invitation__created_at")]


def withdraw(campaign: Campaign, invitation: int) -> bool:
    """Take a link back before it is used; whether there was one."""
    rows = Invitation.objects.filter(
        pk__in=campaign.invitations.filter(invitation=invitation).values("invitation"),
        accepted_by=None,
    )
    with transaction.atomic():
        withdrawn = rows.update(expires_at=timezone.now())
        if withdrawn:
            record("invitation.withdrawn", project=campaign.project_id, invitation=invitation)
    return bool(withdrawn)
