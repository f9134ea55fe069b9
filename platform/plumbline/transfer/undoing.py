"""Taking an import back: what it says, unless another import says it too or something uses it.

Votes go first, then comparisons without votes, answers and prompts that nothing refers to, and what
is left empty of the set and its campaigns. Refused when a round has trained on one of the votes: a
frozen list of ballots never loses any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from plumbline.accounts.models import User
from plumbline.audit import record as audit
from plumbline.collect.models import Ballot, Campaign, Comparison, Completion, Prompt, PromptSet
from plumbline.transfer.models import Import

CHUNK = 500
Key = TypeVar("Key")


@dataclass(frozen=True)
class Undone:
    """How many of each went; `kept` answers and prompts stay, because something else uses them."""

    ballots: int
    completions: int
    prompts: int
    kept: int


def refusal(record: Import) -> str:
    """Why an import cannot be undone; "" when it can."""
    frozen = record.says_ballots.filter(rounds__isnull=False).distinct().count()
    if frozen:
        votes = "one of its votes" if frozen == 1 else f"{frozen} of its votes"
        return f"A round has trained on {votes}; what a round froze stays."
    linked = any(
        one.exists() for one in (record.says_prompts, record.says_completions, record.says_ballots)
    )
    return "" if linked else "It was imported before it was kept what each import says."


def undo(record: Import) -> Undone:
    """All of it or nothing. Raises ValueError when it cannot be undone."""
    with transaction.atomic():
        record = Import.objects.select_for_update(of=("self",)).get(pk=record.pk)
        if why := refusal(record):
            raise ValueError(why)
        ballots = list(_alone(record.says_ballots.all(), record).values_list("pk", flat=True))
        answers = list(_alone(record.says_completions.all(), record).values_list("pk", flat=True))
        prompts = list(_alone(record.says_prompts.all(), record).values_list("pk", flat=True))
        target = record.set
        audit.record("import.undone", record, project=target.project_id, votes=len(ballots))
        _drop_votes(ballots)
        gone = _drop_unused(Completion, answers), _drop_unused(Prompt, prompts)
        record.delete()
        _drop_empty(target, record.campaign)
    kept = len(answers) + len(prompts) - sum(gone)
    return Undone(len(ballots), gone[0], gone[1], kept)


def _alone(said: QuerySet[Any], record: Import) -> QuerySet[Any]:
    """Of what an import says, what no other says."""
    link = said.model.imports.through
    name = said.model._meta.model_name
    others = link.objects.filter(**{f"{name}_id": OuterRef("pk")}).exclude(import_id=record.pk)
    return said.exclude(Exists(others))


def _drop_votes(ballots: Sequence[UUID]) -> None:
    """The ballots, then those of their comparisons on which nobody else has voted."""
    compared: set[int] = set()
    for some in _chunks(ballots):
        here = Ballot.objects.filter(pk__in=some)
        compared.update(here.values_list("comparison_id", flat=True))
        # Later revisions point at earlier ones, and that is protected.
        Ballot.objects.filter(revises__in=some).update(revises=None)
        here.delete()
    for few in _chunks(sorted(compared)):
        Comparison.objects.filter(pk__in=few, ballots=None).delete()


def _drop_unused(model: type[Model], keys: Sequence[object]) -> int:
    """Delete those that no row of any table refers to, but for imports; how many that were."""
    gone = 0
    for some in _chunks(keys):
        found = model._default_manager.filter(pk__in=some)
        for table, field in _referring(model):
            found = found.exclude(Exists(table._base_manager.filter(**{field: OuterRef("pk")})))
        unused = list(found.values_list("pk", flat=True))
        model._default_manager.filter(pk__in=unused).delete()
        gone += len(unused)
    return gone


def _referring(model: type[Model]) -> Iterator[tuple[type[Model], str]]:
    """(model, name of its field) of everything that points at rows of `model`."""
    for relation in model._meta.get_fields(include_hidden=True):
        if relation.auto_created and not relation.concrete and not relation.many_to_many:
            table: Any = relation.related_model
            if table._meta.app_label != "transfer":
                yield table, relation.field.name  # type: ignore[union-attr]


def _drop_empty(target: PromptSet, chosen: str) -> None:
    """Closed campaigns of imports and voters without a vote; the set if nothing uses it. `chosen`:
    the campaign's name, if a person gave it one."""
    named = Q(name__startswith=f"{target.name}: imported ")
    if chosen:
        named |= Q(name=chosen) | Q(name__startswith=f"{chosen}: ")
    campaigns = Campaign.objects.filter(
        named, project=target.project, comparisons=None, closed_at__isnull=False
    )
    _drop_unused(Campaign, list(campaigns.values_list("pk", flat=True)))
    voters = User.objects.filter(
        kind=User.Kind.IMPORT,
        username__startswith=f"import-{target.project.slug}-",
        ballots=None,
    )
    _drop_unused(User, list(voters.values_list("pk", flat=True)))
    if not target.imports.exists():
        _drop_unused(PromptSet, [target.pk])


def _chunks(keys: Iterable[Key]) -> Iterator[list[Key]]:
    left = iter(keys)
    while some := list(islice(left, CHUNK)):
        yield some
