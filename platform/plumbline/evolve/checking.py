"""The ladder and the pool's scores of a generation's drafts, by one job that runs no program but
behind walls. Whatever a program does there, it only makes itself invalid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.db import transaction

from align import jobs
from align.icpl.traces import picked
from align.judge_jobs import (
    PROGRAM_ITEMS,
    PROGRAM_SCORES,
    PROGRAMS,
    PROGRAMS_CHECKED,
    ProgramJob,
)
from plumbline.collect.models import Completion
from plumbline.evolve import panel, work, writing
from plumbline.evolve.models import Evolution, Generation, Pick, Program, ProgramScore
from plumbline.fleet.models import Job
from plumbline.loop import roundjobs

AGREE = 0.9  # of the panel's prompts, from which two programs are the same
MOST_UNSCORED = 0.1  # of the pool's answers
Status = Program.Status


def checked(generation: Generation) -> bool:
    """Whether all drafts have been through the ladder; asks for it and stores what came of it."""
    drafts = list(generation.programs.filter(status=Status.DRAFT))
    if not drafts:
        return True
    evolution = generation.evolution
    pools = panel.pools(evolution)
    answers = [one for pool in pools for one in pool.texts]
    job = work.ask(
        evolution,
        generation,
        f"check:{generation.programs.count()}",
        spec(evolution),
        inputs(drafts, answers),
    )
    if roundjobs.finished(job) is None:
        return False
    store(job, drafts, pools)
    return True


def spec(evolution: Evolution) -> ProgramJob:
    endpoint = evolution.rubric_endpoint
    return ProgramJob(
        asked=work.endpoint(endpoint) if endpoint else None,
        cache=str(settings.RUBRICS_DIR) if endpoint else None,
    )


def inputs(programs: Iterable[Program], answers: Iterable[Completion]) -> work.Inputs:
    return {
        PROGRAMS: lambda: ({"id": str(one.pk), "program": one.program} for one in programs),
        PROGRAM_ITEMS: lambda: item_rows((str(one.pk), one, one.text) for one in answers),
    }


def item_rows(rows: Iterable[tuple[str, Completion, str]]) -> Iterator[Mapping[str, Any]]:
    """Answers under their names in the job, with the text that is scored."""
    for name, one, text in rows:
        yield {
            "id": name,
            "messages": one.prompt.messages,
            "text": text,
            "tokens": tokens(one),
        }


def tokens(one: Completion) -> int:
    """Of an imported answer its words, which nobody has tokenized."""
    return len(one.token_ids) if one.token_ids is not None else len(one.text.split())


@transaction.atomic
def store(job: Job, drafts: Iterable[Program], pools: Iterable[panel.Pool]) -> None:
    """Valid programs with their scores and picks, and the others with what is wrong; all at once.
    An answer whose rubric got no score is picked by nobody; a program that has too few scores, or
    none of a whole prompt, is invalid."""
    told = {row["id"]: row for row in verdicts(job)}
    scored: dict[str, dict[str, dict[str, Any]]] = {}
    for row in jobs.read_rows(job.folder / PROGRAM_SCORES):
        scored.setdefault(row["program"], {})[row["item"]] = row
    kept = list(pools)
    for draft in drafts:
        said = told.get(str(draft.pk), {"valid": False, "problems": ["It was not checked."]})
        rows = scored.get(str(draft.pk), {})
        rows = {key: row for key, row in rows.items() if row["total"] is not None}
        problems = list(said["problems"]) if not said["valid"] else _unscored(kept, rows)
        if problems or not said["valid"]:
            draft.status, draft.problems = Status.INVALID, problems or ["The ladder refused it."]
            draft.save(update_fields=["status", "problems"])
            continue
        draft.status = Status.VALIDATED
        draft.save(update_fields=["status"])
        ProgramScore.objects.bulk_create(
            (
                ProgramScore(
                    program=draft,
                    completion_id=key,
                    total=rows[key]["total"],
                    components=rows[key]["components"],
                )
                for key in sorted(rows)
            ),
            batch_size=500,
        )
        Pick.objects.bulk_create(
            Pick(program=draft, prompt=pool.prompt, completion=_pick(pool, rows)) for pool in kept
        )


def verdicts(job: Job) -> Iterator[dict[str, Any]]:
    """The ladder's word on each program: {"id", "valid", "problems"}."""
    for row in jobs.read_rows(job.folder / PROGRAMS_CHECKED):
        yield {"id": row["program"], "valid": row["valid"], "problems": row["problems"]}


@transaction.atomic
def drop_the_same(generation: Generation) -> None:
    """Of two programs that pick the same answer to nearly every prompt the newer is dropped, and so
    is one that picks as the good program before did."""
    picks: dict[int, dict[int, Any]] = {}
    found = Pick.objects.filter(program__in=contenders(generation))
    for program, prompt, answer in found.values_list("program_id", "prompt_id", "completion_id"):
        picks.setdefault(program, {})[prompt] = answer
    kept: list[Program] = []
    for one in sorted(contenders(generation), key=lambda p: (p.generation_id, p.pk)):
        mine = picks[one.pk]
        twin = next((other for other in kept if _alike(mine, picks[other.pk]) >= AGREE), None)
        if twin is None or one.generation_id != generation.pk:
            kept.append(one)
            continue
        share = f"{_alike(mine, picks[twin.pk]):.0%}"
        one.status, one.same_as = Status.INVALID, twin
        one.problems = [f"It picks the same answers as program {twin} on {share} of the prompts."]
        one.save(update_fields=["status", "same_as", "problems"])


def contenders(generation: Generation) -> list[Program]:
    """Whose picks are ranked: the generation's valid programs, and the good one so far."""
    best = generation.evolution.best
    return [*([best] if best is not None else []), *writing.valid(generation)]


def _alike(mine: Mapping[int, Any], other: Mapping[int, Any]) -> float:
    shared = mine.keys() & other.keys()
    return sum(mine[key] == other[key] for key in shared) / len(shared) if shared else 0.0


def _pick(pool: panel.Pool, rows: Mapping[str, Mapping[str, Any]]) -> Completion:
    answers = [one for one in pool.texts if str(one.pk) in rows]
    return answers[picked([rows[str(one.pk)]["total"] for one in answers])]


def _unscored(pools: Iterable[panel.Pool], rows: Mapping[str, Any]) -> list[str]:
    """What is wrong where answers have no score."""
    answers = [[str(one.pk) for one in pool.texts] for pool in pools]
    count = sum(map(len, answers))
    missing = count - sum(key in rows for some in answers for key in some)
    if missing > MOST_UNSCORED * count or any(not rows.keys() & set(some) for some in answers):
        return [f"{missing} of {count} answers have no score: the rubric was not answered."]
    return []
