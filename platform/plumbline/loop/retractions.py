"""Taking votes back from the training of policies: a vote, or all that a person says.

Nothing is deleted or edited. Rounds that are frozen keep their votes until somebody has them
rebuilt; every round to come, and every reward model that is trained from now on, goes without.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.audit.record import record
from plumbline.collect.models import Ballot
from plumbline.collect.votes import VOTES
from plumbline.loop.models import Retraction

REASON = 300  # characters


def standing(project: Project | int) -> QuerySet[Retraction]:
    """Those that were not undone."""
    return Retraction.objects.filter(project=project, undone_at=None)


def without(ballots: QuerySet[Ballot], retracted: QuerySet[Retraction]) -> QuerySet[Ballot]:
    """The ballots that none of these retractions is about."""
    return ballots.filter(~_about(retracted))


def among(ballots: QuerySet[Ballot], retracted: QuerySet[Retraction]) -> QuerySet[Ballot]:
    """The ballots that one of these retractions is about."""
    return ballots.filter(_about(retracted))


def retract_vote(ballot: Ballot, *, actor: User, reason: str) -> Retraction:
    """Raises ValueError without a reason, where it is no vote, and where it is retracted."""
    if ballot.outcome not in VOTES:
        raise ValueError("Only a vote can be retracted; this ballot holds none.")
    project = ballot.comparison.campaign.project
    twice = "This vote is retracted already."
    return _retract(Retraction(project=project, ballot=ballot), actor, reason, twice)


def retract_person(project: Project, person: User, *, actor: User, reason: str) -> Retraction:
    """All that a person said in the project, and will say while this stands. Raises ValueError
    without a reason, for somebody who never voted here, and where it is done already."""
    theirs = Ballot.objects.filter(annotator=person, comparison__campaign__project=project)
    if not theirs.filter(outcome__in=VOTES).exists():
        raise ValueError(f"{person.get_username()} has cast no vote in {project}.")
    twice = f"The votes of {person.get_username()} are retracted already."
    return _retract(Retraction(project=project, annotator=person), actor, reason, twice)


def undo(retraction: Retraction, *, actor: User, reason: str) -> None:
    """Let the votes count again. Raises ValueError once a rebuild has gone by it: that rebuild
    would no longer be what it says."""
    reason = _said(reason)
    open_ones = Retraction.objects.filter(pk=retraction.pk, undone_at=None, used_at=None)
    with transaction.atomic():
        if not open_ones.update(undone_at=timezone.now(), undone_by=actor, undone_reason=reason):
            raise ValueError(
                "It cannot be undone: a rebuild has gone by it, or somebody has undone it already."
            )
        record("votes.restored", retraction, project=retraction.project_id, actor=actor)


def votes_of(retraction: Retraction) -> QuerySet[Ballot]:
    """The votes that it is about, the newest first."""
    here = Ballot.objects.filter(comparison__campaign__project=retraction.project_id)
    mine = here.filter(outcome__in=VOTES).order_by("-cast_at")
    return among(mine, Retraction.objects.filter(pk=retraction.pk))


def _about(retracted: QuerySet[Retraction]) -> Exists:
    person = Q(annotator=OuterRef("annotator"), project=OuterRef("comparison__campaign__project"))
    return Exists(retracted.filter(Q(ballot=OuterRef("pk")) | person).order_by())


def _retract(made: Retraction, actor: User, reason: str, twice: str) -> Retraction:
    made.actor, made.reason = actor, _said(reason)
    try:
        with transaction.atomic():
            made.save()
            record("votes.retracted", made, project=made.project, actor=actor)
    except IntegrityError as error:
        raise ValueError(twice) from error
    return made


def _said(reason: str) -> str:
    reason = reason.strip()[:REASON]
    if not reason:
        raise ValueError("Say why; the reason is kept with your name.")
    return reason
