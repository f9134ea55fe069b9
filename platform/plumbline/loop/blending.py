"""Blends: rounds that make their policy of others' weights instead of training one.

A blend is an experiment whose rounds are points: coefficients of policies, which a merge job makes
one policy of. From there on a point is as any round, answering held-out prompts, judged, measured
and gated, and its policy as any policy. What it is scored by besides the judge are objectives:
reward models whose mean scores span the picture that the points are looked at in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Avg, Q

from align import blends, jobs
from plumbline.accounts.models import Project, User
from plumbline.collect.models import PromptSet
from plumbline.judges.models import Score
from plumbline.loop import evaluation, roundjobs, rounds, rows, training
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import Policy, RewardModel

ALGORITHM = "blend"  # of an experiment that trains nothing
SOUP, BONE, VECTOR = "soup", "bone", "vector"
METHODS = {
    SOUP: "Average: between the policies (rewarded soup)",
    BONE: "Average of policies trained for several objectives each (Bone Soup)",
    VECTOR: "Add what one policy has learnt to another (task arithmetic)",
}
MOST_RANK = 64  # of an adapter that the engines take
MOST_POINTS = 21


@dataclass(frozen=True)
class Point:
    """A policy to make: what was asked for, in words, and a coefficient for each policy's id."""

    asked: str
    parts: Mapping[str, float]


def points(
    method: str, policies: Sequence[Policy], asked: Sequence[Sequence[float]], own: float
) -> list[Point]:
    """The points that shares (or, of a vector, amounts) ask for; none for the bare base alone,
    which is there already. Raises ValueError."""
    bases = {str(one.pk) for one in policies if one.weights == Policy.Weights.BASE}
    found = []
    for wanted in asked:
        if method == VECTOR:
            coefficients = blends.vector(wanted[0])
            words = f"{wanted[0]:+g} of what was learnt"
        else:
            coefficients = blends.bone_soup(wanted, own) if method == BONE else blends.soup(wanted)
            words = " : ".join(f"{share:.0%}" for share in blends.soup(wanted))
        parts: dict[str, float] = {}
        for policy, share in zip(policies, coefficients, strict=True):
            parts[str(policy.pk)] = parts.get(str(policy.pk), 0.0) + share
        parts = {pk: share for pk, share in parts.items() if abs(share) > 1e-9}
        if parts.keys() - bases:
            found.append(Point(words, parts))
    return found


def refusal(policies: Sequence[Policy]) -> str | None:
    """Why these cannot be blended, in a sentence."""
    if len({one.base_model for one in policies}) > 1:
        return "These policies are on different base models; only those of one base can be blended."
    try:
        ranks = [_rank(one) for one in {one.pk: one for one in policies}.values()]
    except (OSError, ValueError, KeyError) as error:
        return f"An adapter cannot be read from here: {error}."
    full = any(one.weights == Policy.Weights.FULL for one in policies)
    if not full and sum(ranks) > MOST_RANK:
        return (
            f"The adapters' ranks sum to {sum(ranks)}, and engines take at most {MOST_RANK}: "
            "blend fewer policies, or ones of lower rank."
        )
    return None


@transaction.atomic
def launch(
    project: Project,
    actor: User | None,
    *,
    name: str,
    method: str,
    found: Sequence[Point],
    prompt_set: PromptSet,
    judge: RewardModel | None,
    objectives: Sequence[RewardModel],
    form: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Experiment:
    """An experiment with a round for each point, the first of them begun. Without a `judge` people
    compare its answers blind. `form`: what was filled in, to be repeated; `fields` are of
    `Experiment`."""
    heaviest = max(found[0].parts, key=lambda pk: (found[0].parts[pk], pk))
    experiment = Experiment.objects.create(
        project=project,
        created_by=actor,
        name=name,
        algorithm=ALGORITHM,
        start=Policy.objects.get(project=project, pk=heaviest),
        prompt_set=prompt_set,
        rounds_wanted=len(found),
        judge=Experiment.Judge.REWARD_MODEL if judge else Experiment.Judge.PEOPLE,
        blend={
            "method": method,
            "points": [asdict(point) for point in found],
            "judge": str(judge.pk) if judge else None,
            "objectives": [str(one.pk) for one in objectives],
            "form": dict(form or {}),
        },
        **fields,
    )
    rounds.begin(experiment)
    return experiment


def point(round: Round) -> Point:
    """What the round makes."""
    return Point(**round.experiment.blend["points"][round.number - 1])


def begin(round: Round) -> None:
    """Its judge is chosen with the blend, not retrained."""
    pk = round.experiment.blend["judge"]
    if pk is not None:
        round.reward_model = RewardModel.objects.get(project=round.experiment.project, pk=pk)
        round.save(update_fields=["reward_model"])


def make(round: Round) -> Policy | None:
    """The point's policy; None while it is being made. A point that is one of the policies is made
    as well, so that all of a blend are measured alike."""
    parts = point(round).parts
    policies = Policy.objects.filter(project=round.experiment.project).in_bulk(
        [UUID(pk) for pk in parts]
    )
    if missing := [pk for pk in parts if UUID(pk) not in policies]:
        raise ValueError(f"Policy {missing[0]}, a part of this blend, is gone.")
    named = {
        policies[UUID(pk)].name: (policies[UUID(pk)].ref, share) for pk, share in parts.items()
    }
    spec = jobs.MergeJob(
        policies={name: ref for name, (ref, _) in named.items()},
        shares={name: share for name, (_, share) in named.items()},
    )
    job = roundjobs.ask(round, "blend", spec, {})
    result = roundjobs.finished(job)
    if result is None:
        return None
    knobs = {"blend": dict(spec.shares)}
    return training.policy_of(round, job, result, "blend", knobs=knobs)


def score(round: Round) -> bool:
    """The candidate's and its opponents' answers under each objective; false while that runs."""
    ready = True
    found = RewardModel.objects.filter(pk__in=round.experiment.blend["objectives"])
    for model in found.order_by("created_at", "pk"):
        if model == round.reward_model:
            continue  # the judge's scores are there
        spec = jobs.ScoreJob(
            reward_model=model.path,
            cache=str(settings.SCORES_DIR),
            max_length=settings.MAX_MODEL_LEN,
        )
        purpose = f"objective:{model.pk.hex}"
        job = roundjobs.ask(round, purpose, spec, {jobs.ITEMS: lambda: evaluation.items(round)})
        if roundjobs.finished(job) is None:
            ready = False
        else:
            rows.import_scores(job, model)
    return ready


def scores(round: Round, policy: Policy) -> dict[UUID, float]:
    """The mean score of a policy's held-out answers in the round, by reward model."""
    answers = Q(completion__in=evaluation.answers(round, policy))
    wanted = round.experiment.blend["objectives"]
    found = Score.objects.filter(answers, reward_model__in=wanted).values("reward_model")
    return {row["reward_model"]: row["mean"] for row in found.annotate(mean=Avg("value"))}


def _rank(policy: Policy) -> int:
    """Of a policy's adapter; 0 of a base."""
    if policy.weights != Policy.Weights.LORA:
        return 0
    config = json.loads((Path(policy.path) / "adapter_config.json").read_text())
    return int(config["r"])
