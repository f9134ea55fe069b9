"""Judges made of factors: hierarchies with margins measured on a project's answers, and weights
that a job fits to people's votes.

A fit is a job whose row holds all that it was asked and found; it becomes a judge when somebody
says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from align import hierarchy, jobs
from align.factor_jobs import COMPARED, ComparedRow, FitJob
from align.hierarchy import Level
from plumbline.accounts.models import Project, User
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges import factored, judges, program_parts
from plumbline.judges.models import Judge, JudgeVersion
from plumbline.policies.models import RewardModel

PAGE = 100
LEAST = 20  # compared pairs below which weights are not worth a job


def make_hierarchy(
    project: Project,
    name: str,
    levels: Sequence[Level],
    *,
    certainty: float = 0.9,
    reward_model: RewardModel | None = None,
    by: User | None = None,
) -> JudgeVersion:
    """A judge by a hierarchy, its margins measured on the project's newest answers.

    Raises ValueError with a sentence for levels that cannot work, a factor that too few answers
    have, and what `judges.make` refuses.
    """
    hierarchy.check(levels)
    names = [one.factor for one in levels]
    for one in names:
        factored.check(one)
    found = factored.buffer(project, names, reward_model)
    settings = {
        "certainty": certainty,
        "levels": hierarchy.to_json(levels),
        "margins": hierarchy.deltas(levels, found),
    }
    told = program_parts.parts(program_parts.source(project, names))
    return judges.make(
        project,
        name,
        "hierarchy",
        settings,
        endpoint=told.endpoint,
        program=told.program,
        reward_model=reward_model,
        by=by,
    )


def begin(
    project: Project,
    signs: Mapping[str, int],
    *,
    reward_model: RewardModel | None = None,
    left_out: Callable[[Prompt], bool] = lambda prompt: False,
) -> Job:
    """The job that fits weights to people's votes in the project.

    `left_out` names prompts whose votes nothing is to learn from. Raises ValueError for a factor
    that is none, and where fewer than 20 pairs were voted on whose answers have every factor.
    """
    for name in signs:
        factored.check(name)
    if not signs:
        raise ValueError("Choose at least one factor.")
    program_parts.source(project, signs)  # refuses parts of two programs
    rows = list(compared(project, list(signs), reward_model, left_out))
    if len(rows) < LEAST:
        raise ValueError(
            f"People voted on {len(rows)} pairs of answers that have all of these factors; weights "
            f"take {LEAST} or more."
        )
    spec = FitJob(signs=dict(signs))
    title = f"Weigh {len(signs)} factors by {len(rows)} compared pairs"
    return dispatch.submit(project, spec, title, {COMPARED: cast(Any, rows)})


def compared(
    project: Project,
    names: Sequence[str],
    model: RewardModel | None,
    left_out: Callable[[Prompt], bool],
) -> Iterator[ComparedRow]:
    """What people said of pairs of answers that have all of the factors; neither AI's word nor
    votes on prompts that are held out of training."""
    wanted = (
        votes.counted(Comparison.objects.filter(campaign__project=project))
        .exclude(prompt__split=Prompt.Split.HELDOUT)
        .select_related("prompt")
        .prefetch_related("slots__completion__prompt")
        .order_by("pk")
    )
    ids = list(wanted.values_list("pk", flat=True))
    for at in range(0, len(ids), PAGE):
        page = list(wanted.filter(pk__in=ids[at : at + PAGE]))
        said = _people(page)
        answers: dict[Any, Completion] = {
            slot.completion.pk: slot.completion for one in page for slot in one.slots.all()
        }
        values = factored.stored(answers, names, model)
        for one in page:
            if not left_out(one.prompt):
                slots = {slot.slot: values[slot.completion_id] for slot in one.slots.all()}
                yield from _rows(one, slots, said.get(one.pk, []))


def fits(project: Project) -> list[Job]:
    """The project's fits, the newest first."""
    found = Job.objects.filter(project=project, kind=FitJob.kind)
    return list(found.order_by("-created_at")[:20])


def adopt(
    project: Project,
    job: Job,
    name: str,
    *,
    reward_model: RewardModel | None = None,
    by: User | None = None,
) -> JudgeVersion:
    """A judge, or the next version of the one of that name, with the weights that a job found.

    Raises ValueError for a job that found none, and what `judges` refuses.
    """
    spec = jobs.from_json(job.spec)
    if not isinstance(spec, FitJob) or job.state != Job.State.SUCCEEDED or not job.result:
        raise ValueError(f"{job.title} has found no weights.")
    found = job.result
    figures = ("accuracy", "accuracy_low", "accuracy_high", "log_loss", "heldout", "fitted_on")
    settings = {
        **{part: found[part] for part in ("weights", "scales", "intervals")},
        "signs": dict(spec.signs),
        "measured": {part: found[part] for part in figures} | {"job": str(job.pk)},
    }
    there = Judge.objects.filter(project=project, name=name.strip(), kind="features").first()
    told = program_parts.parts(program_parts.source(project, spec.signs))
    from_what: dict[str, Any] = {
        "endpoint": told.endpoint,
        "program": told.program,
        "reward_model": reward_model,
        "by": by,
    }
    if there is not None:
        return judges.revise(there, settings, **from_what)
    return judges.make(project, name, "features", settings, **from_what)


def _people(page: Sequence[Comparison]) -> dict[int, list[Ballot]]:
    ballots = votes.kept(
        Ballot.objects.filter(
            comparison__in=page,
            seat__isnull=False,
            outcome=Ballot.Outcome.RANKED,
            probability__isnull=True,
        ).exclude(annotator__kind=User.Kind.AI)
    )
    found: dict[int, list[Ballot]] = {}
    for ballot in ballots.order_by("pk"):
        found.setdefault(ballot.comparison_id, []).append(ballot)
    return found


def _rows(
    one: Comparison, slots: Mapping[int, factored.Values], said: list[Ballot]
) -> Iterator[ComparedRow]:
    for i, j, p, weight in votes.preferences(said):
        first, second = slots.get(i, {}), slots.get(j, {})
        if None in (*first.values(), *second.values()) or not (first and second):
            continue
        yield {
            "prompt": one.prompt.digest,
            "first": cast(dict[str, float], first),
            "second": cast(dict[str, float], second),
            "p": p,
            "weight": weight,
        }
