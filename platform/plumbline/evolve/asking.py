"""A generation's picks before people: one comparison a prompt, each different answer one card.

It is a campaign like any other, with its ballot page, its queue and its raters; who picked what is
nowhere on it. Where a judge ranks instead, it is asked about every pair of a prompt's cards, and
its ballots are cast under its own name.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.utils import timezone

from plumbline.collect import queue
from plumbline.collect.models import Campaign, Completion
from plumbline.collect.origins import ICPL
from plumbline.collect.strategy import Picked
from plumbline.evolve import checking, judging, matching, panel
from plumbline.evolve.models import Evolution, Generation, PanelPrompt, Pick, Program
from plumbline.loop import campaigns

Role = PanelPrompt.Role
GUIDELINES = """\
Put the answers in order, the one you like best first. Answers that you like equally may share a
place; where there are many, say only which is the best and which is the worst. If you cannot tell,
skip. What is wanted:

"""


def wanted_prompts(generation: Generation) -> int:
    """Card sets that a generation begins with."""
    return generation.evolution.chosen_prompts


def opened(generation: Generation) -> None:
    """Open the generation's campaign, and the comparisons of as many prompts as were decided, once
    each. Raises ValueError where there is nothing to compare."""
    evolution = generation.evolution
    with transaction.atomic():
        if generation.campaign is None:
            matching.decide(generation)
            generation.campaign = Campaign.objects.create(
                project=evolution.project,
                name=f"Reward programs: {evolution.name}, generation {generation.number}"[:120],
                guidelines=GUIDELINES + evolution.task,
                overlap=evolution.overlap,
            )
            generation.asked_prompts = wanted_prompts(generation)
            generation.save(update_fields=["campaign", "asked_prompts"])
        made = _card_sets(generation)
        Program.objects.filter(
            pk__in=[one.pk for one in checking.contenders(generation)],
            status=Program.Status.VALIDATED,
        ).update(status=Program.Status.SHOWN)
    if not made:
        raise ValueError(
            "All programs pick the same answer to every prompt, so there is nothing to rank. The "
            "pool is too narrow: begin a session with a higher temperature or more answers."
        )


def ask_more(generation: Generation, more: int) -> bool:
    """Decide on that many further prompts, as far as there are spare ones; False where none is
    left. `opened` then adds their comparisons."""
    evolution = generation.evolution
    most = evolution.chosen_prompts + evolution.spare_prompts
    decided = min(generation.asked_prompts + more, most)
    if decided == generation.asked_prompts:
        return False
    generation.asked_prompts = decided
    generation.save(update_fields=["asked_prompts"])
    return True


def ranked(generation: Generation) -> bool:
    """Whether the rankings that were asked for are there, or a researcher has seen enough."""
    campaign, rater = generation.campaign, generation.evolution.rater
    assert campaign is not None
    if campaign.closed_at is not None:
        return True
    if rater is not None:
        return judging.ranked(generation, campaign, rater)
    return queue.complete(campaign)


def open_hidden(evolution: Evolution) -> None:
    """One pair of different answers to each hidden prompt, once a session: what programs are held
    against, and no writer hears of. Its votes train nothing."""
    if evolution.hidden_campaign is not None or not evolution.hidden_prompts:
        return
    rng = random.Random(f"hidden:{evolution.seed}")
    pairs = []
    for pool in panel.pools(evolution):
        answers = pool.texts
        if pool.role == Role.HIDDEN and len(answers) > 1:
            pairs.append((pool, rng.sample(answers, 2)))
    with transaction.atomic():
        campaign = Campaign.objects.create(
            project=evolution.project,
            name=f"Reward programs: {evolution.name}, hidden pairs"[:120],
            guidelines=f"Which answer is better? What is wanted:\n\n{evolution.task}",
            purpose=Campaign.Purpose.EVALUATE,
            overlap=evolution.overlap,
        )
        for pool, answers in pairs:
            why = {"source": ICPL, "hidden": True}
            campaigns.compare(campaign, pool.prompt.pk, Picked(tuple(answers), 1.0, why), ICPL)
        evolution.hidden_campaign = campaign
        evolution.save(update_fields=["hidden_campaign"])


def close(campaigns_: Iterable[Campaign | None]) -> None:
    """Ask nothing more; what was said stays."""
    now = timezone.now()
    for one in campaigns_:
        if one is not None:
            Campaign.objects.filter(pk=one.pk, closed_at=None).update(closed_at=now)


def pending(generation: Generation) -> bool:
    """Whether comparisons were decided on that the campaign does not have yet."""
    assert generation.campaign is not None
    there = set(generation.campaign.comparisons.values_list("prompt_id", flat=True))
    return any(prompt not in there for prompt, _ in _decided(generation))


def cards(generation: Generation) -> dict[int, dict[Any, list[int]]]:
    """By prompt, each picked answer with the programs that picked it, in the order of arms; of
    answers of like length alone, where that was decided."""
    if generation.length_ratio is not None:
        return matching.matched(generation, generation.length_ratio)
    arms = [one.pk for one in checking.contenders(generation)]
    by_prompt: dict[int, dict[Any, list[int]]] = {}
    found = Pick.objects.filter(program__in=arms).order_by("program_id")
    for prompt, answer, program in found.values_list("prompt_id", "completion_id", "program_id"):
        by_prompt.setdefault(prompt, {}).setdefault(answer, []).append(program)
    return by_prompt


def _card_sets(generation: Generation) -> int:
    """Comparisons that the campaign has, the missing ones added."""
    campaign = generation.campaign
    assert campaign is not None
    there = set(campaign.comparisons.values_list("prompt_id", flat=True))
    for prompt, picked in _decided(generation):
        if prompt in there:
            continue
        answers = list(Completion.objects.filter(pk__in=picked).order_by("draw", "pk"))
        random.Random(f"{generation.pk}:{prompt}").shuffle(answers)
        why = {"source": ICPL, "generation": generation.number, "selection_biased": True}
        campaigns.compare(campaign, prompt, Picked(tuple(answers), 1.0, why), ICPL)
        there.add(prompt)
    return len(there)


def _decided(generation: Generation) -> list[tuple[int, list[Any]]]:
    """Prompts whose picks are to be ranked, and their different answers; prompts to which all
    programs pick the same are left out."""
    shown = [one for one in generation.evolution.panel.all() if one.role not in PanelPrompt.UNSEEN]
    by_prompt = cards(generation)
    asked = [one.prompt_id for one in shown[: generation.asked_prompts]]
    return [(one, list(by_prompt[one])) for one in asked if len(by_prompt.get(one, {})) > 1]
