"""Cards of like length: where a program goes by length, people would rank length with it.

A prompt's cards then come from those of its answers whose lengths lie together: the longest is at
most a quarter longer than the shortest, and the lengths are those that most answers have. Each
program's card is the answer among them that it scores highest; its pick from the whole pool, by
which programs are told apart and reported on, stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from align.icpl import calibrate, traces
from align.measure.confounds import kendall
from plumbline.collect.models import Completion
from plumbline.evolve import checking, panel
from plumbline.evolve.models import Evolution, Generation, PanelPrompt, ProgramScore

RATIO = 1.25  # of the longest card's tokens to the shortest's, at most
MOST_LENGTH = calibrate.MOST_LENGTH  # |Spearman|, beyond which a program goes by length
LEAST_PROMPTS = 0.5  # of those to be ranked, that must be left with different cards
Cards = dict[int, dict[Any, list[int]]]  # by prompt, each answer with the programs whose card it is
Matching = Evolution.Matching


def decide(generation: Generation) -> None:
    """Whether this generation's cards are matched, and why, written down before any is shown."""
    evolution = generation.evolution
    spearman = correlations(generation)
    far = [pk for pk, found in spearman.items() if found is not None and abs(found) > MOST_LENGTH]
    wanted = evolution.matching == Matching.ALWAYS or (
        evolution.matching == Matching.WHEN_LONG and bool(far)
    )
    why, ratio = "", None
    if wanted:
        chosen = [one.prompt_id for one in evolution.panel.all()][: evolution.chosen_prompts]
        alike = matched(generation, RATIO)
        left = sum(len(alike.get(prompt, {})) > 1 for prompt in chosen)
        if left >= LEAST_PROMPTS * len(chosen):
            ratio = RATIO
        else:
            why = f"Only {left} of {len(chosen)} prompts have different cards of like length."
    generation.length_ratio = ratio
    told = {str(pk): found for pk, found in spearman.items()}
    generation.figures = {
        **generation.figures,
        "matching": {"wanted": wanted, "ratio": ratio, "why_not": why, "spearman": told},
    }
    generation.save(update_fields=["length_ratio", "figures"])


def correlations(generation: Generation) -> dict[int, float | None]:
    """By program, Spearman's correlation of its totals with length within the shown prompts."""
    found = {}
    for program, totals in _totals(generation).items():
        pool = {
            str(one.prompt.pk): [
                traces.Scored(totals[answer.pk], {}, checking.tokens(answer))
                for answer in one.texts
                if answer.pk in totals
            ]
            for one in _shown(generation)
        }
        found[program] = traces.length_correlation(pool)
    return found


def matched(generation: Generation, ratio: float) -> Cards:
    """Every program's best answer among those of like length."""
    by_program = _totals(generation)
    found: Cards = {}
    for pool in _shown(generation):
        near = alike(pool.texts, ratio)
        for program, totals in by_program.items():
            scored = [one for one in near if one.pk in totals]
            if scored:
                best = scored[traces.picked([totals[one.pk] for one in scored])]
                found.setdefault(pool.prompt.pk, {}).setdefault(best.pk, []).append(program)
    return found


def alike(answers: Sequence[Completion], ratio: float) -> list[Completion]:
    """The answers of the lengths that most have: of all windows from some length to `ratio` times
    it the fullest, among equals that of the shortest answers."""
    lengths = [max(1, checking.tokens(one)) for one in answers]

    def held(low: int) -> int:
        return sum(low <= one <= low * ratio for one in lengths)

    if not lengths:
        return []
    best = max(sorted(set(lengths)), key=held)
    within = zip(answers, lengths, strict=True)
    return [one for one, length in within if best <= length <= best * ratio]


def shown(said: Sequence[tuple[int, dict[Any, int]]]) -> dict[str, Any]:
    """Of rankings, as (prompt, places by answer): Kendall's tau of people's order with length, and
    how many times longer the longest card is than the shortest, in the mean and at most."""
    ids = {key for _, places in said for key in places}
    lengths = {
        one.pk: max(1, checking.tokens(one)) for one in Completion.objects.filter(pk__in=ids)
    }
    agree, scale, ratios = 0.0, 0.0, []
    for _, places in said:
        keys = sorted(places, key=str)
        told = [float(lengths[key]) for key in keys]
        found = kendall(told, [-float(places[key]) for key in keys])
        agree, scale = agree + found[0], scale + found[1]
        ratios.append(max(told) / min(told))
    return {
        "tau": agree / scale if scale else None,
        "ratio": fmean(ratios) if ratios else None,
        "most": max(ratios, default=None),
    }


def _totals(generation: Generation) -> dict[int, dict[Any, float]]:
    contenders = checking.contenders(generation)
    found: dict[int, dict[Any, float]] = {one.pk: {} for one in contenders}
    rows = ProgramScore.objects.filter(program__in=contenders).order_by("program_id")
    for program, answer, total in rows.values_list("program_id", "completion_id", "total"):
        found[program][answer] = total
    return found


def _shown(generation: Generation) -> list[panel.Pool]:
    pools = panel.pools(generation.evolution)
    return [one for one in pools if one.role not in PanelPrompt.UNSEEN]
