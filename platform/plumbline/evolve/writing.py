"""Which calls of the writer a generation still wants, and what came of them.

Each arm is one program. A program that is refused is repaired twice with what was wrong, then its
arm is written anew; one that picks what another picks is written anew. The calls of a generation
are bounded, and so is how often an arm may be the same as another.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from align import jobs
from align.icpl import prompt
from align.icpl.emphases import of_arm
from align.judge_jobs import CALLS, WRITTEN, CallRow, WriteJob
from align.programs import from_json
from plumbline.evolve import telling, work
from plumbline.evolve.models import Evolution, Generation, Program
from plumbline.fleet.models import Job
from plumbline.loop import roundjobs

MOST_REPAIRS = 2
CALLS_AN_ARM = 4  # on average
MOST_SAME = 3  # times that an arm may pick what another picks
LEAST = 3  # valid arms that a generation goes on with
Status = Program.Status


@dataclass(frozen=True)
class Wanted:
    arm: int
    attempt: int
    repairs: Program | None


def wanted(generation: Generation) -> list[Wanted]:
    """The calls to make now; none when every arm has a program or has had its share of calls."""
    by_arm: dict[int, list[Program]] = {}
    for one in generation.programs.order_by("arm", "attempt"):
        by_arm.setdefault(one.arm, []).append(one)
    made = sum(map(len, by_arm.values()))
    turns = 1 + generation.retries
    found = []
    for arm in range(generation.evolution.arms):
        tried = by_arm.get(arm, [])
        if tried and tried[-1].status != Status.INVALID:
            continue
        if sum(one.same_as_id is not None for one in tried) >= MOST_SAME * turns:
            continue
        found.append(Wanted(arm, len(tried), _to_repair(tried)))
    return found[: max(0, turns * CALLS_AN_ARM * generation.evolution.arms - made)]


def written(generation: Generation, todo: list[Wanted]) -> bool:
    """Whether the replies to the wanted calls are stored; asks for them."""
    evolution = generation.evolution
    if not generation.messages:
        generation.messages = telling.messages(generation)
        generation.prompt_sha256 = prompt.digest(generation.messages)
        generation.save(update_fields=["messages", "prompt_sha256"])
    made = generation.programs.count()
    job = work.ask(
        evolution,
        generation,
        f"write:{made}",
        spec(evolution),
        {CALLS: lambda: _calls(generation, todo)},
    )
    if roundjobs.finished(job) is None:
        return False
    store(generation, job, todo)
    return True


def spec(evolution: Evolution) -> WriteJob:
    endpoint = evolution.writer_endpoint
    return WriteJob(
        asked=work.endpoint(endpoint) if endpoint else None,
        rubric=evolution.rubric_endpoint is not None,
    )


@transaction.atomic
def store(generation: Generation, job: Job, todo: list[Wanted]) -> None:
    """The replies become drafts, or invalid where there is no program in one. All or none."""
    replies: dict[str, Any] = {row["id"]: row for row in jobs.read_rows(job.folder / WRITTEN)}
    before = telling.before(generation)
    for one in todo:
        row = replies[f"{one.arm}:{one.attempt}"]
        problem = row["error"] or row["problem"]
        program = row["program"]
        Program.objects.create(
            generation=generation,
            arm=one.arm,
            attempt=one.attempt,
            emphasis=of_arm(one.arm),
            program=program,
            sha256=from_json(program).sha256 if program else "",
            status=Status.DRAFT if program else Status.INVALID,
            good_parent=before.good if before else None,
            bad_parent=before.bad if before else None,
            repairs=one.repairs,
            reply=row["reply"],
            problems=[] if program else [problem or "The reply holds no program."],
            tokens_in=row["tokens_in"],
            tokens_out=row["tokens_out"],
            job=job,
        )


def valid(generation: Generation) -> list[Program]:
    """The generation's own programs that run, one an arm."""
    return list(generation.programs.exclude(status__in=(Status.DRAFT, Status.INVALID)))


def _to_repair(tried: list[Program]) -> Program | None:
    """The arm's last reply, if it may be repaired once more."""
    if not tried or tried[-1].same_as_id is not None or not tried[-1].reply:
        return None
    repairs, one = 0, tried[-1]
    by_pk = {other.pk: other for other in tried}
    while one.repairs_id is not None:
        one, repairs = by_pk[one.repairs_id], repairs + 1
    return tried[-1] if repairs < MOST_REPAIRS else None


def _calls(generation: Generation, todo: list[Wanted]) -> Iterator[CallRow]:
    before = telling.before(generation)
    good = [one.program for one in telling.goods(before)] if before else []
    for one in todo:
        emphasis = of_arm(one.arm)
        messages = prompt.for_arm(generation.messages, emphasis)
        if one.repairs is not None:
            messages = prompt.repair(messages, one.repairs.reply, one.repairs.problems)
        yield {
            "id": f"{one.arm}:{one.attempt}",
            "messages": messages,
            "emphasis": emphasis,
            "good": [program for program in good if program is not None],
            "bad": before.bad.program if before and before.bad else None,
            "seed": zlib.crc32(
                f"{generation.evolution.seed}:{generation.number}:{one.arm}:{one.attempt}".encode()
            ),
            "wants": "program",
        }
