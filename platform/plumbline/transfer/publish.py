"""The second half of an import: everything a checked file says, in one transaction.

Prompts are one per digest and set, answers one per prompt, writer and text, ballots one per vote,
whichever import they came by; each import keeps which of them it says. Imported ballots are
ordinary ballots on ordinary comparisons of a closed campaign, so reward models and training use
them like any others.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Model

from align import failpoints
from plumbline.accounts.models import Project
from plumbline.audit import record as audit
from plumbline.collect.models import Ballot, Completion, Prompt, PromptSet
from plumbline.transfer.ballots import BallotWriter
from plumbline.transfer.formats import Format
from plumbline.transfer.models import Import
from plumbline.transfer.rows import ImportedRow, digest
from plumbline.transfer.staging import Staged, split_of

CHUNK = 500
IDENTITIES = uuid.UUID("f4e3c0de-5f0c-5d0b-9c41-5a3ad1c6d0f7")  # namespace of imported rows' ids

Rows = Sequence[tuple[str, ImportedRow]]


@dataclass(frozen=True)
class Source:
    """Where rows come from. source, licence: as the person who imports says; "": as the format."""

    format: str
    filename: str
    heldout: float  # fraction of prompts
    source: str = ""
    licence: str = ""
    campaign: str = ""  # of the votes; "": named after the set


def publish(
    staged: Staged,
    project: Project,
    set_name: str,
    source: Source,
    format: Format,
    advanced: Callable[[int], object] = lambda n: None,
) -> tuple[Import, bool]:
    """Write it all, or find the import of the same lines. Gives the import, and if it is new.

    Raises ValueError where the votes' campaign has the name of one that no import made.
    """
    origin = {
        "source": source.source or format.SOURCE,
        "licence": source.licence or format.LICENCE,
    }
    with transaction.atomic():
        target, _ = PromptSet.objects.get_or_create(project=project, name=set_name, defaults=origin)
        record, new = Import.objects.get_or_create(
            set=target,
            format=source.format,
            sha256=staged.sha256,
            defaults={
                **origin,
                "filename": source.filename[:255],
                "campaign": source.campaign,
                "rows": staged.rows,
                "left_out": staged.bad,
                "prompts": 0,
                "completions": 0,
                "ballots": 0,
            },
        )
        if not new:
            return record, False
        before = _counts(target)
        writer = _Writer(record, source)
        for chunk in staged.chunks(CHUNK):
            writer.write(chunk)
            failpoints.reach("import.chunk_written")
            advanced(len(chunk))
        after = _counts(target)
        record.prompts, record.completions, record.ballots = (
            now - then for now, then in zip(after, before, strict=True)
        )
        record.save()
        failpoints.reach("import.published")
        sha256, counts = record.sha256, [record.prompts, record.completions, record.ballots]
        audit.record("import.made", record, project=project, sha256=sha256, new_rows=counts)
    return record, True


class _Writer:
    def __init__(self, record: Import, source: Source) -> None:
        self._record = record
        self._set = record.set
        self._source = source
        self._ballots = BallotWriter(record, self._identity)

    def write(self, rows: Rows) -> None:
        prompts = self._prompts(rows)
        self._completions(rows, prompts)
        casts = (
            self._ballots.cast(key, row, self._answer_ids(row), prompts[digest(row.messages)])
            for key, row in rows
        )
        self._ballots.write(cast for cast in casts if cast is not None)
        _says(self._record, Ballot, self._ballots.written)

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
        found = dict(here.values_list("digest", "id"))
        _says(self._record, Prompt, found.values())
        return found

    def _completions(self, rows: Rows, prompts: dict[str, int]) -> None:
        found = {}
        for _, row in rows:
            prompt = prompts[digest(row.messages)]
            for key, answer in zip(self._answer_ids(row), row.answers, strict=True):
                found[key] = Completion(
                    id=key,
                    prompt_id=prompt,
                    origin=answer.origin[:120],
                    text=answer.text,
                    finish_reason=answer.finish_reason,
                    sampling=answer.sampling,
                )
        Completion.objects.bulk_create(found.values(), ignore_conflicts=True)
        _says(self._record, Completion, found)

    def _answer_ids(self, row: ImportedRow) -> list[uuid.UUID]:
        """The same answer by the same writer to the same prompt of a set has the same id, unless
        the source tells two of them apart."""
        prompt = digest(row.messages)
        return [
            self._identity("answer", prompt, one.origin, one.text, *filter(None, [one.key]))
            for one in row.answers
        ]

    def _identity(self, *parts: str) -> uuid.UUID:
        return uuid.uuid5(IDENTITIES, "\0".join([str(self._set.pk), *parts]))


def _says(record: Import, model: type[Model], keys: Iterable[object]) -> None:
    """Keep what an import says, each thing once."""
    name = model._meta.model_name
    through = getattr(Import, f"says_{name}s").through
    through.objects.bulk_create(
        [through(**{"import_id": record.pk, f"{name}_id": key}) for key in keys],
        ignore_conflicts=True,
    )


def _counts(target: PromptSet) -> tuple[int, int, int]:
    return (
        Prompt.objects.filter(set=target).count(),
        Completion.objects.filter(prompt__set=target).count(),
        Ballot.objects.filter(comparison__prompt__set=target).count(),
    )
