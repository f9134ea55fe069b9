"""Which hidden test a person gets instead of an ordinary comparison: gold, or a vote of their own.

Gold is a comparison of kind `gold` that the person has not answered, in an order of their own, so
that no two people can compare notes. A repeat asks one of their earlier votes again with the sides
swapped. Whether the next is a test depends on the person's latest answer and the site's secret: it
cannot be foreseen, and asking again gives the same.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.conf import settings as site
from django.db.models import Exists, OuterRef, QuerySet

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison
from plumbline.collect.quality import settings
from plumbline.collect.quality.settings import Quality
from plumbline.collect.votes import SAID, in_doubt
from plumbline.compiled import Compiled, Given, given_id

Special = Literal["gold", "repeat"]
Kind = Comparison.Kind
REPEAT_POOL = 100  # votes to choose a repeat from, the latest that are old enough
SHOWN = "shown"  # in a repeat's `why`: the slots in the order on the screen


def gold_share(quality: Quality, answered: int) -> float:
    """The share of gold for a person with so many answers: it falls evenly, then stays."""
    gone = min(1.0, answered / quality.gold_over)
    return quality.gold_start + gone * (quality.gold_end - quality.gold_start)


def choose(quality: Quality, answered: int, draw: float) -> Special | None:
    """What comes next after `answered` answers, for a draw uniform in [0, 1)."""
    gold = gold_share(quality, answered)
    if draw < gold:
        return "gold"
    if draw < gold + quality.repeat_share and answered > quality.repeat_gap:
        return "repeat"
    return None


def special(user: User, campaign: Campaign) -> Comparison | None:
    """The hidden test this person should get now instead of an ordinary comparison, if any.

    For the queue, inside its claim's transaction with the person locked and after their own live
    claim was looked for: one indexed query nine times in ten. A repeat is made here when it is
    first due. Gold is for everybody (its own `overlap` is `EVERYBODY`); a repeat is `only_for` the
    person. The ballot of a repeat is shown in `order(comparison)`.
    """
    latest = _said(user, campaign, None).values_list("pk", flat=True).first()
    return None if latest is None else after(latest, user, campaign)


def after(
    latest: UUID, user: User, campaign: Campaign, *, since: datetime | None = None
) -> Comparison | None:
    """The hidden test that comes after this answer of the person, if any. They have said nothing
    here before `since`, where it is given: who has said much elsewhere need not be read through."""
    quality = settings.of(campaign)
    draw = _uniform(f"{latest}")
    if draw >= quality.gold_start + quality.repeat_share:
        return None
    said = _said(user, campaign, since)
    answered = said[: max(quality.gold_over, quality.repeat_gap + 1)].count()
    match choose(quality, answered, draw):
        case "gold":
            return _gold(user, campaign)
        case "repeat":
            return _repeat(user, campaign, said, quality, draw)
        case _:
            return None


def _said(user: User, campaign: Campaign, since: datetime | None) -> QuerySet[Ballot]:
    """All that the person has said here, skips included, the latest first."""
    said = Ballot.objects.filter(annotator=user, comparison__campaign=campaign, outcome__in=SAID)
    if since is not None:
        said = said.filter(cast_at__gte=since)
    return said.order_by("-cast_at", "-claimed_at")


def order(comparison: Comparison) -> list[int] | None:
    """The order in which a repeat is shown, the reverse of the first time; None: shuffle."""
    return list(comparison.why[SHOWN]) if comparison.kind == Kind.REPEAT else None


def _gold(user: User, campaign: Campaign) -> Comparison | None:
    """An unanswered gold comparison, in an order that differs from person to person."""
    asked = _GOLD if settings.of(campaign).ask_flagged else _UNDOUBTED_GOLD
    left = [one.pk for one in asked.all(user=user.pk, campaign=campaign.pk)]
    first = min(left, key=lambda pk: _uniform(f"{user.pk}:{pk}"), default=None)
    return None if first is None else Comparison.objects.get(pk=first)


def _repeat(
    user: User, campaign: Campaign, said: QuerySet[Ballot], quality: Quality, draw: float
) -> Comparison | None:
    """The person's repeat that waits, else a new one of a vote that is old enough."""
    own = Comparison.objects.filter(only_for=user, campaign=campaign, kind=Kind.REPEAT)
    waiting = own.filter(~_answered(user), retired_at__isnull=True).first()
    if waiting is not None:
        return waiting
    chosen = _vote_to_repeat(said, set(own.values_list("repeats", flat=True)), quality, draw)
    if chosen is None:
        return None
    first = chosen.comparison
    made = Comparison.objects.create(
        campaign=campaign,
        prompt_id=first.prompt_id,
        strategy=Kind.REPEAT,
        kind=Kind.REPEAT,
        repeats=first,
        only_for=user,
        overlap=1,
        why={SHOWN: list(reversed(chosen.shown))},
    )
    Candidate.objects.bulk_create(
        Candidate(comparison=made, completion_id=slot.completion_id, slot=slot.slot)
        for slot in first.slots.all()
    )
    return made


def _vote_to_repeat(
    said: QuerySet[Ballot], repeated: set[int | None], quality: Quality, draw: float
) -> Ballot | None:
    """A ranking or ratings of the person's at least `repeat_gap` answers ago, never one twice."""
    latest = said.values_list(
        "pk", "outcome", "ratings", "comparison", "comparison__kind", "comparison__retired_at"
    )[: quality.repeat_gap + REPEAT_POOL]
    recent: set[int] = set()
    found = []
    for age, (pk, outcome, rated, comparison, kind, retired) in enumerate(latest):
        if comparison in recent:  # answered anew since, after an undo
            continue
        recent.add(comparison)
        if (
            age >= quality.repeat_gap
            and (outcome == Ballot.Outcome.RANKED or (outcome == Ballot.Outcome.ABSOLUTE and rated))
            and kind == Kind.ORDINARY
            and retired is None
            and comparison not in repeated
        ):
            found.append(pk)
    chosen = min(found, key=lambda pk: _uniform(f"{draw}:{pk}"), default=None)
    return None if chosen is None else Ballot.objects.select_related("comparison").get(pk=chosen)


def _answered(user: User | Given) -> Exists:
    return Exists(
        Ballot.objects.filter(comparison=OuterRef("pk"), annotator=user, outcome__in=SAID)
    )


def _gold_left() -> QuerySet[Comparison]:
    open_ones = Comparison.objects.filter(
        campaign=given_id("campaign"),
        kind=Kind.GOLD,
        retired_at__isnull=True,
        only_for__isnull=True,
    )
    return open_ones.filter(~_answered(given_id("user"))).order_by().only("pk")


_GOLD = Compiled(_gold_left)
_UNDOUBTED_GOLD = Compiled(lambda: _gold_left().filter(~in_doubt()))


def _uniform(what: str) -> float:
    """A number in [0, 1) that looks random to whoever does not know the site's secret."""
    digest = hmac.new(site.SECRET_KEY.encode(), what.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:7]) / 2**56
