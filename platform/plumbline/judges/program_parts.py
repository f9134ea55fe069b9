"""Factors that a reward program tells: the criteria of its rubric, and the components of its code.

"part:JUDGE:NAME" is one of them, as the newest version of that judge scores answers. What it said
so far is read off its verdicts; a judge made of such factors holds the program itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from django.db.models import Q

from align import jobs
from align.judge_jobs import PROGRAM_SCORES
from plumbline.accounts.models import Project
from plumbline.fleet.models import Job
from plumbline.judges import judges, kind
from plumbline.judges.models import Judge, JudgeVersion, Verdict

PART = "part:"
KIND = "program"  # of the judges that have parts
LOOKED_AT = 50  # verdicts that a program's components are known from
BATCH = 200


def split(name: str) -> tuple[int, str] | None:
    """The judge and what its program calls the part; None of a factor that is none."""
    head, _, part = name.removeprefix(PART).partition(":")
    if not name.startswith(PART) or not head.isdecimal() or not part:
        return None
    return int(head), part


def of(names: Iterable[str]) -> list[str]:
    return [name for name in names if split(name) is not None]


def title(name: str) -> str:
    found = split(name)
    judge = Judge.objects.filter(pk=found[0]).first() if found else None
    words = found[1].replace("_", " ") if found else name
    return f"{judge}: {words}" if judge else words


def offered(project: Project) -> list[str]:
    """The parts of every program judge of a project that has said something."""
    found: list[str] = []
    for judge in Judge.objects.filter(project=project, kind=KIND, retired_at=None).order_by("pk"):
        names: set[str] = set()
        said = Verdict.objects.filter(version=judges.current(judge), p__isnull=False)
        for detail in said.order_by("-pk").values_list("detail", flat=True)[:LOOKED_AT]:
            for told in _told(detail):
                names |= told.keys()
        found += [f"{PART}{judge.pk}:{name}" for name in sorted(names)]
    return found


def source(project: Project, names: Iterable[str]) -> JudgeVersion | None:
    """The version whose program tells these factors; None where none of them is a part.

    Raises ValueError where they are parts of two programs, or of a judge that is not there.
    """
    wanted = {found[0] for name in names if (found := split(name)) is not None}
    if not wanted:
        return None
    if len(wanted) > 1:
        raise ValueError("A judge takes the parts of one program, not of several.")
    judge = Judge.objects.filter(project=project, kind=KIND, pk=wanted.pop()).first()
    if judge is None:
        raise ValueError("There is no reward program of this project with such parts.")
    return judges.current(judge)


def parts(version: JudgeVersion | None) -> kind.Parts:
    """What a judge is made from that asks the version's program; nothing without one."""
    if version is None:
        return kind.Parts()
    return kind.Parts(endpoint=version.endpoint, program=version.settings[kind.PROGRAM])


def stored(answers: Sequence[UUID], names: Sequence[str]) -> dict[UUID, dict[str, float]]:
    """By answer and factor, as far as verdicts have told it."""
    wanted = {name: found for name in names if (found := split(name)) is not None}
    known: dict[UUID, dict[str, float]] = {}
    for judge in Judge.objects.filter(pk__in={pk for pk, _ in wanted.values()}):
        here = {part: name for name, (pk, part) in wanted.items() if pk == judge.pk}
        said = Verdict.objects.filter(version=judges.current(judge), p__isnull=False)
        for at in range(0, len(answers), BATCH):
            some = answers[at : at + BATCH]
            for row in said.filter(Q(first__in=some) | Q(second__in=some)):
                for answer, told in zip(_sides(row), _told(row.detail), strict=False):
                    mine = known.setdefault(answer, {})
                    mine |= {here[part]: value for part, value in told.items() if part in here}
    return known


def scored(job: Job, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By answer and factor, from a finished job that ran the program."""
    called = {found[1]: name for name in names if (found := split(name)) is not None}
    return {
        row["item"]: {
            called[part]: value
            for part, value in _numbers(row["components"], row["judge"]).items()
            if part in called
        }
        for row in jobs.read_rows(job.folder / PROGRAM_SCORES)
        if not row["error"]
    }


def _told(detail: Mapping[str, list[Mapping[str, float | None]]]) -> list[dict[str, float]]:
    """What the program told of both answers, in the order in which they were asked."""
    both = zip(detail.get("components", ()), detail.get("rubric", ()), strict=False)
    return [_numbers(components, rubric) for components, rubric in both]


def _numbers(
    components: Mapping[str, float | None], rubric: Mapping[str, float | None]
) -> dict[str, float]:
    """A criterion goes before a component of its name, which may be made of it."""
    both = (*components.items(), *rubric.items())
    return {name: float(value) for name, value in both if value is not None}


def _sides(row: Verdict) -> tuple[UUID, UUID]:
    first, second = row.first_id, row.second_id
    return (first, second) if row.detail.get("asked_first") == str(first) else (second, first)
