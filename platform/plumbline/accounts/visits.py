"""Where somebody is signed in, and the ends of it.

A session is a row that names nobody; a `Visit` says whose it is, for the list that people see of
their own. What counts when all of somebody's sessions end is a number in each session's digest: it
reaches those that no list has.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth import login, update_session_auth_hash
from django.contrib.sessions.models import Session
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone

from plumbline.accounts.addresses import client_address
from plumbline.accounts.models import User, Visit

BACKEND = "plumbline.accounts.backends.ByPassword"
LONGEST_AGENT = 200


def begin(request: HttpRequest, user: User, backend: str = BACKEND) -> None:
    """Sign in, in a session with a new key."""
    login(request, user, backend=backend)
    note(request, user)


def note(request: HttpRequest, user: User) -> None:
    agent = request.headers.get("User-Agent", "")[:LONGEST_AGENT].replace("\0", "")
    Visit.objects.create(
        user=user,
        session_key=_key(request),
        address=client_address(request),
        agent=agent,
    )


def of(user: User) -> list[Visit]:
    """The sessions that still run, the newest first."""
    mine = Visit.objects.filter(user=user).order_by("-at")
    running = Session.objects.filter(
        session_key__in=[one.session_key for one in mine], expire_date__gt=timezone.now()
    )
    keys = set(running.values_list("session_key", flat=True))
    return [one for one in mine if one.session_key in keys]


def end(user: User, which: int) -> bool:
    """End one of somebody's sessions; whether it was theirs to end."""
    visit = Visit.objects.filter(user=user, pk=which).first()
    if visit is None:
        return False
    _end([visit])
    return True


def end_all(user: User) -> None:
    User.objects.filter(pk=user.pk).update(sessions_ended=F("sessions_ended") + 1)
    user.refresh_from_db(fields=["sessions_ended"])
    _end(Visit.objects.filter(user=user))


def end_others(request: HttpRequest, user: User) -> None:
    """All but this one, which goes on under a new key."""
    before = _key(request)
    User.objects.filter(pk=user.pk).update(sessions_ended=F("sessions_ended") + 1)
    user.refresh_from_db(fields=["sessions_ended"])
    _end(Visit.objects.filter(user=user).exclude(session_key=before))
    renew(request, user)


def renew(request: HttpRequest, user: User) -> None:
    """Let this session go on after a change that ends the others of its user."""
    before = _key(request)
    update_session_auth_hash(request, user)
    request.session.save()
    Visit.objects.filter(session_key=before).update(session_key=_key(request))


def forget() -> None:
    """Visits whose session is no more."""
    Visit.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()


def _end(visits: Iterable[Visit]) -> None:
    keys = [one.session_key for one in visits]
    Session.objects.filter(session_key__in=keys).delete()
    Visit.objects.filter(session_key__in=keys).delete()


def _key(request: HttpRequest) -> str:
    if request.session.session_key is None:
        request.session.save()
    return str(request.session.session_key)
