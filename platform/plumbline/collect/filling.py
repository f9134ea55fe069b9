"""Comparisons for a campaign from the answers a prompt set already has.

A strategy of `collect.selection` picks pairs; groups of three to nine are drawn evenly. Prompts
that the campaign already asks about are left out, so filling twice adds what is new. Answers that
a policy has yet to write are the business of an experiment's rounds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery

from plumbline.collect import queue, selection
from plumbline.collect.models import (
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.collect.strategy import Picked

MOST = 20_000  # comparisons at once
MOST_ANSWERS = 9
BATCH = 500  # prompts


@dataclass(frozen=True)
class Offer:
    """A prompt set as a source for a campaign: prompts not asked about yet that have answers."""

    set: PromptSet
    pairs: int  # of them with two answers or more


def strategies() -> dict[str, str]:
    """Titles by name of those that can pick without a model having looked at the answers first."""
    return {name: one.title for name, one in selection.offered().items() if not one.needs}


def offers(campaign: Campaign) -> list[Offer]:
    found = []
    for one in PromptSet.objects.filter(project=campaign.project).order_by("name"):
        if pairs := _prompts(campaign, one, 2).count():
            found.append(Offer(one, pairs))
    return found


@transaction.atomic
def fill(
    campaign: Campaign,
    source: PromptSet,
    strategy: str,
    answers: int,
    most: int,
    draw: random.Random,
) -> int:
    """Add comparisons of `answers` answers each, of `most` prompts; how many comparisons.

    Raises ValueError where there is nothing to compare or the campaign is closed.
    """
    if campaign.closed_at is not None:
        raise ValueError("This campaign is closed; reopen it before adding comparisons.")
    if not 2 <= answers <= MOST_ANSWERS:
        raise ValueError(f"Between 2 and {MOST_ANSWERS} answers can be compared at once.")
    if not 1 <= most <= MOST:
        raise ValueError(f"Between 1 and {MOST} prompts can be added at once.")
    Campaign.objects.select_for_update().get(pk=campaign.pk)  # two tabs do not add the same
    ids = list(_prompts(campaign, source, answers).values_list("pk", flat=True))
    draw.shuffle(ids)
    made = 0
    for begin in range(0, len(ids[:most]), BATCH):
        made += _store(campaign, source, strategy, answers, ids[:most][begin : begin + BATCH], draw)
    if not made:
        raise ValueError(
            f"{source} has no prompt left with {answers} different answers that this campaign "
            "does not ask about already."
        )
    return made


def pick(
    strategy: str, found: Sequence[Completion], answers: int, draw: random.Random
) -> list[Picked]:
    """What to ask about one prompt's answers; nothing where too few of them differ."""
    if answers == 2:
        return selection.choose(strategy, found, draw)
    several = selection.different(found)
    if len(several) < answers:
        return []
    return [Picked(tuple(draw.sample(several, answers)), 1 / comb(len(several), answers))]


def _prompts(campaign: Campaign, source: PromptSet, least: int) -> QuerySet[Prompt]:
    """Prompts of the split that the campaign's purpose allows, with so many answers or more."""
    training = campaign.purpose == Campaign.Purpose.TRAIN
    split = Prompt.Split.TRAIN if training else Prompt.Split.HELDOUT
    asked = Comparison.objects.filter(campaign=campaign, prompt=OuterRef("pk"))
    there = Completion.objects.filter(prompt=OuterRef("pk")).order_by().values("prompt")
    return (
        Prompt.objects.filter(~Exists(asked), set=source, split=split)
        .alias(answers=Subquery(there.annotate(n=Count("pk")).values("n")))
        .filter(answers__gte=least)
        .order_by("pk")
    )


def _store(
    campaign: Campaign,
    source: PromptSet,
    strategy: str,
    answers: int,
    prompts: Sequence[int],
    draw: random.Random,
) -> int:
    by_prompt: dict[int, list[Completion]] = {pk: [] for pk in prompts}
    for answer in Completion.objects.filter(prompt__in=prompts).order_by("created_at", "pk"):
        by_prompt[answer.prompt_id].append(answer)
    picked = list(_picked(by_prompt, strategy, answers, draw))
    made = Comparison.objects.bulk_create(
        Comparison(
            campaign=campaign,
            prompt_id=prompt,
            strategy=strategy if answers == 2 else "random",
            p_select=one.p_select,
            why={"from": source.name, **one.why},
            expires_at=queue.goes_stale_at(campaign),
        )
        for prompt, one in picked
    )
    Candidate.objects.bulk_create(
        Candidate(comparison=comparison, completion=answer, slot=slot)
        for comparison, (_, one) in zip(made, picked, strict=True)
        for slot, answer in enumerate(one.answers)
    )
    return len(made)


def _picked(
    by_prompt: dict[int, list[Completion]], strategy: str, answers: int, draw: random.Random
) -> Iterator[tuple[int, Picked]]:
    for prompt, found in by_prompt.items():
        for one in pick(strategy, found, answers, draw):
            yield prompt, one
