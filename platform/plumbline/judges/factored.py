"""What judges by factors have in common: single answers are measured, and values are compared.

A factor is read off the text (`align.factors`), is the score of a reward model ("reward"), the
mean of people's ratings by a criterion ("rating:NAME", as they stand when the judge is asked), or
told by a reward program: a criterion of its rubric or a component (`judges.program_parts`).
Values are of answers, never of pairs, so both orders say the same by construction.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from align import factors, jobs
from align.factor_jobs import FACTORS, FactorJob
from plumbline.accounts.models import Project
from plumbline.collect import scales
from plumbline.collect.models import Ballot, Candidate, Completion
from plumbline.fleet.models import Job
from plumbline.judges import kind, program_parts, programs
from plumbline.judges.kind import Inputs, Kind, Pair, Parts
from plumbline.judges.models import JudgeVersion, Score
from plumbline.policies.models import RewardModel

REWARD, RATING = "reward", "rating:"
BUFFER = 1000  # answers that margins and scales are measured on, the newest of a project
BATCH = 200

Values = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Factored(Kind):
    """Base of the kinds; a subclass says which factors it reads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if REWARD in self.factors():
            object.__setattr__(self, "needs", frozenset({kind.REWARD_MODEL}))
        elif program_parts.of(self.factors()):
            object.__setattr__(self, "needs", frozenset({kind.PROGRAM}))

    def factors(self) -> list[str]:
        raise NotImplementedError

    def freeze(self, parts: Parts) -> dict[str, Any]:
        for name in self.factors():
            check(name)
        told = program_parts.of(self.factors())
        if told and REWARD in self.factors():
            raise ValueError(
                "One job asks a judge: a program's parts and a reward model's score do not mix."
            )
        frozen = super().freeze(parts)
        return programs.freeze(frozen, parts) if told else frozen

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        answers = {answer.pk: answer for pair in pairs for answer in pair}
        if program_parts.of(self.factors()):
            return programs.job(version, answers.values())
        items = {jobs.ITEMS: (item_row(one) for one in answers.values())}
        model = version.reward_model
        if REWARD not in self.factors():
            return FactorJob(), items
        assert model is not None
        spec = jobs.ScoreJob(
            reward_model=model.path,
            cache=str(settings.SCORES_DIR),
            max_length=settings.MAX_MODEL_LEN,
        )
        return spec, items

    def values(self, job: Job, pairs: Sequence[Pair]) -> dict[UUID, Values]:
        """Each answer's factors once its job is done; None where it has none."""
        rewards: Mapping[str, float | None] = {}
        measured: Mapping[str, Mapping[str, float]] = {}
        told: Mapping[str, Mapping[str, float]] = {}
        if REWARD in self.factors():
            found = jobs.read_rows(job.folder / jobs.SCORES)
            rewards = {row["id"]: row["reward"] for row in found}
        elif program_parts.of(self.factors()):
            told = program_parts.scored(job, self.factors())
        else:
            found = jobs.read_rows(job.folder / FACTORS)
            measured = {row["id"]: row["values"] for row in found}
        answers = {answer.pk: answer for pair in pairs for answer in pair}
        rated = ratings(answers, self.factors())
        values = {}
        for key, answer in answers.items():
            read = measured.get(str(key)) or read_off(answer)
            known: Values = {**read, **told.get(str(key), {}), **rated.get(key, {})}
            known[REWARD] = rewards.get(str(key))
            values[key] = {name: known.get(name) for name in self.factors()}
        return values


def check(name: str) -> None:
    """Raises ValueError for a factor that is none."""
    rating = name.startswith(RATING) and name.removeprefix(RATING).isidentifier()
    part = program_parts.split(name) is not None
    if not (name in factors.FACTORS or name == REWARD or rating or part):
        raise ValueError(f"There is no factor called {name}.")


def title(name: str) -> str:
    """What a factor is called on a page."""
    if name == REWARD:
        return "Reward model's score"
    if name.startswith(RATING):
        return f"People's rating: {name.removeprefix(RATING).replace('_', ' ')}"
    if name.startswith(program_parts.PART):
        return program_parts.title(name)
    return factors.FACTORS[name].title if name in factors.FACTORS else name


