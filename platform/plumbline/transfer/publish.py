"""The second half of an import: everything a checked file says, in one transaction.

Prompts are one per digest and set, answers one per prompt, writer and text, ballots one per row,
whichever import they came by. Imported ballots are ordinary ballots on ordinary comparisons of a
closed campaign, so reward models and training use them like any others.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.collect.models import (
    Ballot,
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.transfer.formats import Format
from plumbline.transfer.models import Import
from plumbline.transfer.rows import ImportedRow, digest
from plumbline.transfer.staging import Staged, split_of

CHUNK = 500
IDENTITIES = uuid.UUID("f4e3c0de-5f0c-5d0b-9c41-5a3ad1c6d0f7")  # namespace of imported rows' ids
STRONG, CLEAR = 0.9, 0.5  # |2p - 1| from which a graded preference is much or clearly better

Rows = Sequence[tuple[str, ImportedRow]]


@dataclass(frozen=True)
class Source:
    format: str
    filename: str
    heldout: float  # fraction of prompts


def publish(
    staged: Staged,
    project: Project,
    set_name: str,
    source: Source,
    format: Format,
    advanced: Callable[[int], object] = lambda n: None,
) -> tuple[Import, bool]:
    """Write it all, or find the import of the same lines. Gives the import, and if it is new."""
    with transaction.atomic():
        target, _ = PromptSet.objects.get_or_create(
            project=project,
            name=set_name,
            defaults={"source": format.SOURCE, "licence": format.LICENCE},
        )
        record, new = Import.objects.get_or_create(
            set=target,
            format=source.format,
            sha256=staged.sha256,
            defaults={
                "filename": source.filename[:255],
                "rows": staged.rows,
                "prompts": 0,
                "completions": 0,
                "ballots": 0,
            },
        )
        if not new:
            return record, False
        before = _counts(target)
        writer = _Writer(target, source)
        for chunk in staged.chunks(CHUNK):
            writer.write(chunk)
            advanced(len(chunk))
        after = _counts(target)
        record.prompts, record.completions, record.ballots = (
            now - then for now, then in zip(after, before, strict=True)
        )
        record.save()
    return record, True


class _Writer:
    def __init__(self, target: PromptSet, source: Source) -> None:
        self._set = target
        self._source = source
        self._now = timezone.now()
        self._place: tuple[Campaign, User] | None = None

    def write(self, rows: Rows) -> None:
        prompts = self._prompts(rows)
        self._completions(rows, prompts)
        self._ballots(rows, prompts)

    def _prompts(self, rows: Rows) -> dict[str, int]:
        """Ids of the rows' prompts by digest; the missing ones are made."""
        wanted = {
            digest(row.messages): Prompt(
                set=self._set,
                messages=list(row.messages),
                digest=digest(row.messages),
                split=split_of(row, self._source.heldout),
            )
            for _, row in rows
        }
        here = Prompt.objects.filter(set=self._set, digest__in=wanted)
        known = set(here.values_list("digest", flat=True))
        Prompt.objects.bulk_create(
            [prompt for key, prompt in wanted.items() if key not in known], ignore_conflicts=True
        )
        return dict(here.values_list("digest", "id"))

    def _completions(self, rows: Rows, prompts: dict[str, int]) -> None:
        found = {}
        for _, row in rows:
            prompt = prompts[digest(row.messages)]
            for key, answer in zip(self._answer_ids(row), row.answers, strict=True):
                found[key] = Completion(
                    id=key, prompt_id=prompt, origin=answer.origin[:120], text=answer.text
                )
        Completion.objects.bulk_create(found.values(), ignore_conflicts=True)

    def _ballots(self, rows: Rows, prompts: dict[str, int]) -> None:
        """A comparison and its ballot for each row that prefers one of two different answers."""
        voted = {
            self._identity("ballot", key): row
            for key, row in rows
            if row.preference is not None and len(set(self._answer_ids(row))) == 2
        }
        known = Ballot.objects.filter(idempotency_key__in=voted)
        for key in known.values_list("idempotency_key", flat=True):
            if key is not None:
                del voted[key]
        if not voted:
            return
        campaign, voter = self._place = self._place or self._closed_campaign()
        comparisons = Comparison.objects.bulk_create(
            Comparison(
                campaign=campaign, prompt_id=prompts[digest(row.messages)], strategy="imported"
            )
            for row in voted.values()
        )
        Candidate.objects.bulk_create(
            Candidate(comparison=comparison, completion_id=completion, slot=slot)
            for comparison, row in zip(comparisons, voted.values(), strict=True)
            for slot, completion in enumerate(self._answer_ids(row))
        )
        Ballot.objects.bulk_create(
            self._ballot(comparison, voter, key, row)
            for comparison, (key, row) in zip(comparisons, voted.items(), strict=True)
        )

    def _ballot(
        self, comparison: Comparison, voter: User, key: uuid.UUID, row: ImportedRow
    ) -> Ballot:
        assert row.preference is not None
        return Ballot(
            comparison=comparison,
            annotator=voter,
            seat=0,
            shown=[0, 1],
            claimed_at=self._now,
            expires_at=self._now + timedelta(seconds=1),
            cast_at=self._now,
            outcome=Ballot.Outcome.RANKED,
            ranking=ranking(row.preference),
            strength=strength(row.preference) if row.graded else None,
            probability=row.preference if row.graded else None,
            idempotency_key=key,
        )

    def _closed_campaign(self) -> tuple[Campaign, User]:
        campaign, _ = Campaign.objects.get_or_create(
            project=self._set.project,
            name=f"{self._set.name}: imported {self._source.format}"[:120],
            defaults={"closed_at": self._now},
        )
        voter, new = User.objects.get_or_create(
            username=f"import-{self._set.project.slug}-{self._source.format}"[:150],
            defaults={"kind": User.Kind.IMPORT, "is_active": False},
        )
        if new:
            voter.set_unusable_password()
            voter.save()
        return campaign, voter

    def _answer_ids(self, row: ImportedRow) -> list[uuid.UUID]:
        """The same answer by the same writer to the same prompt of a set has the same id."""
        prompt = digest(row.messages)
        return [self._identity("answer", prompt, one.origin, one.text) for one in row.answers]

    def _identity(self, *parts: str) -> uuid.UUID:
        return uuid.uuid5(IDENTITIES, "\0".join([str(self._set.pk), *parts]))


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


def _counts(target: PromptSet) -> tuple[int, int, int]:
    return (
        Prompt.objects.filter(set=target).count(),
        Completion.objects.filter(prompt__set=target).count(),
        Ballot.objects.filter(comparison__prompt__set=target).count(),
    )
