"""People with a known taste, and judges with known faults, on answers of known worth."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from django.utils import timezone

from align.measure.antisymmetric import dlen
from align.measure.pairs import sigmoid
from plumbline.accounts.models import Project, User
from plumbline.collect.models import (
    Ballot,
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.fleet.models import Job
from plumbline.judges import verdicts
from plumbline.judges.kind import Said
from plumbline.judges.models import Judge, JudgeVersion
from plumbline.loop.models import Experiment, Round, RoundJob
from plumbline.policies.models import Policy, RewardModel


@dataclass
class Ground:
    """Comparisons of two answers each; `worth` is people's log-odds for the first."""

    campaign: Campaign
    comparisons: list[Comparison] = field(default_factory=list)
    worth: dict[int, float] = field(default_factory=dict)

    answers: list[Completion] = field(default_factory=list)

    def pairs(self) -> list[tuple[Comparison, Completion, Completion]]:
        both = zip(self.answers[::2], self.answers[1::2], strict=True)
        return [(one, *pair) for one, pair in zip(self.comparisons, both, strict=True)]


def people(count: int) -> list[User]:
    there = User.objects.count()
    return [User.objects.create_user(username=f"person-{there + n}") for n in range(count)]


def ground(
    project: Project, count: int, voters: list[User], seed: int = 0, spread: float = 1.5
) -> Ground:
    """So many comparisons, each voted on by everybody by its own worth; of a large spread people
    are mostly of one mind."""
    draw = random.Random(f"ground {seed}")
    prompts = PromptSet.objects.create(project=project, name=f"Ground {seed}")
    campaign = Campaign.objects.create(
        project=project, name=f"Ground {seed}", overlap=max(1, len(voters))
    )
    made = Ground(campaign)
    asked, answers, comparisons, slots, ballots = [], [], [], [], []
    for number in range(count):
        text = f"Question {number} of {seed}?"
        key = hashlib.sha256(text.encode()).hexdigest()
        messages = [{"role": "user", "content": text}]
        asked.append(Prompt(set=prompts, messages=messages, digest=key))
    Prompt.objects.bulk_create(asked)
    for prompt in asked:
        for side in "ab":
            words = " ".join(draw.choices(["more", "words", "here"], k=draw.randint(3, 30)))
            answers.append(Completion(prompt=prompt, text=f"{side} {words}", origin="test"))
        comparisons.append(Comparison(campaign=campaign, prompt=prompt))
    Completion.objects.bulk_create(answers)
    Comparison.objects.bulk_create(comparisons)
    now = timezone.now()
    for at, comparison in enumerate(comparisons):
        slots += [
            Candidate(comparison=comparison, completion=answers[2 * at + slot], slot=slot)
            for slot in (0, 1)
        ]
        made.worth[comparison.pk] = draw.gauss(0, spread)
        for seat, user in enumerate(voters):
            first = draw.random() < sigmoid(made.worth[comparison.pk])
            ballots.append(
                Ballot(
                    comparison=comparison,
                    annotator=user,
                    seat=seat,
                    shown=[0, 1],
                    claimed_at=now,
                    expires_at=now + timedelta(minutes=9),
                    cast_at=now,
                    outcome="ranked",
                    ranking=[[0], [1]] if first else [[1], [0]],
                )
            )
    Candidate.objects.bulk_create(slots)
    Ballot.objects.bulk_create(ballots)
    made.comparisons, made.answers = comparisons, answers
    return made


def judge(
    project: Project,
    name: str = "Planted",
    number: int = 1,
    kind: str = "reward_model",
    reward_model: RewardModel | None = None,
) -> JudgeVersion:
    account = User.objects.filter(username=f"judge-{name}").first() or User.objects.create_user(
        username=f"judge-{name}", kind=User.Kind.AI
    )
    made, _ = Judge.objects.get_or_create(
        project=project, name=name, defaults={"kind": kind, "account": account}
    )
    return JudgeVersion.objects.create(
        judge=made,
        number=number,
        settings={"planted": number},
        sha256=f"{number:064x}",
        reward_model=reward_model,
    )


def trained(project: Project, made: Ground) -> RewardModel:
    """A reward model that a round made of these votes."""
    start = Policy.objects.create(
        project=project, name="start", weights=Policy.Weights.BASE, base_model="base"
    )
    experiment = Experiment.objects.create(
        project=project, name="Taught", algorithm="dpo", start=start,
        prompt_set=made.campaign.comparisons.first().prompt.set,
    )  # fmt: skip
    round = Round.objects.create(experiment=experiment, number=1, policy_in=start)
    round.ballots.set(Ballot.objects.filter(comparison__campaign=made.campaign))
    job = Job.objects.create(
        project=project, kind="reward", queue="gpu", title="taught", spec={},
        state=Job.State.SUCCEEDED, result={"sha256": "5" * 64},
    )  # fmt: skip
    RoundJob.objects.create(round=round, purpose="reward", job=job)
    return RewardModel.objects.create(
        project=project, name="taught", path="/nowhere", sha256="5" * 64, ballots_used=60
    )


def says(
    version: JudgeVersion,
    made: Ground,
    *,
    sharp: float = 1.0,
    length: float = 0.0,
    position: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
    silent: Callable[[int], bool] = lambda at: False,
) -> None:
    """Store what a judge with these faults says: its log-odds are `sharp` times people's, plus
    `length` times dlen, plus noise, plus `position` for whichever answer is shown first."""
    draw = random.Random(f"judge {seed}")
    said = []
    for at, (comparison, one, other) in enumerate(made.pairs()):
        if silent(at):
            said.append(Said(one.pk, other.pk, None, None, error="It said nothing."))
            continue
        odds = sharp * made.worth[comparison.pk] + length * dlen(one.text, other.text)
        odds += draw.gauss(0, noise) if noise else 0.0
        q_first, q_second = sigmoid(odds + position), sigmoid(position - odds)
        said.append(Said(one.pk, other.pk, q_first, q_second))
    verdicts.store(version, said)


def vote(made: Ground, user: User, *, right: float = 1.0, seed: int = 0) -> int:
    """Somebody votes on everything that is asked of people: for the answer of more worth, but for
    so many mistakes. How many ballots were cast."""
    draw = random.Random(f"votes {seed}")
    done = set(user.ballots.values_list("comparison_id", flat=True))
    asked = made.campaign.comparisons.filter(retired_at=None).order_by("-priority", "pk")
    now, rows = timezone.now(), []
    for number, comparison in enumerate(asked):
        first = (made.worth[comparison.pk] > 0) == (draw.random() < right)
        if comparison.pk in done:
            continue
        rows.append(
            Ballot(
                comparison=comparison,
                annotator=user,
                seat=0,
                shown=[0, 1],
                claimed_at=now,
                expires_at=now + timedelta(minutes=9),
                cast_at=now + timedelta(milliseconds=number),
                outcome="ranked",
                ranking=[[0], [1]] if first else [[1], [0]],
            )
        )
    Ballot.objects.bulk_create(rows)
    return len(rows)