def offered(project: Project) -> list[str]:
    """The factors that a project's answers may have."""
    criteria: set[str] = set()
    for given in project.campaigns.values_list("criteria", flat=True):
        criteria |= {one["name"] for one in given or []}
    found = [*factors.FACTORS]
    if RewardModel.objects.filter(project=project).exists():
        found.append(REWARD)
    found += [f"{RATING}{name}" for name in sorted(criteria)]
    return found + program_parts.offered(project)


def buffer(project: Project, names: Sequence[str], model: RewardModel | None) -> list[Values]:
    """The factors of a project's newest answers, by which margins are measured; scores of the
    reward model are those that are there."""
    answers = {
        one.pk: one
        for one in Completion.objects.filter(prompt__set__project=project)
        .select_related("prompt")
        .order_by("-created_at", "pk")[:BUFFER]
    }
    return list(stored(answers, names, model).values())


def stored(
    answers: Mapping[UUID, Completion], names: Sequence[str], model: RewardModel | None
) -> dict[UUID, Values]:
    """The factors of answers as far as they are known without a job."""
    rated, rewards = ratings(answers, names), _scores(answers, model if REWARD in names else None)
    told = program_parts.stored(list(answers), names)
    found = {}
    for key, answer in answers.items():
        both: Values = {**read_off(answer), **rated.get(key, {}), **told.get(key, {})}
        both[REWARD] = rewards.get(key)
        found[key] = {name: both.get(name) for name in names}
    return found


def read_off(answer: Completion) -> dict[str, float]:
    return factors.measure(factors.question(answer.prompt.messages), answer.text)


def ratings(answers: Iterable[UUID], names: Sequence[str]) -> dict[UUID, dict[str, float]]:
    """By answer and "rating:NAME", the mean of people's standing ratings, 0 to 1."""
    wanted = {name for name in names if name.startswith(RATING)}
    if not wanted:
        return {}
    given: dict[UUID, dict[str, list[float]]] = {}
    read = scales.Ratings()
    for page in _pages(answers):
        slots = dict(_slots(page))
        ballots = Ballot.objects.filter(
            comparison__in={comparison for comparison, _ in slots},
            seat__isnull=False,
            probability__isnull=True,
        ).select_related("comparison__campaign")
        for ballot in ballots.exclude(ratings={}):
            for slot, criterion, value in read.of(ballot, ballot.comparison.campaign):
                answer = slots.get((ballot.comparison_id, slot))
                if answer is not None and f"{RATING}{criterion}" in wanted:
                    named = given.setdefault(answer, {})
                    named.setdefault(f"{RATING}{criterion}", []).append(value)
    return {
        answer: {name: statistics.fmean(values) for name, values in named.items()}
        for answer, named in given.items()
    }


def item_row(answer: Completion) -> jobs.ItemRow:
    response = jobs.ResponseRow(
        id=str(answer.pk),
        text=answer.text,
        token_ids=answer.token_ids,
        finish_reason=answer.finish_reason or None,
    )
    return {"id": str(answer.pk), "messages": answer.prompt.messages, "response": response}


def _scores(answers: Iterable[UUID], model: RewardModel | None) -> dict[UUID, float]:
    found: dict[UUID, float] = {}
    if model is not None:
        for page in _pages(answers):
            scores = Score.objects.filter(reward_model=model, completion__in=page)
            found.update(scores.values_list("completion_id", "value"))
    return found


def _slots(page: Sequence[UUID]) -> Iterator[tuple[tuple[int, int], UUID]]:
    rows = Candidate.objects.filter(completion__in=page)
    for comparison, slot, answer in rows.values_list("comparison_id", "slot", "completion_id"):
        yield (comparison, slot), answer


def _pages(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = sorted(ids)
    for at in range(0, len(ordered), BATCH):
        yield ordered[at : at + BATCH]
