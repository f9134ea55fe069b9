"""What was done in a project and by whom, for its admins. `manage.py audit` checks that it is
whole; sign-ins, which belong to no project, are told there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render

from plumbline.accounts.models import ApiKey, User
from plumbline.audit.models import AuditEntry
from plumbline.audit.record import NOBODY, SYSTEM
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Policy

A_PAGE = 50
OTHERS = {SYSTEM: "the system", NOBODY: "somebody not signed in"}


@dataclass(frozen=True)
class Line:
    entry: AuditEntry
    who: str
    what: str
    thing: str
    details: list[tuple[str, str]]


def audit(request: PlumblineRequest) -> HttpResponse:
    """The project's entries, the newest first, all or those by somebody or of a kind."""
    here = AuditEntry.objects.filter(project=request.project.pk)
    chosen = {name: request.GET.get(name, "") for name in ("who", "what")}
    chosen = {name: value for name, value in chosen.items() if value}
    found = here
    if who := chosen.get("who"):
        found = found.filter(who=who)
    if what := chosen.get("what"):
        found = found.filter(what=what)
    page = Paginator(found.order_by("-number"), A_PAGE).get_page(request.GET.get("page"))
    actors = sorted(here.order_by().values_list("who", flat=True).distinct())
    kinds = sorted(here.order_by().values_list("what", flat=True).distinct())
    entries = list(page.object_list)
    names = _names([*actors, *(one.object for one in entries)])
    context: dict[str, Any] = {
        "page": page,
        "lines": [_line(one, names) for one in entries],
        "actors": [(who, names.get(who, who)) for who in actors],
        "kinds": [(what, words(what)) for what in kinds],
        "chosen": chosen,
        "query": urlencode(chosen),
    }
    return render(request, "lab/audit.html", context)


def words(what: str) -> str:
    """ "policy.rolled_back" as "Policy rolled back"."""
    return what.replace(".", " ").replace("_", " ").capitalize()


def _line(entry: AuditEntry, names: dict[str, str]) -> Line:
    told = [(name.replace("_", " "), _said(value)) for name, value in entry.told.items()]
    thing = names.get(entry.object, entry.object.replace(":", " "))
    return Line(entry, names.get(entry.who, entry.who), words(entry.what), thing, told)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_said, value)) or "none"
    return "none" if value is None else str(value)


def _names(wanted: Sequence[str]) -> dict[str, str]:
    """What people and things are called now; an account that is gone has no name any more."""
    names, ids = dict(OTHERS), {kind: set[int]() for kind in ("user", "key", "apikey")}
    for one in wanted:
        kind, _, pk = one.partition(":")
        if kind in ids and pk.isdecimal():
            ids[kind].add(int(pk))
            names[one] = f"a deleted account ({pk})" if kind == "user" else f"key {pk}"
    people = User.objects.filter(pk__in=ids["user"]).values_list("pk", "username")
    names |= {f"user:{pk}": name for pk, name in people}
    policies = [one.removeprefix("policy:") for one in wanted if one.startswith("policy:")]
    called = Policy.objects.filter(pk__in=policies).values_list("pk", "name")
    names |= {f"policy:{pk}": name for pk, name in called}
    keys = ApiKey.objects.filter(pk__in=ids["key"] | ids["apikey"])
    for key, name in keys.values_list("pk", "name"):
        names[f"key:{key}"] = names[f"apikey:{key}"] = f"key “{name}”"
    return names
