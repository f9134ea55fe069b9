"""Gold made from a campaign's own pairs: an answer beside a broken copy of it, or beside itself.

Planted prompts and answers live in a prompt set of their own, so that nothing that samples, teaches
or trains can come across them. One in four is a duplicate, which should be called a tie: the broken
ones catch those who do not read, the duplicates those who always prefer something.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Count

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


@transaction.atomic
def plant(campaign: Campaign, wanted: int, draw: random.Random) -> list[Comparison]:
    """So many gold comparisons from pairs of the campaign that were not used for one yet.

    Raises ValueError where there are none: rankings and ratings take gold that a person writes.
    """
    pairs = _unused(campaign, wanted, draw)
    if not pairs:
        raise ValueError(
            "Every pair of this campaign has been used for a known comparison, or there are none."
        )
    prompts, _ = PromptSet.objects.get_or_create(
        project=campaign.project,
        name=f"Known comparisons {campaign.pk}",
        defaults={"source": f"Planted in {campaign.name}"[:200]},
    )
    begun = Comparison.objects.filter(campaign=campaign, prompt__set=prompts).count()
    made = []
    for number, pair in enumerate(pairs, start=begun):
        texts = [slot.completion.text for slot in pair.slots.all()]
        elsewhere = [
            s.completion.text for other in pairs if other != pair for s in other.slots.all()
        ]
        intact = max(texts, key=len)  # a longer answer can be broken more plainly
        if number % DUPLICATES == DUPLICATES - 1:
            made.append(_store(campaign, prompts, pair, intact, intact, "duplicate", draw))
        else:
            broken, how = broken_copy(intact, elsewhere, draw)
            made.append(_store(campaign, prompts, pair, intact, broken, how, draw))
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


def _unused(campaign: Campaign, wanted: int, draw: random.Random) -> list[Comparison]:
    """Pairs asked in earnest, nobody's flagged ones, whose prompt has no planted copy yet."""
    used = Comparison.objects.filter(campaign=campaign, kind=Comparison.Kind.GOLD)
    pairs = (
        Comparison.objects.filter(campaign=campaign, kind__in=COUNTED, retired_at=None)
        .exclude(prompt__digest__in=used.values("prompt__digest"))
        .exclude(ballots__outcome=Ballot.Outcome.FLAGGED)
        .annotate(answers=Count("slots", distinct=True))
        .filter(answers=2)
    )
    ids = list(pairs.values_list("pk", flat=True)[: 20 * wanted])
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
    pair: Comparison,
    intact: str,
    other: str,
    how: str,
    draw: random.Random,
) -> Comparison:
    prompt, _ = Prompt.objects.get_or_create(
        set=prompts,
        digest=pair.prompt.digest,
        defaults={"messages": pair.prompt.messages, "split": Prompt.Split.HELDOUT},
    )
    texts = [(intact, f"{ORIGIN}: intact"), (other, f"{ORIGIN}: {how}")]
    best = draw.randrange(2)  # the slot of the intact answer says nothing either
    ordered = texts if best == 0 else texts[::-1]
    ranking = [[0, 1]] if how == "duplicate" else [[best], [1 - best]]
    made = Comparison.objects.create(
        campaign=campaign,
        prompt=prompt,
        kind=Comparison.Kind.GOLD,
        strategy=ORIGIN,
        overlap=EVERYBODY,
        expected={"outcome": Ballot.Outcome.RANKED.value, "ranking": ranking},
        why={"planted": how, "from": pair.pk},
    )
    for slot, (text, origin) in enumerate(ordered):
        completion = Completion.objects.create(prompt=prompt, origin=origin, text=text)
        Candidate.objects.create(comparison=made, completion=completion, slot=slot)
    return made
