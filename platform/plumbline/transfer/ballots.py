"""Imported votes as ballots: on comparisons of closed campaigns, by voters who cannot sign in.

A ballot is known again by its row, or, where the source names comparisons, by comparison, voter and
revision; what is known is not written twice. Votes on one comparison come together whichever file
or page of a file they are in.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison
from plumbline.transfer.models import Import, ImportedComparison
from plumbline.transfer.rows import Asked, ImportedRow, Vote

STRONG, CLEAR = 0.9, 0.5  # |2p - 1| from which a graded preference is much or clearly better
SAID = (
    *("outcome", "ranking", "strength", "probability", "mark", "ratings", "corrections", "spans"),
    *("reasons", "reason", "comment", "active_ms", "settings_version", "revision"),
)


@dataclass(frozen=True)
class Cast:
    """A row's vote on its way in: its identity, and those of its comparison and answers."""

    id: uuid.UUID
    comparison: uuid.UUID | None  # None: the row's own
    answers: list[uuid.UUID]
    prompt: int
    vote: Vote
    before: uuid.UUID | None  # the ballot that this one revises


class BallotWriter:
    """Writes the votes of one import. `identity` makes UUIDs of strings within the set."""

    def __init__(self, record: Import, identity: Callable[..., uuid.UUID]) -> None:
        self._set, self._format, self._identity = record.set, record.format, identity
        self._chosen = record.campaign
        self.written: list[uuid.UUID] = []  # ballots that the last rows say, new or known
        self._now = timezone.now()
        self._campaigns: dict[str, Campaign] = {}
        self._voters: dict[str, User] = {}

    def cast(
        self, key: str, row: ImportedRow, answers: list[uuid.UUID], prompt: int
    ) -> Cast | None:
        """The row's vote, if it has one; a preference between equal answers is none."""
        vote = row.vote
        if vote is None:
            if row.preference is None or len(set(answers)) < 2:
                return None
            return Cast(
                self._identity("ballot", key), None, answers, prompt, preferring(row), before=None
            )
        if not vote.comparison:
            return Cast(self._identity("ballot", key), None, answers, prompt, vote, before=None)
        comparison = self._identity("comparison", vote.comparison, *map(str, answers))

        def revision(number: int) -> uuid.UUID:
            return self._identity("vote", str(comparison), vote.annotator, str(number))

        before = revision(vote.revision - 1) if vote.revises else None
        return Cast(revision(vote.revision), comparison, answers, prompt, vote, before)

    def write(self, found: Iterable[Cast]) -> None:
        """The ballots that are not there yet, with what they need."""
        casts = {one.id: one for one in found}
        known = Ballot.objects.filter(idempotency_key__in=casts)
        self.written = []
        for key, there in known.values_list("idempotency_key", "id"):
            assert key is not None
            del casts[key]
            self.written.append(there)
        if not casts:
            return
        comparisons = self._comparisons(casts.values())
        seats = _Seats(comparisons.values())
        before = {one.before for one in casts.values() if one.before is not None}
        here = dict(
            Ballot.objects.filter(idempotency_key__in=before).values_list("idempotency_key", "id")
        )
        made: dict[uuid.UUID, Ballot] = {}
        for key, one in casts.items():
            ballot = self._ballot(one, comparisons[key], seats)
            if one.before is not None:
                ballot.revises_id = (
                    made[one.before].pk if one.before in made else here.get(one.before)
                )
            made[key] = ballot
        Ballot.objects.bulk_create(made.values())
        self.written += [ballot.pk for ballot in made.values()]

    def _comparisons(self, casts: Iterable[Cast]) -> dict[uuid.UUID, Comparison]:
        """By ballot, its comparison; the missing ones are made."""
        casts = list(casts)
        named = {one.comparison for one in casts if one.comparison is not None}
        shared = {
            row.key: row.comparison
            for row in ImportedComparison.objects.filter(key__in=named).select_related("comparison")
        }
        found, fresh = {}, []
        for one in casts:
            if one.comparison is None or one.comparison not in shared:
                found[one.id] = self._comparison(one)
                fresh.append((one, found[one.id]))
                if one.comparison is not None:
                    shared[one.comparison] = found[one.id]
            else:
                found[one.id] = shared[one.comparison]
        Comparison.objects.bulk_create(comparison for _, comparison in fresh)
        Candidate.objects.bulk_create(
            Candidate(comparison=comparison, completion_id=completion, slot=slot)
            for one, comparison in fresh
            for slot, completion in enumerate(one.answers)
        )
        ImportedComparison.objects.bulk_create(
            ImportedComparison(key=one.comparison, comparison=comparison)
            for one, comparison in fresh
            if one.comparison is not None
        )
        return found

    def _comparison(self, one: Cast) -> Comparison:
        vote = one.vote
        return Comparison(
            campaign=self._campaign(vote.asked),
            prompt_id=one.prompt,
            kind=vote.kind,
            strategy=vote.strategy[:40],
            p_select=vote.p_select,
            why=vote.why,
            full=True,  # nobody is asked any more
        )

    def _ballot(self, one: Cast, comparison: Comparison, seats: _Seats) -> Ballot:
        vote = one.vote
        claimed = _time(vote.claimed_at) or self._now
        return Ballot(
            comparison=comparison,
            annotator=self._voter(vote.annotator),
            seat=seats.take(comparison) if vote.standing else None,
            shown=vote.shown or list(range(len(one.answers))),
            claimed_at=claimed,
            expires_at=claimed + timedelta(seconds=1),
            cast_at=_time(vote.cast_at) or self._now,
            idempotency_key=one.id,
            **{name: getattr(vote, name) for name in SAID},
        )

    def _campaign(self, asked: Asked) -> Campaign:
        name = self._name(asked)
        if name not in self._campaigns:
            made, new = Campaign.objects.get_or_create(
                project=self._set.project,
                name=name,
                defaults={
                    "closed_at": self._now,
                    "purpose": asked.purpose,
                    "asks": asked.asks,
                    "criteria": asked.criteria,
                },
            )
            if not new and not Import.objects.filter(says_ballots__comparison__campaign=made):
                raise ValueError(
                    f"There is a campaign called {name} already, and no import made it: imported "
                    "votes go into one of their own. Choose another name."
                )
            self._campaigns[name] = made
        return self._campaigns[name]

    def _name(self, asked: Asked) -> str:
        """A file may hold the votes of several campaigns; each keeps its own name in it."""
        if not self._chosen:
            return f"{self._set.name}: imported {asked.name or self._format}"[:120]
        return f"{self._chosen}: {asked.name}"[:120] if asked.name else self._chosen

    def _voter(self, annotator: str) -> User:
        if annotator not in self._voters:
            name = f"import-{self._set.project.slug}-{self._format}"
            if annotator:
                name = f"{name[:100]}-{self._identity('voter', annotator).hex}"
            voter, new = User.objects.get_or_create(
                username=name[:150],
                defaults={
                    "kind": User.Kind.IMPORT,
                    "is_active": False,
                    "first_name": annotator[:150],
                },
            )
            if new:
                voter.set_unusable_password()
                voter.save()
            self._voters[annotator] = voter
        return self._voters[annotator]


