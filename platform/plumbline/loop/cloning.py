"""An experiment or one of its rounds as the start of a new one: the form's values, and the words.

A round has no settings of its own: its clone is an experiment of one round that starts from the
policy the round started from. What cannot be taken along is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plumbline.accounts.models import Project
from plumbline.loop import forms, presets
from plumbline.loop.forms import ExperimentForm
from plumbline.loop.models import Experiment, Round
from plumbline.loop.presets import Setting
from plumbline.policies.models import Policy

UNCOMPARED = ("name",)  # always another one


@dataclass(frozen=True)
class Clone:
    """What is cloned: `mark` names it in a form, `values` fill the form, `said` tells of it."""

    mark: str
    title: str
    values: dict[str, Any]
    said: str


def find(project: Project, mark: str) -> Clone | None:
    """The clone that a form's mark names ("experiment-3", "round-8"); None where it is not here."""
    what, _, pk = mark.partition("-")
    if not pk.isdecimal():
        return None
    if what == "experiment":
        found = Experiment.objects.filter(project=project, pk=int(pk)).first()
        return of_experiment(found) if found else None
    if what == "round":
        rounds = Round.objects.select_related("experiment", "policy_in")
        one = rounds.filter(experiment__project=project, pk=int(pk)).first()
        return of_round(one) if one else None
    return None


def of_experiment(experiment: Experiment) -> Clone:
    return Clone(
        mark=f"experiment-{experiment.pk}",
        title=experiment.name,
        values=forms.like(experiment),
        said=f"Every setting is {experiment.name}'s, its seed and its first policy among them: "
        "left as it is, it draws the same prompts and answers. People's votes are asked anew.",
    )


def of_round(round: Round) -> Clone:
    experiment, start = round.experiment, round.policy_in
    values = forms.like(experiment)
    values |= {"name": f"{experiment.name}, round {round.number} again"[:80], "rounds_wanted": 1}
    values["start"] = "" if start.weights == Policy.Weights.BASE else str(start.pk)
    said = f"One round with {experiment.name}'s settings, from {start.name}, as round "
    said += f"{round.number} began."
    if round.number > 1:
        said += (
            " It is a first round: it draws prompts and answers anew, its reward model learns from "
            "its own votes, it replays nothing of earlier rounds, and its reference “the "
            "experiment's first policy” is the policy it starts from."
        )
    return Clone(f"round-{round.pk}", f"round {round.number} of {experiment.name}", values, said)


def differences(form: ExperimentForm, clone: Clone) -> list[Setting]:
    """Where the form has left what it was cloned from: before is the original's value."""
    values = {name: value for name, value in clone.values.items() if name not in UNCOMPARED}
    found = presets.beside(form, values)
    return [Setting(one.label, one.after, one.before) for one in found if one.changes]
