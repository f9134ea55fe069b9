"""Gold made from a campaign's own comparisons: an answer with a broken copy of it, or with itself.

Planted prompts and answers live in a prompt set of their own, so that nothing that samples, teaches
or trains can come across them. One in four is a duplicate, which should be called a tie: the broken
ones catch those who do not read, the duplicates those who always prefer something. Of three answers
or more the copy takes the place of another, and nothing is expected of the rest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet

from plumbline.collect import asking
from plumbline.collect.models import (
    Ballot,
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.collect.votes import COUNTED

EVERYBODY = 32_767  # people wanted on a gold comparison: all who come by it
ORIGIN = "planted"
DUPLICATES = 4  # one in so many is a duplicate
SHORT = 12  # words that a text takes to be broken by shuffling or cutting
KEPT = 0.2  # share of the words that a cut leaves


def why_not(campaign: Campaign) -> str:
    """Why nothing can be planted here, in a sentence; "" where something can."""
    if not {asking.COMPARE, asking.RATE} & set(campaign.asks):
        return (
            "People neither compare nor rate here, so no answer of theirs can be known before. "
            "Training comparisons with an explanation are the way to show what is wanted."
        )
    if not _unused(campaign).exists():
        return (
            "Every comparison that could be used has been, or there is none: known ones are made "
            f"of two to {_most(campaign)} answers side by side."
        )
    return ""


@transaction.atomic
def plant(campaign: Campaign, wanted: int, draw: random.Random) -> list[Comparison]:
    """So many gold comparisons from those of the campaign that were not used for one yet.

    Raises ValueError with a sentence where there are none.
    """
    if problem := why_not(campaign):
        raise ValueError(problem)
    chosen = _chosen(campaign, wanted, draw)
    prompts, _ = PromptSet.objects.get_or_create(
        project=campaign.project,
        name=f"Known comparisons {campaign.pk}",
        defaults={"source": f"Planted in {campaign.name}"[:200]},
    )
    begun = Comparison.objects.filter(campaign=campaign, prompt__set=prompts).count()
    made = []
    for number, one in enumerate(chosen, start=begun):
        texts = [slot.completion.text for slot in one.slots.all()]
        elsewhere = [
            s.completion.text for other in chosen if other != one for s in other.slots.all()
        ]
        intact = max(texts, key=len)  # a longer answer can be broken more plainly
        rest = [text for at, text in enumerate(texts) if at != texts.index(intact)]
        rest.pop(draw.randrange(len(rest)))  # whose place the copy takes
        if number % DUPLICATES == DUPLICATES - 1:
            copy, how = intact, "duplicate"
        else:
            copy, how = broken_copy(intact, elsewhere, draw)
        made.append(_store(campaign, prompts, one, [intact, copy, *rest], how, draw))
    return made


def broken_copy(text: str, elsewhere: Sequence[str], draw: random.Random) -> tuple[str, str]:
    """A plainly worse answer, and how it was made: shuffled, cut short, or about something else."""
    words = text.split()
    ways = ["shuffled", "cut short"] if len(words) >= SHORT else []
    if different := [one for one in elsewhere if one.strip() != text.strip()]:
        ways.append("off topic")
    match draw.choice(ways or ["reversed"]):
        case "shuffled":
            draw.shuffle(words)
            return " ".join(words), "shuffled"
        case "cut short":
            return " ".join(words[: max(2, int(KEPT * len(words)))]), "cut short"
        case "off topic":
            return draw.choice(different), "off topic"
        case _:
            return " ".join(reversed(words)) if len(words) > 1 else "…", "reversed"


def _most(campaign: Campaign) -> int:
    """Answers side by side of which one can be known to be worse. Of more than six people name the
    best and the worst alone, so two that are known may rightly be left between."""
    return 6 if asking.COMPARE in campaign.asks else 9


def _unused(campaign: Campaign) -> QuerySet[Comparison]:
    """Asked in earnest, nobody's flagged ones, whose prompt has no planted copy yet."""
    used = Comparison.objects.filter(campaign=campaign, kind=Comparison.Kind.GOLD)
    return (
        Comparison.objects.filter(campaign=campaign, kind__in=COUNTED, retired_at=None)
        .exclude(prompt__digest__in=used.values("prompt__digest"))
        .exclude(ballots__outcome=Ballot.Outcome.FLAGGED)
        .annotate(answers=Count("slots", distinct=True))
        .filter(answers__gte=2, answers__lte=_most(campaign))
    )


def _chosen(campaign: Campaign, wanted: int, draw: random.Random) -> list[Comparison]:
    ids = list(_unused(campaign).values_list("pk", flat=True)[: 20 * wanted])
    chosen = draw.sample(ids, min(wanted, len(ids)))
    return list(
        Comparison.objects.filter(pk__in=chosen)
        .select_related("prompt")
        .prefetch_related("slots__completion")
        .order_by("pk")
    )


def _store(
    campaign: Campaign,
    prompts: PromptSet,
    original: Comparison,
    texts: Sequence[str],
    how: str,
    draw: random.Random,
) -> Comparison:
    """texts: the intact one, its copy, and others as they were, of which nothing is expected."""
    prompt, _ = Prompt.objects.get_or_create(
        set=prompts,
        digest=original.prompt.digest,
        defaults={"messages": original.prompt.messages, "split": Prompt.Split.HELDOUT},
    )
    slots = draw.sample(range(len(texts)), len(texts))  # the slots say nothing either
    intact, copy = slots[:2]
    order = [sorted((intact, copy))] if how == "duplicate" else [[intact], [copy]]
    made = Comparison.objects.create(
        campaign=campaign,
        prompt=prompt,
        kind=Comparison.Kind.GOLD,
        strategy=ORIGIN,
        overlap=EVERYBODY,
        expected=_expected(campaign, order),
        why={"planted": how, "from": original.pk},
    )
    origins = ["intact", how, *["as it was"] * (len(texts) - 2)]
    for slot, text, origin in zip(slots, texts, origins, strict=True):
        completion = Completion.objects.create(
            prompt=prompt, origin=f"{ORIGIN}: {origin}", text=text
        )
        Candidate.objects.create(comparison=made, completion=completion, slot=slot)
    return made


def _expected(campaign: Campaign, order: list[list[int]]) -> dict[str, Any]:
    """What two answers should be called: in a ranking, or where people only rate, by the mean of
    their ratings."""
    if asking.COMPARE in campaign.asks:
        return {"outcome": Ballot.Outcome.RANKED.value, "ranking": order}
    return {"outcome": Ballot.Outcome.ABSOLUTE.value, "ranking": [], "rated": order}