class _Seats:
    """The next free seat of each comparison, those of earlier imports counted."""

    def __init__(self, comparisons: Iterable[Comparison]) -> None:
        taken = Ballot.objects.filter(comparison__in=[one.pk for one in comparisons])
        highest = taken.order_by().values("comparison").annotate(last=Max("seat"))
        self._next: dict[int, int] = {
            row["comparison"]: row["last"] + 1 for row in highest if row["last"] is not None
        }

    def take(self, comparison: Comparison) -> int:
        seat = self._next.get(comparison.pk, 0)
        self._next[comparison.pk] = seat + 1
        return seat


def preferring(row: ImportedRow) -> Vote:
    """A preference between two answers as a vote."""
    p = row.preference
    assert p is not None
    graded = {"strength": strength(p), "probability": p} if row.graded else {}
    return Vote("ranked", ranking(p), **graded)  # type: ignore[arg-type]


def ranking(p: float) -> list[list[int]]:
    """Tie groups of the two slots, best first, by P(slot 0 is better)."""
    if p == 0.5:
        return [[0, 1]]
    return [[0], [1]] if p > 0.5 else [[1], [0]]


def strength(p: float) -> int | None:
    """1 slightly, 2 clearly, 3 much better, by how far the probability is from a half."""
    if p == 0.5:
        return None
    extreme = abs(2 * p - 1)
    return 3 if extreme >= STRONG else 2 if extreme >= CLEAR else 1


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
