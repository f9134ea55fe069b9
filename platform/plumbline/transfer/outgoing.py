"""What leaves: comparisons with the votes on them, read in pages, so that memory stays bounded.

Each page is a few short queries, never one that stays open: a slow download holds no lock and no
transaction. Gold, repeats and training comparisons stay here unless they are asked for by a format
that is not for training. Everything that stays is counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.utils.crypto import salted_hmac

from align.jobs import Message
from plumbline.accounts.models import Project, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison, Completion
from plumbline.policies.models import Policy
from plumbline.transfer.options import ALL, Options

PAGE = 200  # comparisons
TRAINING_KINDS = (Comparison.Kind.ORDINARY, Comparison.Kind.LIVE)


@dataclass(frozen=True)
class Selection:
    """Of one project: some campaigns or all, and with `round` exactly the votes that it froze."""

    project: Project
    campaigns: tuple[int, ...] = ()
    round: int | None = None

    def comparisons(self) -> QuerySet[Comparison]:
        found = Comparison.objects.filter(campaign__project=self.project)
        return found.filter(campaign__in=self.campaigns) if self.campaigns else found

    def ballots(self, comparisons: QuerySet[Comparison], revisions: bool) -> QuerySet[Ballot]:
        """What was said on them and leaves."""
        if self.round is not None:
            return Ballot.objects.filter(comparison__in=comparisons, rounds=self.round)
        if revisions:
            return Ballot.objects.filter(comparison__in=comparisons).exclude(outcome="")
        return queue.standing(comparisons)


@dataclass(frozen=True)
class Item:
    """A comparison and the votes on it that leave, oldest revisions first."""

    comparison: Comparison
    answers: dict[int, Completion]  # by slot
    ballots: list[Ballot]
    page: Page

    @property
    def messages(self) -> list[Message]:
        return cast(list[Message], self.comparison.prompt.messages)

    @property
    def texts(self) -> dict[int, str]:
        return {slot: answer.text for slot, answer in self.answers.items()}


@dataclass
class Export:
    """One export under way. `left` counts what stays here, by reason."""

    selection: Selection
    options: Options
    left: Counter[str] = field(default_factory=Counter)
    seen: int = 0  # comparisons so far
    # What rows name over and over, looked up once each.
    _campaigns: dict[int, Campaign] = field(default_factory=dict)
    _people: dict[int, User] = field(default_factory=dict)
    _guidelines: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _rounds: dict[int, dict[str, Any]] = field(default_factory=dict)

    def items(self, most: int | None = None) -> Iterator[Item]:
        """Comparisons with votes in the order of their ids, at most the first `most`."""
        wanted = self._voted().select_related("prompt").order_by("pk")
        last = 0
        while most is None or self.seen < most:
            room = PAGE if most is None else min(PAGE, most - self.seen)
            page = Page(self, list(wanted.filter(pk__gt=last)[:room]))
            if not page.comparisons:
                return
            last = page.comparisons[-1].pk
            self.seen += len(page.comparisons)
            yield from page.items()

    def stays(self, comparison: Comparison) -> str:
        """Why a comparison is left out whatever was said on it; "" for one that is not."""
        if comparison.kind not in TRAINING_KINDS and not self.options.quality:
            return f"{comparison.get_kind_display().lower()} comparisons: never training data"
        if self.options.split not in (ALL, comparison.prompt.split):
            return f"comparisons on {comparison.prompt.get_split_display().lower()} prompts"
        return ""

    def total(self, most: int) -> int:
        """How many comparisons `items` would go through, counted up to `most`."""
        return self._voted()[:most].count()

    def _voted(self) -> QuerySet[Comparison]:
        said = Ballot.objects.filter(comparison=OuterRef("pk")).exclude(outcome="")
        if self.selection.round is not None:
            said = said.filter(rounds=self.selection.round)
        return self.selection.comparisons().filter(Exists(said))

    @cached_property
    def policies(self) -> dict[UUID, Policy]:
        found = Policy.objects.filter(project=self.selection.project)
        return {policy.pk: policy for policy in found.only("name", "sha256")}

    def campaign(self, comparison: Comparison) -> Campaign:
        pk = comparison.campaign_id
        if pk not in self._campaigns:
            self._campaigns[pk] = Campaign.objects.get(pk=pk)
        return self._campaigns[pk]

    def person(self, pk: int) -> User:
        if pk not in self._people:
            self._people[pk] = User.objects.only("username", "kind").get(pk=pk)
        return self._people[pk]

    def annotator(self, pk: int) -> str:
        """The user name where names are asked for, else the same made-up one in every export."""
        if self.options.names:
            return self.person(pk).username
        project = self.selection.project.pk
        return salted_hmac("plumbline.transfer.annotator", f"{project}/{pk}").hexdigest()[:16]

    def guidelines_version(self, campaign: Campaign, settings_version: int) -> int | None:
        """The version of the settings in which the guidelines of this one were written; None where
        the campaign has kept no versions."""
        if campaign.pk not in self._guidelines:
            self._guidelines[campaign.pk] = _guideline_versions(campaign)
        written = [
            since for number, since in self._guidelines[campaign.pk] if number <= settings_version
        ]
        return written[-1] if written else None

    def round(self, pk: int) -> dict[str, Any]:
        """A round that a vote went into: its id, its experiment and its number there."""
        if pk not in self._rounds:
            found = Ballot.rounds.rel.related_model.objects.filter(pk=pk)  # type: ignore[attr-defined]
            values = found.values("id", "number", "experiment__name").get()
            values["experiment"] = values.pop("experiment__name")
            self._rounds[pk] = values
        return self._rounds[pk]


class Page:
    """A few comparisons and what belongs to them."""

    def __init__(self, export: Export, comparisons: Sequence[Comparison]) -> None:
        self.export, self.comparisons = export, comparisons

    def items(self) -> Iterator[Item]:
        kept = []
        for comparison in self.comparisons:
            reason = self.export.stays(comparison)
            if reason:
                self.export.left[reason] += 1
            else:
                kept.append(comparison)
        said = self._said(kept)
        answers = self._answers(kept)
        for comparison in kept:
            ballots = said.get(comparison.pk)
            if ballots:
                yield Item(comparison, answers[comparison.pk], ballots, self)
            else:
                self.export.left["comparisons whose votes were skipped or taken back"] += 1

    # Rows are put together by hand, because prefetching ties them into cycles, which stay in memory
    # until the garbage collector comes by.

    def _said(self, comparisons: Sequence[Comparison]) -> dict[int, list[Ballot]]:
        here = Comparison.objects.filter(pk__in=[one.pk for one in comparisons])
        ballots = self.export.selection.ballots(here, self.export.options.revisions)
        found: dict[int, list[Ballot]] = {}
        for ballot in ballots.order_by("comparison_id", "annotator_id", "revision"):
            found.setdefault(ballot.comparison_id, []).append(ballot)
        return found

    def _answers(self, comparisons: Sequence[Comparison]) -> dict[int, dict[int, Completion]]:
        slots = Candidate.objects.filter(comparison__in=[one.pk for one in comparisons])
        loaded = slots.select_related("completion").defer("completion__token_ids")
        found: dict[int, dict[int, Completion]] = {}
        for slot in loaded.order_by("comparison_id", "slot"):
            found.setdefault(slot.comparison_id, {})[slot.slot] = slot.completion
        return found

    @cached_property
    def _ids(self) -> list[int]:
        return [comparison.pk for comparison in self.comparisons]

    @cached_property
    def rounds(self) -> dict[UUID, list[int]]:
        """By ballot, the rounds that trained on it."""
        through = Ballot.rounds.through.objects.filter(ballot__comparison__in=self._ids)
        found: dict[UUID, list[int]] = {}
        for ballot, round in through.order_by("round_id").values_list("ballot_id", "round_id"):
            found.setdefault(ballot, []).append(round)
        return found

    def stands(self, ballot: Ballot) -> bool:
        """Whether a ballot that leaves counts at present."""
        export = self.export
        if export.selection.round is None and not export.options.revisions:
            return True  # no other leaves
        return ballot.pk in self._standing

    @cached_property
    def _standing(self) -> set[UUID]:
        here = queue.standing(Comparison.objects.filter(pk__in=self._ids))
        return set(here.values_list("pk", flat=True))


def _guideline_versions(campaign: Campaign) -> list[tuple[int, int]]:
    """(number of a version, number of the one its guidelines come from), in order."""
    found: list[tuple[int, int]] = []
    text: object = None
    versions = campaign.versions.order_by("number").values_list("number", "settings__guidelines")
    for number, guidelines in versions:
        since = found[-1][1] if found and guidelines == text else number
        found.append((number, since))
        text = guidelines
    return found
