"""What a generation's writer is told of the ones before: the database's rows as `align.icpl.prompt`
has them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from django.utils.crypto import salted_hmac

from align.icpl import prompt
from align.jobs import Message
from plumbline.collect.models import Ballot, Campaign
from plumbline.evolve.models import Evolution, Generation, PanelPrompt, Program, Stage
from plumbline.loop import campaigns

EXAMPLES = 6  # prompts that the writer sees, none of them hidden


def before(generation: Generation) -> Generation | None:
    """The last generation that ended with a good program."""
    return (
        generation.evolution.generations.filter(stage=Stage.DONE, number__lt=generation.number)
        .select_related("good__generation", "also_good__generation", "bad__generation")
        .order_by("-number")
        .first()
    )


def goods(generation: Generation) -> list[Program]:
    """Its good program, and the other where rankings did not tell two apart."""
    return [one for one in (generation.good, generation.also_good) if one is not None]


def messages(generation: Generation) -> list[Message]:
    """The three messages, before each arm's own emphasis."""
    evolution = generation.evolution
    shown = evolution.panel.exclude(role__in=PanelPrompt.UNSEEN).select_related("prompt")
    asked = [str(one.prompt.messages[-1]["content"])[:300] for one in shown[:EXAMPLES]]
    head = prompt.first(evolution.task, asked)
    last = before(generation)
    content = prompt.opening() if last is None else _third(generation, last)
    return [*head, {"role": "user", "content": content}]


def _third(generation: Generation, last: Generation) -> str:
    assert last.bad is not None
    good = [_candidate(one, last, "good") for one in goods(last)]
    said = comments(last.campaign)
    return prompt.third(
        good,
        _candidate(last.bad, last, "bad"),
        _past(generation.evolution, last),
        said,
        nonce=_nonce(generation, said),
    )


def comments(campaign: Campaign | None) -> list[str]:
    """What raters wrote beside their rankings, and the reasons they chose; in a fixed order."""
    if campaign is None:
        return []
    found = []
    said = campaigns.evidence(campaign.comparisons.all()).filter(outcome__in=VOTED)
    for ballot in said.order_by("comparison_id", "cast_at", "pk"):
        words = "; ".join([*map(str, ballot.reasons), ballot.comment.strip()]).strip("; ")
        if words:
            found.append(words)
    random.Random(len(found)).shuffle(found)  # so that no prompt's words always come first
    return found


VOTED = (Ballot.Outcome.RANKED, Ballot.Outcome.ALL_BAD)


def _candidate(one: Program, at: Generation, word: str) -> prompt.Candidate:
    return prompt.Candidate(f"iteration {at.number}, {word}", one.reward, one.report)


def _past(evolution: Evolution, last: Generation) -> list[prompt.Past]:
    """Earlier generations and how the last one's good program came about; the reports of `last`
    stand below, with its programs."""
    done = evolution.generations.filter(stage=Stage.DONE, number__lte=last.number)
    found = []
    for one in done.select_related("good").order_by("number"):
        report = one.figures.get("report", {}) if one.pk != last.pk else {}
        found.append(prompt.Past(one.number, report, one.difference, one.sentence))
    return found if len(found) > 1 else []


def _nonce(generation: Generation, said: Sequence[str]) -> str:
    """What nobody who wrote one of the comments knows, and a resumed generation finds again."""
    whole = f"{generation.evolution.project_id}:{generation.pk}:{said}"
    return salted_hmac("plumbline.evolve.telling", whole).hexdigest()[:12]
