"""Before a program may judge: it is held against people's votes that neither its session nor its
temperature has seen, and against changes of an answer that mean nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from align import jobs
from align.icpl import calibrate, traces
from align.icpl.calibrate import NULLS, Voted
from align.judge_jobs import PROGRAM_ITEMS, PROGRAM_SCORES, PROGRAMS
from plumbline.accounts.models import User
from plumbline.collect import votes
from plumbline.collect.models import Comparison, Completion
from plumbline.collect.origins import ICPL
from plumbline.evolve import checking, work
from plumbline.evolve.models import Program, Trial
from plumbline.loop import campaigns, holdout, roundjobs, rows

MOST_PAIRS = 1500
NULL_PAIRS = 60  # held-out pairs that are scored again with changes that mean nothing
FIT = 3  # one prompt in so many fits the temperature; the others are held out
TRIED = (
    *(Program.Status.VALIDATED, Program.Status.SHOWN, Program.Status.GOOD, Program.Status.BAD),
    *(Program.Status.NEUTRAL, Program.Status.CANDIDATE_JUDGE, Program.Status.ACTIVE),
)


@dataclass(frozen=True)
class HumanPair:
    first: Completion
    second: Completion
    p: float
    fits: bool  # the temperature, and so is not held out


def begin(program: Program, by: User) -> Trial:
    """A new trial. Raises ValueError where one runs, and for a program that cannot be tried."""
    if program.status not in TRIED:
        raise ValueError(f"Program {program} is {program.get_status_display().lower()}.")
    if not human_pairs(program):
        raise ValueError(
            "Nobody has voted yet on pairs that this session did not use. Collect votes in another "
            "campaign first; a session's own rankings cannot be its proof."
        )
    last = program.trials.aggregate(last=Max("number"))["last"] or 0
    try:
        with transaction.atomic():
            return Trial.objects.create(program=program, number=last + 1, created_by=by)
    except IntegrityError as error:
        raise ValueError("A trial of this program is under way.") from error


def tick() -> None:
    """Take every trial as far as it goes now."""
    found = Trial.objects.filter(finished_at=None)
    for trial in found.select_related("program__generation__evolution"):
        try:
            step(trial)
        except ValueError as error:
            over = Trial.objects.filter(pk=trial.pk, finished_at=None)
            over.update(error=str(error), finished_at=timezone.now())


def step(trial: Trial) -> None:
    """Ask for the scores, or read them. Raises ValueError where the job failed."""
    program = trial.program
    evolution = program.generation.evolution
    purpose = f"trial:{program.pk}:{trial.number}"
    asked = evolution.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None:
        pairs = human_pairs(program)
        made = {
            PROGRAMS: lambda: [{"id": "it", "program": program.program}],
            PROGRAM_ITEMS: lambda: _items(pairs),
            PAIRS: lambda: _pair_rows(pairs),
        }
        work.ask(evolution, None, purpose, checking.spec(evolution), made)
        return
    if roundjobs.finished(asked.job) is None:
        return
    totals = {
        row["item"]: row["total"]
        for row in jobs.read_rows(asked.job.folder / PROGRAM_SCORES)
        if row["total"] is not None
    }
    _judge(trial, totals, list(jobs.read_rows(asked.job.folder / PAIRS)))


def human_pairs(program: Program) -> list[HumanPair]:
    """Pairs that people voted on outside all rankings of programs, in a fixed order; a random part
    where there are many. Judges' and imported votes are no people's."""
    project = program.generation.evolution.project
    every = Comparison.objects.filter(campaign__project=project).exclude(strategy=ICPL)
    said = campaigns.evidence(every).exclude(annotator__kind__in=holdout.ARTIFICIAL)
    said = said.filter(outcome="ranked")
    names = sorted(set(said.values_list("comparison_id", flat=True)))
    random.Random("trial").shuffle(names)
    found: list[HumanPair] = []
    for comparison, ballots in rows.by_comparison(
        said.filter(comparison_id__in=names[:MOST_PAIRS])
    ):
        slots = [slot.completion for slot in comparison.slots.all()]
        for one in slots:
            one.prompt = comparison.prompt
        bucket = int(hashlib.sha256(comparison.prompt.digest.encode()).hexdigest()[:8], 16)
        for i, j, p, _ in votes.preferences(ballots):
            found.append(HumanPair(slots[i], slots[j], p, bucket % FIT == 0))
    return found[:MOST_PAIRS]


PAIRS = "human_pairs.jsonl"  # beside the job's inputs: what its scores are held against


def _pair_rows(pairs: Sequence[HumanPair]) -> Iterator[dict[str, Any]]:
    for one in pairs:
        yield {
            "first": str(one.first.pk),
            "second": str(one.second.pk),
            "p": one.p,
            "fits": one.fits,
            "prompt": one.first.prompt_id,
            "tokens": [checking.tokens(one.first), checking.tokens(one.second)],
        }


def _items(pairs: Sequence[HumanPair]) -> Iterator[Mapping[str, Any]]:
    answers = {one.pk: one for pair in pairs for one in (pair.first, pair.second)}
    yield from checking.item_rows((str(one.pk), one, one.text) for one in answers.values())
    changed: dict[str, tuple[str, Completion, str]] = {}
    for pair in [one for one in pairs if not one.fits][:NULL_PAIRS]:
        for one in (pair.first, pair.second):
            for name, change in NULLS.items():
                changed[_null(name, str(one.pk))] = (
                    _null(name, str(one.pk)),
                    one,
                    change(one.text),
                )
    yield from checking.item_rows(changed.values())


def _null(name: str, answer: str) -> str:
    return f"{name}:{answer}"


def _judge(trial: Trial, totals: Mapping[str, float], pairs: Sequence[Mapping[str, Any]]) -> None:
    """The checks, and the program's new state where it passed."""
    known = [one for one in pairs if one["first"] in totals and one["second"] in totals]
    told = [(one, Voted(totals[one["first"]] - totals[one["second"]], one["p"])) for one in known]
    fit = [voted for one, voted in told if one["fits"]]
    heldout = [voted for one, voted in told if not one["fits"]]
    fitted = calibrate.temperature(fit)
    length = _length(totals, known)
    checks = calibrate.checks(heldout, fitted, length, _flips(totals, known))
    passed = all(one["passed"] is True for one in checks)
    right, count = calibrate.accuracy(heldout)
    low, high = calibrate.wilson(right, count)
    with transaction.atomic():
        Trial.objects.filter(pk=trial.pk, finished_at=None).update(
            temperature=fitted,
            checks=checks,
            passed=passed,
            figures={
                "fit": len(fit),
                "heldout": len(heldout),
                "accuracy": right / count if count else None,
                "low": low,
                "high": high,
                "log_loss": calibrate.log_loss(heldout, fitted) if fitted else None,
                "length": length,
            },
            finished_at=timezone.now(),
        )
        if passed:
            Program.objects.filter(pk=trial.program_id, judge=None).update(
                status=Program.Status.CANDIDATE_JUDGE
            )


def _length(totals: Mapping[str, float], pairs: Sequence[Mapping[str, Any]]) -> float | None:
    """Spearman's correlation within prompts, over the answers of all pairs."""
    pool: dict[str, dict[str, traces.Scored]] = {}
    for one in pairs:
        for side, tokens in zip(("first", "second"), one["tokens"], strict=True):
            scored = traces.Scored(totals[one[side]], {}, tokens)
            pool.setdefault(str(one["prompt"]), {})[one[side]] = scored
    return traces.length_correlation({prompt: list(some.values()) for prompt, some in pool.items()})


def _flips(
    totals: Mapping[str, float], pairs: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[int, int]]:
    """By change: how many comparisons turned over when one answer was changed, and of how many."""
    found = {}
    for name in NULLS:
        turned, count = 0, 0
        for one in pairs:
            first, second = totals[one["first"]], totals[one["second"]]
            a = totals.get(_null(name, one["first"]))
            b = totals.get(_null(name, one["second"]))
            if one["fits"] or a is None or b is None:
                continue
            turned += calibrate.flipped(first - second, a - second)
            turned += calibrate.flipped(first - second, first - b)
            count += 2
        found[name] = (turned, count)
    return found
