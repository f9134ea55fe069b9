"""An experiment as a file: every setting by the names of the launch form, and back.

What a row of this database is called by elsewhere - prompts, policies, a campaign - is named by
name and hash, so that the same experiment can be launched in another project or installation, or
is refused with a sentence where what it needs is not the same there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from django.db import transaction

from align import jobs
from plumbline.accounts.models import Project, User
from plumbline.collect.models import PromptSet
from plumbline.loop import autopilot, forms, judge_names, rounds
from plumbline.loop.forms import OPTIMISER, REWARD, WEIGHTS, ExperimentForm
from plumbline.loop.models import Autopilot, Experiment
from plumbline.policies import serving
from plumbline.policies.models import Policy

FORMAT = 1
# Told by name, not by a row's id.
NAMED = ("start", "soup_with", "prompt_set", "asked_as", "labellers", "evaluator")
SEAMS: dict[str, type[Any]] = {
    "weights": jobs.Weights,
    "optimiser": jobs.Optimiser,
    "reward_optimiser": jobs.Optimiser,
}  # columns that hold more than the form asks for
ASKED = {
    "weights": {*WEIGHTS, "alpha"},
    "optimiser": set(OPTIMISER),
    "reward_optimiser": {*REWARD.values(), "micro_batch_tokens"},
}


class Refused(Exception):
    """A file that is not launched; `sentences` say what is wrong with it, each with its field."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def write(experiment: Experiment) -> dict[str, Any]:
    """The file's content, as JSON."""
    values = forms.like(experiment)
    plain = {name: value for name, value in values.items() if name not in (*NAMED, "name")}
    pilot = Autopilot.objects.filter(experiment=experiment).first()
    return {
        "plumbline": FORMAT,
        "project": experiment.project.slug,
        "name": experiment.name,
        "settings": plain,
        "besides": {name: extra for name in SEAMS if (extra := _besides(experiment, name))},
        "start": _policy(experiment.start),
        "soup_with": _policy(experiment.soup_with) if experiment.soup_with else None,
        "prompt_set": {
            "name": experiment.prompt_set.name,
            "sha256": prompts_sha256(experiment.prompt_set),
        },
        "asked_as": experiment.asked_as.name if experiment.asked_as else None,
        "labellers": [judge_names.told(one) for one in experiment.who_labels],
        "evaluator": judge_names.told(experiment.evaluator) if experiment.evaluator else None,
        "autopilot": autopilot.settings(experiment, pilot) if pilot else None,
    }


def launch(
    told: Mapping[str, Any], project: Project, user: User, *, name: str = "", anyway: bool = False
) -> Experiment:
    """The experiment of a file, with its first round begun. Raises Refused with a sentence for
    everything that is wrong; then nothing was launched. `anyway` launches on prompts or weights
    that are other ones under the same name."""
    if told.get("plumbline") != FORMAT or not isinstance(told.get("settings"), Mapping):
        raise Refused(f"This is no settings file of an experiment (plumbline: {FORMAT}).")
    values = {**told["settings"], "name": name or free_name(project, str(told.get("name", "")))}
    first = ExperimentForm(project, initial={**values, "start": "", "soup_with": ""})
    if unknown := sorted(values.keys() - first.fields.keys()):
        raise Refused(f"There is no setting called {', '.join(unknown)}.")
    values |= _rows(told, first, anyway)
    form = ExperimentForm(project, forms.as_data(ExperimentForm(project, initial=values)))
    if not form.is_valid():
        raise Refused(*_errors(form))
    besides = _checked(told.get("besides") or {})
    with transaction.atomic():
        made = form.save(user)
        for column, extra in besides.items():
            setattr(made, column, {**getattr(made, column), **extra})
        made.save(update_fields=list(SEAMS))
        if told.get("autopilot"):
            autopilot.change(made, user, dict(told["autopilot"]))
        rounds.begin(made)
    return made


