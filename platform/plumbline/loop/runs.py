"""All rounds of a project as one table: what was set, what came out, in a fixed number of queries.

A thousand rounds are read as plain tuples, without a model instance each; whoever sorts or searches
works on these. Settings are those of the experiment, flattened: `knobs.beta`, `optimiser.epochs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Count

from plumbline.accounts.models import Project
from plumbline.loop.models import Evaluation, Experiment, Round
from plumbline.policies.models import Policy, RewardModel

# Of an experiment: what says who and when, not how.
NOT_SETTINGS = {"id", "project", "name", "created_by", "created_at", "state"}
FIGURES = ("rate", "low", "high", "kl", "kl_k3", "kl_start", "tokens", "opponent_tokens")
OF_THE_ROUND = ("round", "policy_in", "policy_out", "reward_model", "ballots_sha256")
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Run:
    """A round as the table shows it. Rates are against the policy deployed then, and the base."""

    pk: int
    experiment: int
    name: str  # of the experiment
    number: int
    stage: str
    started_at: datetime
    finished_at: datetime | None
    policy: str  # that it made; "" before
    state: str  # of that policy
    settings: Mapping[str, Any]
    current: Figures = field(default_factory=dict)
    base: Figures = field(default_factory=dict)
    gate: bool | None = None  # None: not reached
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the policy's training
    reward_accuracy: float | None = None
    ballots: int | None = None

    @property
    def seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


def runs(project: Project, *, ballots: bool = False) -> list[Run]:
    """Every round, the newest first; `ballots` counts what each was trained on, which costs a
    query over all of them."""
    settings = {pk: (name, one) for pk, name, one in _experiments(project)}
    measured = _measured(project)
    counts = _ballots(project) if ballots else {}
    rows = (
        Round.objects.filter(experiment__project=project)
        .order_by("-started_at", "-pk")
        .values_list(
            "pk",
            "experiment_id",
            "number",
            "stage",
            "started_at",
            "finished_at",
            "policy_out__name",
            "policy_out__state",
            "policy_out__metrics",
            "gate__passed",
            "reward_model__accuracy",
        )
    )
    found = []
    for pk, experiment, number, stage, start, end, policy, state, metrics, gate, accuracy in rows:
        name, one = settings[experiment]
        found.append(
            Run(
                pk=pk,
                experiment=experiment,
                name=name,
                number=number,
                stage=stage,
                started_at=start,
                finished_at=end,
                policy=policy or "",
                state=state or "",
                settings=one,
                current=measured.get((pk, Evaluation.Against.CURRENT), {}),
                base=measured.get((pk, Evaluation.Against.BASE), {}),
                gate=gate,
                metrics=metrics or {},
                reward_accuracy=accuracy,
                ballots=counts.get(pk, 0) if ballots else None,
            )
        )
    return found


def configuration(round: Round) -> dict[str, Any]:
    """Everything the round was set to, and what it took in, by flat name."""
    experiment = round.experiment
    names = dict(Policy.objects.filter(project=experiment.project).values_list("pk", "name"))
    sets = {experiment.prompt_set_id: experiment.prompt_set.name}
    values = {one.attname: getattr(experiment, one.attname) for one in _fields()}
    judge = round.reward_model
    own = {
        "round": round.number,
        "policy_in": names.get(round.policy_in_id, ""),
        "policy_out": names.get(round.policy_out_id, "") if round.policy_out_id else "",
        "reward_model": judge.name if isinstance(judge, RewardModel) else "",
        "ballots_sha256": round.ballots_sha256,
    }
    return {"experiment": experiment.name, **own, **flat(values, names, sets)}


@dataclass(frozen=True)
class Difference:
    """A setting and its value in each round, in the rounds' order; None where a round has none."""

    name: str
    values: list[Any]

    @property
    def same(self) -> bool:
        return all(value == self.values[0] for value in self.values)


def differences(configurations: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Every setting of any of them, in the first one's order, then the others'."""
    found = list(configurations)
    names: dict[str, None] = {}
    for one in found:
        names |= dict.fromkeys(one)
    return [Difference(name, [one.get(name) for one in found]) for name in names]


def flat(
    values: Mapping[str, Any], policies: Mapping[UUID, str], sets: Mapping[int, str]
) -> dict[str, Any]:
    """Settings by flat name: a JSON field's keys after a dot, rows of other tables by name."""
    found: dict[str, Any] = {}
    for one in _fields():
        value = values[one.attname]
        if isinstance(value, dict):
            found |= {f"{one.name}.{key}": inner for key, inner in sorted(value.items())}
        elif isinstance(value, UUID):
            found[one.name] = policies.get(value, str(value))
        elif one.name == "prompt_set":
            found[one.name] = sets.get(value, value)
        else:
            found[one.name] = value
    return found


def _fields() -> list[models.Field[Any, Any]]:
    return [one for one in Experiment._meta.concrete_fields if one.name not in NOT_SETTINGS]


def _experiments(project: Project) -> Iterable[tuple[int, str, dict[str, Any]]]:
    columns = [one.attname for one in _fields()]
    policies = dict(Policy.objects.filter(project=project).values_list("pk", "name"))
    sets = dict(project.prompt_sets.values_list("pk", "name"))
    found = Experiment.objects.filter(project=project).order_by("pk")
    for row in found.values("pk", "name", *columns):
        yield row["pk"], row["name"], flat(row, policies, sets)


def _measured(project: Project) -> dict[tuple[int, str], dict[str, float | None]]:
    rows = Evaluation.objects.filter(round__experiment__project=project)
    return {
        (pk, against): dict(zip(FIGURES, figures, strict=True))
        for pk, against, *figures in rows.values_list("round_id", "against", *FIGURES)
    }


def _ballots(project: Project) -> dict[int, int]:
    through = Round.ballots.through
    rows = through.objects.filter(round__experiment__project=project).order_by()
    return dict(rows.values_list("round_id").annotate(count=Count("pk")))
