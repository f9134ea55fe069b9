"""Forgetting a person: what was personal goes, what the models were made of stays without a name.

Votes are rows that a round may have frozen, and a policy cannot be explained without them; they
stay under a name that says nobody, or are taken back from all training to come. Free text, keys,
sessions, drafts, memberships and the name itself go. A backup that was made before still has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from plumbline.accounts.models import (
    ApiKey,
    Invitation,
    Membership,
    Project,
    Role,
    SecondFactorReset,
    User,
    Visit,
)
from plumbline.audit.record import record
from plumbline.collect.models import Ballot, Comparison, Draft, Enrolment, Flag
from plumbline.collect.votes import VOTES
from plumbline.gateway import chat, forgetting, ids
from plumbline.gateway.models import ChatAnswer, ClientComparison, Feedback
from plumbline.loop import retractions
from plumbline.loop.models import Retraction, Round, SavedView
from plumbline.operations.models import Farewell

NOBODY = "forgotten"
GOES = (
    "your name, address, password, second factor and sessions; you cannot sign in any more",
    "your memberships and invitations, and your API keys, which stop working",
    "comments, corrections, notes and drafts that you wrote beside your answers",
    "your chats, what was kept of them, your feedback and your saved views",
)
STAYS = (
    "votes: rankings, strengths, ratings and times, under a name that says nobody, as rounds froze "
    "them and policies were made of them",
    "what an administrator wrote about decisions, with that name in the place of the person's",
    "prompts by the person that others have voted on",
    "counts of requests and tokens, and the audit, which knows people by number",
)


def ask(user: User, *, withdraw_votes: bool = False) -> Farewell:
    """The person's own wish; a second one is the first, with what is said now of the votes."""
    with _locked(user):
        found, first = _open_one(user, by_person=True)
        if found.withdraw_votes != withdraw_votes or not found.asked_by_person:
            found.withdraw_votes, found.asked_by_person = withdraw_votes, True
            found.save(update_fields=["withdraw_votes", "asked_by_person"])
        if first:
            record("farewell.asked", user, actor=user, withdraw_votes=withdraw_votes)
    return found


def withdraw(user: User) -> bool:
    """They have thought better of it; whether there was still something to withdraw."""
    with _locked(user):
        waiting = Farewell.objects.filter(user=user, done_at=None, withdrawn_at=None)
        withdrawn = bool(waiting.update(withdrawn_at=timezone.now()))
        if withdrawn:
            record("farewell.withdrawn", user, actor=user)
    return withdrawn


def open_wishes() -> QuerySet[Farewell]:
    """What people asked for and nobody has done yet, the oldest first."""
    found = Farewell.objects.filter(done_at=None, withdrawn_at=None, asked_by_person=True)
    return found.select_related("user").order_by("asked_at", "pk")


def _open_one(user: User, *, by_person: bool) -> tuple[Farewell, bool]:
    return Farewell.objects.get_or_create(
        user=user, done_at=None, withdrawn_at=None, defaults={"asked_by_person": by_person}
    )


@contextmanager
def _locked(user: User) -> Iterator[User]:
    """One transaction with the person's row: wishes and what is done about them wait for each
    other."""
    with transaction.atomic():
        yield User.objects.select_for_update(no_key=True).get(pk=user.pk)


def check(user: User) -> None:
    """Raises ValueError with a sentence where the person cannot be forgotten."""
    if user.kind != User.Kind.PERSON:
        raise ValueError(f"{user.username} is no person.")
    if user.username.startswith(f"{NOBODY}-") and not user.is_active:
        raise ValueError(f"{user.username} is forgotten already.")
    for place in Membership.objects.filter(user=user, role=Role.ADMIN).select_related("project"):
        others = Membership.objects.filter(project=place.project, role=Role.ADMIN).exclude(
            user=user
        )
        if not others.exists():
            raise ValueError(
                f"{user.username} is the only admin of {place.project}; make another first."
            )


def forget(
    user: User, *, actor: User, reason: str, withdraw_votes: bool = False, asked: bool = False
) -> Farewell:
    """Do it, in one transaction. Raises ValueError with a sentence where it cannot be done; with
    `asked`, also where the person does not wish it, or no longer."""
    with _locked(user) as user:
        check(user)
        if asked and not open_wishes().filter(user=user).exists():
            raise ValueError(f"{user.username} does not ask for it any more.")
        farewell, _ = _open_one(user, by_person=False)
        withdraw_votes = withdraw_votes or farewell.withdraw_votes
        done: dict[str, Any] = {}
        if withdraw_votes:
            done["projects whose training goes without their votes"] = _retract(user, actor, reason)
        done |= _texts(user)
        done |= _conversations(user)
        done |= _access(user)
        name = _rename(user)
        farewell.withdraw_votes = withdraw_votes
        farewell.actor, farewell.reason = actor.username, reason[:300]
        farewell.done_at = timezone.now()
        votes = Ballot.objects.filter(annotator=user).exclude(outcome="").count()
        farewell.done = {"gone": done, "votes_kept": votes, "name": name, "stays": list(STAYS)}
        farewell.save()
        record("person.forgotten", user, actor=actor, votes_kept=votes, withdrawn=withdraw_votes)
    return farewell