def free_name(project: Project, name: str) -> str:
    """The name itself, or with a number behind it where an experiment has it already."""
    taken = set(Experiment.objects.filter(project=project).values_list("name", flat=True))
    found, number = name, 1
    while found in taken:
        number += 1
        end = f", run {number}"
        found = name[: 80 - len(end)] + end
    return found


def prompts_sha256(prompts: PromptSet) -> str:
    """Of all its prompts, train and held-out, in an order that no database decides."""
    rows = prompts.prompts.values_list("split", "digest")
    text = "\n".join(sorted(f"{split} {digest}" for split, digest in rows))
    return hashlib.sha256(text.encode()).hexdigest()


def _policy(policy: Policy) -> dict[str, str]:
    base = policy.weights == Policy.Weights.BASE
    return {"name": "" if base else policy.name, "sha256": policy.sha256, "base": policy.base_model}


def _besides(experiment: Experiment, column: str) -> dict[str, Any]:
    """What the column holds and the form does not ask for, alpha among it where it is not twice the
    rank."""
    held = getattr(experiment, column)
    extra = {name: value for name, value in held.items() if name not in ASKED[column]}
    if column == "weights":
        weights = jobs.Weights(**held)
        if weights.alpha != 2 * weights.rank:
            extra["alpha"] = weights.alpha
    return extra


def _rows(told: Mapping[str, Any], form: ExperimentForm, anyway: bool) -> dict[str, str]:
    """The ids that the file's names stand for here."""
    wrong: list[str] = []
    found = {
        "prompt_set": _prompt_set(told.get("prompt_set") or {}, form, anyway, wrong),
        "start": _weights(told.get("start") or {}, form, anyway, wrong),
        "soup_with": _weights(told.get("soup_with") or {}, form, anyway, wrong),
        "asked_as": "",
        **judge_names.found(told, form.judges, anyway, wrong),
    }
    if campaign := told.get("asked_as"):
        ids = [pk for pk, one in form.campaigns.items() if one.name == campaign]
        if not ids:
            wrong.append(f"This project has no campaign called {campaign} to ask people as in.")
        found["asked_as"] = ids[0] if ids else ""
    if wrong:
        raise Refused(*wrong)
    return found


def _prompt_set(
    named: Mapping[str, str], form: ExperimentForm, anyway: bool, wrong: list[str]
) -> str:
    for pk, one in form.sets.items():
        if one.name == named.get("name"):
            if prompts_sha256(one) != named.get("sha256") and not anyway:
                wrong.append(f"The prompts of {one.name} are not those the file was made with.")
            return pk
    wrong.append(f"This project has no prompt set called {named.get('name')}.")
    return ""


def _weights(named: Mapping[str, str], form: ExperimentForm, anyway: bool, wrong: list[str]) -> str:
    """The id of a policy; "" for the base model, or where none is named."""
    if named.get("name"):
        for pk, policy in form.policies.items():
            if policy.name == named["name"]:
                if policy.sha256 != named.get("sha256") and not anyway:
                    wrong.append(f"The policy {policy.name} has other weights here.")
                return pk
        wrong.append(f"This project has no policy called {named['name']}.")
    elif named:
        here = serving.base_policy(form.project).base_model
        if here != named.get("base") and not anyway:
            wrong.append(f"The base model here is {here}, and the file's is {named.get('base')}.")
    return ""


def _checked(besides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Extra fields of what goes to the trainer as it is."""
    for column, extra in besides.items():
        if column not in SEAMS or not isinstance(extra, Mapping):
            raise Refused(f"besides: there is nothing called {column}.")
        unknown = sorted(extra.keys() - {one.name for one in fields(SEAMS[column])})
        if unknown:
            raise Refused(f"besides: {column} has no {', '.join(unknown)}.")
    return {column: dict(extra) for column, extra in besides.items()}


def _errors(form: ExperimentForm) -> Iterator[str]:
    for name, sentences in form.errors.items():
        label = form.fields[name].label if name in form.fields else ""
        for sentence in sentences:
            yield f"{label}: {sentence}" if label else str(sentence)
