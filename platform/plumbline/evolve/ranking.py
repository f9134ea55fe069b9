"""From rankings of answers to an order of programs: the standing, who is good and bad, reports.

Everything is worked out from ballots that stand, as often as anybody looks; only at the end of a
generation is what the next one builds on written down.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from align.icpl import arms, traces
from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.evolve import asking, checking, matching, panel
from plumbline.evolve.models import Generation, Program, ProgramScore
from plumbline.loop import campaigns, rows

Status = Program.Status
Places = dict[Any, int]  # an answer's id -> its place, 0 the best


def said(campaign: Campaign) -> list[tuple[Comparison, list[Ballot]]]:
    """Standing rankings by comparison."""
    found = campaigns.evidence(campaign.comparisons.all()).filter(outcome=Ballot.Outcome.RANKED)
    return list(rows.by_comparison(found.order_by("comparison_id", "annotator_id", "revision")))


def rankings(generation: Generation) -> list[arms.Ranking]:
    """Every ballot as an order of programs; raters of one prompt share its weight of 1."""
    assert generation.campaign is not None
    by_prompt = asking.cards(generation)
    found = []
    for comparison, ballots in said(generation.campaign):
        picked = by_prompt.get(comparison.prompt_id, {})
        at = {slot.slot: slot.completion_id for slot in comparison.slots.all()}
        for ballot in ballots:
            groups = [
                tuple(arm for slot in group for arm in picked.get(at.get(slot), ()))
                for group in ballot.ranking
            ]
            told = tuple(group for group in groups if group)
            found.append(arms.Ranking(str(comparison.prompt_id), told, 1 / len(ballots)))
    return found


def standing(generation: Generation) -> arms.Standing:
    """The order of the programs as the ballots have it now."""
    names = [one.pk for one in checking.contenders(generation)]
    return arms.standing(rankings(generation), names, seed=generation.number)


@transaction.atomic
def settle(generation: Generation, now: arms.Standing) -> None:
    """Write down who is good and who is bad, and the report of everybody."""
    programs = {one.pk: one for one in checking.contenders(generation)}
    good, second, bad = now.order[0], now.order[1], now.order[-1]
    generation.good = programs[good]
    generation.also_good = None
    if not now.sure and second != bad:
        generation.also_good = programs[second]
    generation.bad = programs[bad]
    reports = report(generation, programs.values())
    for pk, one in programs.items():
        one.report = reports[pk]
        if one.generation_id == generation.pk:
            likes = (generation.good.pk, generation.also_good.pk if generation.also_good else 0)
            one.status = Status.GOOD if pk in likes else Status.BAD if pk == bad else Status.NEUTRAL
        one.save(update_fields=["report", "status"])
    generation.figures = {
        **generation.figures,
        "order": list(now.order),
        "strengths": {str(pk): value for pk, value in now.strengths.items()},
        "ahead": now.ahead,
        "prompts": now.prompts,
        "rankings": len(rankings(generation)),
        "report": reports[good],
        "cards": matching.shown(_said_of(generation)),
    }
    generation.save(update_fields=["good", "also_good", "bad", "figures"])


def report(generation: Generation, programs: Iterable[Program]) -> dict[int, dict[str, Any]]:
    """By program, what `traces.report` says, on the prompts that are not hidden."""
    pools = [one for one in panel.pools(generation.evolution) if one.role != "hidden"]
    said_of = _said_of(generation)
    found = {}
    for program in programs:
        scores = {one.completion_id: one for one in ProgramScore.objects.filter(program=program)}
        scored: dict[int, list[tuple[Any, ProgramScore, int]]] = {}
        for pool in pools:
            first = {one.text: scores[one.pk] for one in pool.texts if one.pk in scores}
            scored[pool.prompt.pk] = [
                (one.pk, first[one.text], checking.tokens(one))
                for one in pool.draws
                if one.text in first
            ]
        found[program.pk] = _report(scored, said_of)
    return found


def _report(
    scored: dict[int, list[tuple[Any, ProgramScore, int]]], said_of: list[tuple[int, Places]]
) -> dict[str, Any]:
    pool = {
        str(prompt): [traces.Scored(one.total, one.components, tokens) for _, one, tokens in some]
        for prompt, some in scored.items()
    }
    shown = []
    for prompt, places in said_of:
        index = {key: k for k, (key, _, _) in reversed(list(enumerate(scored[prompt])))}
        at = {index[key]: place for key, place in places.items() if key in index}
        if at:
            shown.append(traces.Shown(str(prompt), at))
    return traces.report(pool, shown)


def hidden_accuracy(program: Program, campaign: Campaign | None) -> tuple[float, int] | None:
    """How many of the hidden pairs the program orders as most raters do, half for a tie, and of how
    many; None where nothing was said yet. The writer never hears of it."""
    if campaign is None:
        return None
    scores = dict(
        ProgramScore.objects.filter(program=program).values_list("completion_id", "total")
    )
    right, count = 0.0, 0
    for comparison, ballots in said(campaign):
        slots = [slot.completion_id for slot in comparison.slots.all()]
        if not scores.keys() >= set(slots):
            continue
        gap = scores[slots[0]] - scores[slots[1]]
        lean = sum(_lean(ballot) for ballot in ballots)
        if lean:
            count += 1
            right += 0.5 if not gap else float((gap > 0) == (lean > 0))
    return (right, count) if count else None


def _lean(ballot: Ballot) -> int:
    """1 for the first slot, -1 for the second, 0 for a tie."""
    place = {slot: at for at, group in enumerate(ballot.ranking) for slot in group}
    return (place[1] > place[0]) - (place[1] < place[0])


def _said_of(generation: Generation) -> list[tuple[int, Places]]:
    """By ballot: the prompt, and each shown answer's place."""
    assert generation.campaign is not None
    found = []
    for comparison, ballots in said(generation.campaign):
        at = {slot.slot: slot.completion_id for slot in comparison.slots.all()}
        for ballot in ballots:
            groups = enumerate(ballot.ranking)
            places = {at[slot]: place for place, group in groups for slot in group}
            found.append((comparison.prompt_id, places))
    return found