def _retract(user: User, actor: User, reason: str) -> int:
    voted = Ballot.objects.filter(annotator=user, outcome__in=VOTES).values(
        "comparison__campaign__project"
    )
    already = Retraction.objects.filter(annotator=user, undone_at=None).values("project")
    projects = list(Project.objects.filter(pk__in=voted).exclude(pk__in=already))
    for project in projects:
        retractions.retract_person(project, user, actor=actor, reason=reason)
    return len(projects)


def _texts(user: User) -> dict[str, Any]:
    """What they wrote beside their votes. The words of a span go, its place stays."""
    mine = Ballot.objects.filter(annotator=user)
    wrote = mine.exclude(comment="", corrections={})
    done = {
        "comments and corrections": wrote.update(comment="", corrections={}),
        "words of flags": Flag.objects.filter(ballot__in=mine).exclude(words="").update(words=""),
        "drafts": Draft.objects.filter(ballot__in=mine).delete()[0],
        "saved views": SavedView.objects.filter(owner=user).delete()[0],
    }
    notes = 0
    for ballot in mine.exclude(spans=[]).only("spans"):
        bare = [{**span, "note": ""} for span in ballot.spans]
        if bare != ballot.spans:
            notes += Ballot.objects.filter(pk=ballot.pk).update(spans=bare)
    mine.filter(outcome="").update(seat=None)  # others are asked instead
    return {**done, "notes in answers": notes}


def _conversations(user: User) -> dict[str, Any]:
    """What they asked on the chat page, what was kept of it, and what they said of it; and what
    they typed to begin a comparison that nobody has answered."""
    kept = 0
    for project in Project.objects.all():
        gone = forgetting.forget(project.pk, ids.end_user(project.pk, chat.member(user)))
        kept += gone["kept_with_votes"]
    unanswered = Comparison.objects.filter(only_for=user, kind=Comparison.Kind.LIVE).exclude(
        ballots__outcome__gt=""
    )
    feedback = Feedback.objects.filter(user=user).delete()[0]
    return {
        "chat answers": ChatAnswer.objects.filter(user=user).delete()[0],
        "feedback": feedback + ClientComparison.objects.filter(user=user).delete()[0],
        "comparisons they began": unanswered.delete()[0],
        "comparisons of their chats that stay, as they have votes": kept,
    }


def _access(user: User) -> dict[str, Any]:
    now = timezone.now()
    SecondFactorReset.objects.filter(user=user).delete()
    keys = ApiKey.objects.filter(created_by=user)
    live = list(keys.filter(revoked_at=None).values_list("name", flat=True))
    keys.filter(revoked_at=None).update(revoked_at=now, old_until=None)
    Enrolment.objects.filter(user=user).update(
        left_at=now, pause_reason="", cursor_comparison=None, cursor_at=None
    )
    invitations = Invitation.objects.filter(created_by=user)
    return {
        "sessions": _sessions(user),
        "API keys revoked": live,
        "memberships": Membership.objects.filter(user=user).delete()[0],
        "open invitations": invitations.filter(accepted_by=None).delete()[0],
        "addresses": EmailAddress.objects.filter(user=user).delete()[0],
        "second factors": Authenticator.objects.filter(user=user).delete()[0],
        "visits": Visit.objects.filter(user=user).delete()[0],
    }


def _sessions(user: User) -> int:
    """Sessions know their person only inside what they hold."""
    gone = 0
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get("_auth_user_id") == str(user.pk):
            session.delete()
            gone += 1
    return gone


def _rename(user: User) -> str:
    """The row stays, and says nobody; sentences that name the person are written anew."""
    name, before = f"{NOBODY}-{user.pk}", user.username
    Round.objects.filter(error=f"Cancelled by {before}.").update(error=f"Cancelled by {name}.")
    user.username, user.first_name, user.last_name, user.email = name, "", "", ""
    user.preferences, user.last_login = {}, None
    user.is_active = user.is_staff = user.is_superuser = False
    user.set_unusable_password()
    user.save()
    user.groups.clear()
    user.user_permissions.clear()
    Farewell.objects.filter(actor=before).update(actor=name)
    return name
