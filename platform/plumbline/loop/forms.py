"""The launch form: an experiment's settings, plus the knobs its algorithm declares.

Knob fields are derived from the algorithm's own declaration (default, bounds, choices, help), so a
new algorithm file needs no form of its own. Everything a round could trip over later and that is
known now is refused here, in a sentence.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import transaction
from django.db.models import Count, Q

from align import algorithms, jobs
from align.algorithm import Algorithm, Draws
from align.pairing import RULES
from plumbline.accounts.models import Project, User
from plumbline.collect import selection
from plumbline.collect.models import Campaign, Prompt, PromptSet
from plumbline.judges.models import Judge
from plumbline.loop import examples, judge_refusals, refusals, rewarding
from plumbline.loop.fields import knob_field
from plumbline.loop.gate_form import GATES
from plumbline.loop.launch import Settings
from plumbline.loop.models import FRESH, Experiment
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy

KNOB = "knob-"
# Fields of align.jobs.Optimiser, and those of align.jobs.Weights.
OPTIMISER = ("learning_rate", "epochs", "batch_size", "micro_batch_tokens")
WEIGHTS = ("mode", "rank", "precision", "activation_checkpointing")
REWARD = {"reward_learning_rate": "learning_rate", "reward_epochs": "epochs"}
APART = {
    *(*OPTIMISER, *WEIGHTS, *REWARD, *rewarding.ENSEMBLE, *rewarding.LABELS),
    *("start", "soup_with", "prompt_set", "asked_as", "reward_objective", "agreement"),
    *("labellers", "evaluator"),
}  # not plain columns
USUAL_PROMPTS = 64


@dataclass(frozen=True)
class Group:
    """A fieldset of the form: what it is about, and its fields in order. folded: shown closed."""

    title: str
    about: str
    fields: list[forms.BoundField]
    folded: bool = False


def seam(
    optimiser: jobs.Optimiser, weights: jobs.Weights, reward: jobs.Optimiser
) -> dict[str, Any]:
    """The form's values of what goes to the trainer as it is."""
    values = {name: getattr(optimiser, name) for name in OPTIMISER}
    values |= {name: getattr(weights, name) for name in WEIGHTS}
    return values | {name: getattr(reward, field) for name, field in REWARD.items()}


def like(experiment: Experiment) -> dict[str, Any]:
    """Initial values of a form that repeats an experiment."""
    plain = {
        field.name: getattr(experiment, field.name)
        for field in Experiment._meta.concrete_fields
        if field.name in ExperimentForm.base_fields and field.name not in APART
    }
    return {
        **plain,
        **seam(
            jobs.Optimiser(**experiment.optimiser),
            jobs.Weights(**experiment.weights),
            jobs.Optimiser(**experiment.reward_optimiser),
        ),
        **{KNOB + name: value for name, value in experiment.knobs.items()},
        **rewarding.like(experiment),
        "name": f"{experiment.name}, again"[:80],
        "start": str(experiment.start_id),
        "soup_with": str(experiment.soup_with_id or ""),
        "prompt_set": str(experiment.prompt_set_id),
        "asked_as": str(experiment.asked_as_id or ""),
        "labellers": [str(one.pk) for one in experiment.who_labels],
        "evaluator": str(experiment.evaluator_id or ""),
    }


def as_data(form: ExperimentForm) -> dict[str, Any]:
    """What a browser would send of a form as it is shown: every field's value by name."""
    found = {name: form[name].value() for name in form.fields}
    found |= {"algorithm": form.shown, "reward_objective": form.objective_shown}
    return {name: "" if value is None else value for name, value in found.items()}


def rule_about(name: str) -> str:
    """What a pair rule does, from its own docstring."""
    return " ".join((RULES[name].__doc__ or "").split())


class ExperimentForm(Settings):
    """Everything a researcher decides before the first round; `save` creates the experiment."""

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project
        self.found = algorithms.discover()
        self.sets = {
            str(one.pk): one
            for one in PromptSet.objects.filter(project=project)
            .annotate(
                train=Count("prompts", filter=Q(prompts__split=Prompt.Split.TRAIN)),
                heldout=Count("prompts", filter=Q(prompts__split=Prompt.Split.HELDOUT)),
            )
            .order_by("-created_at", "-pk")
        }
        self.campaigns = {
            str(one.pk): one for one in Campaign.objects.filter(project=project, purpose="train")
        }
        self.judges = {
            str(one.pk): one for one in Judge.objects.filter(project=project, retired_at=None)
        }
        trained = Policy.objects.filter(project=project).exclude(weights=Policy.Weights.BASE)
        self.policies = {str(one.pk): one for one in trained}
        self._offer()
        self._initial()
        self.shown = self._asked("algorithm", "dpo")
        self.chosen = self.found[self.shown]
        for one in self.chosen.knobs():
            self.fields[KNOB + one.name] = knob_field(one)
            self.initial.setdefault(KNOB + one.name, one.default)
        self.offer_objectives()

    def groups(self) -> Iterator[Group]:
        for title, about, names in self.GROUPS:
            fields = [self[name] for name in names]
            folded = title in self.FOLDED and not any(self._touched(one) for one in fields)
            yield Group(title, about, fields, folded)

    def knobs(self) -> list[forms.BoundField]:
        return [self[KNOB + one.name] for one in self.chosen.knobs()]

    def rules(self) -> list[tuple[str, str]]:
        return [(name, rule_about(name)) for name in RULES]

    def strategies(self) -> list[tuple[str, str]]:
        """What each way of choosing comparisons does, from its own file."""
        return [(one.title, one.about()) for one in selection.offered().values()]

    def about(self) -> str:
        """What the chosen algorithm's own file says of it."""
        return inspect.getdoc(inspect.getmodule(self.chosen)) or ""

    def warnings(self) -> tuple[str, ...]:
        """What the algorithm says of knobs that are allowed and likely to disappoint."""
        values = {one.name: self[KNOB + one.name].value() for one in self.chosen.knobs()}
        try:
            return self.chosen.build(values).warnings()
        except ValueError:
            return ()  # the field's own error says more

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or self.cleaned_data
        prompts = self.sets.get(data.get("prompt_set", ""))
        for name, sentence in refusals.of(self.project, data, prompts):
            self.add_error(name, sentence)
        for name in (*judge_refusals.NUMBERS, *GATES, "annotator_percent"):
            if data.get(name) is None and name not in self.errors:  # left empty: as it comes
                data[name] = judge_refusals.usual(name)
        for name, sentence in judge_refusals.of(data, self.judges):
            self.add_error(name, sentence)
        self._clean_knobs(data)
        self.clean_reward(data)
        asked_as = self.campaigns.get(data.get("asked_as", ""))
        for name, sentence in refusals.of_questions(data, self.objective, prompts, asked_as):
            self.add_error(name, sentence)
        return data

    def base_model(self) -> str:
        """The folder of the base model that the chosen first policy stands on."""
        chosen = self.policies.get(str(self["start"].value() or ""))
        return chosen.base_model if chosen else str(settings.BASE_MODEL)

    def save(self, user: User) -> Experiment:
        """The experiment, in the caller's transaction; its first round is not begun here."""
        data = self.cleaned_data
        plain = {
            name: data[name] for _, _, names in self.GROUPS for name in names if name not in APART
        }
        weights = {name: data[name] for name in WEIGHTS}
        reward = {field: data[name] for name, field in REWARD.items()}
        with transaction.atomic():
            made = Experiment.objects.create(
                project=self.project,
                created_by=user,
                algorithm=data["algorithm"],
                knobs=data["knobs"],
                start=self.policies.get(data["start"]) or serving.base_policy(self.project),
                soup_with=self.policies.get(data["soup_with"]),
                prompt_set=self.sets[data["prompt_set"]],
                asked_as=self.campaigns.get(data["asked_as"]),
                evaluator=self.judges.get(data["evaluator"]),
                weights={**weights, "alpha": 2 * data["rank"]},
                optimiser={name: data[name] for name in OPTIMISER},
                reward_optimiser={**reward, "micro_batch_tokens": data["micro_batch_tokens"]},
                **self.reward_columns(),
                **plain,
            )
            made.labellers.set([self.judges[pk] for pk in data["labellers"]])
            return made

    def _offer(self) -> None:
        """The choices that depend on the project and on what is installed."""
        self._choose("algorithm", [(name, cls.title) for name, cls in self.found.items()])
        trained = [(pk, policy.name) for pk, policy in self.policies.items()]
        self._choose("start", [("", "The base model"), *trained])
        self._choose("soup_with", [("", "None"), *trained])
        asked = [(pk, one.name) for pk, one in self.campaigns.items()]
        self._choose("asked_as", [("", "None: they compare, without guidelines"), *asked])
        named = [(pk, one.name) for pk, one in self.judges.items()]
        self._choose("labellers", named)
        self._choose("evaluator", [("", "None"), *named])
        self._choose(
            "prompt_set",
            [
                (pk, f"{one.name}: {one.train} to train on, {one.heldout} held out")
                for pk, one in self.sets.items()
            ],
        )
        offered = selection.offered()
        self._choose("selection", [(name, one.title) for name, one in offered.items()])
        self._choose("pair_rule", [(name, name.replace("_", " ")) for name in RULES])

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def _initial(self) -> None:
        """The vetted defaults of the seam and the models, fitted to the newest prompt set."""
        defaults: dict[str, Any] = {
            field.name: field.get_default()
            for field in Experiment._meta.concrete_fields
            if field.name in self.fields and field.has_default()
        }
        defaults |= seam(jobs.Optimiser(), jobs.Weights(), jobs.Optimiser())
        defaults |= rewarding.initial() | {"labellers": []}
        served = Deployment.objects.filter(project=self.project, alias=serving.CURRENT).first()
        if served is not None and str(served.policy_id) in self.policies:
            defaults["start"] = str(served.policy_id)
        prompts = next((one for one in self.sets.values() if one.train), None)
        if prompts is not None:
            defaults["prompt_set"] = str(prompts.pk)
            defaults["prompts_per_round"] = min(USUAL_PROMPTS, prompts.train)
            defaults["heldout_prompts"] = min(USUAL_PROMPTS, max(1, prompts.heldout))
        self.initial = {**defaults, **self.initial}

    def _touched(self, one: forms.BoundField) -> bool:
        """Whether a field of how training is computed is wrong, or is not as it comes."""
        usual = seam(jobs.Optimiser(), jobs.Weights(), jobs.Optimiser())
        usual |= {"processes": jobs.TrainJob.processes}
        return bool(one.errors) or str(one.value() or 0) != str(usual[one.name] or 0)

    def _asked(self, name: str, otherwise: str) -> str:
        """A choice as it stands in the form, if it is one of those offered."""
        value = self.data.get(name) if self.is_bound else self.initial.get(name)
        if value in self.found:
            return str(value)
        return otherwise if otherwise in self.found else next(iter(self.found))

    def _clean_knobs(self, data: dict[str, Any]) -> None:
        values = {}
        for one in self.chosen.knobs():
            name = KNOB + one.name
            if name not in data:
                continue
            try:
                values[one.name] = one.clean(data[name])
            except ValueError as error:
                label = str(self.fields[name].label)
                self.add_error(name, f"{str(error).replace(one.name, label, 1)}.")
        if not any(name.startswith(KNOB) for name in self.errors):
            try:
                self._check_answers(self.chosen.build(values), data)
            except ValueError as error:  # knobs that are each fine but not together
                self.add_error(NON_FIELD_ERRORS, str(error))
        data["knobs"] = values

    def _check_answers(self, algorithm: Algorithm, data: dict[str, Any]) -> None:
        """Does the round give the algorithm the answers that its examples are made of?"""
        if data.get("anchor") and "chosen" not in algorithm.roles:
            self.add_error(
                "anchor", f"{algorithm.title} chooses no answer to hold on to; leave this at 0."
            )
        if data.get("selection", "random") != "random" and algorithm.selection != "random":
            self.add_error(
                "selection",
                f"{algorithm.title} has a rule of its own for what is compared; leave it at any "
                "two.",
            )
        plan = algorithm.draws(data.get("samples_per_prompt", 2), data.get("temperature", 1.0))
        if data.get("labels") in FRESH:
            self._check_temperatures(algorithm, plan, data.get("other_temperature"))
            if sum(draws.n for draws in plan) < len(algorithm.roles):
                self.add_error(
                    "samples_per_prompt",
                    f"{algorithm.title} reads {len(algorithm.roles)} answers to each prompt; "
                    "draw at least as many.",
                )
        elif any(draws.source != examples.POLICY for draws in plan):
            self.add_error(
                "labels",
                f"{algorithm.title} also draws answers of its own to learn from, which ballots "
                "that are already there do not hold. Let people compare fresh answers.",
            )

    def _check_temperatures(
        self, algorithm: Algorithm, plan: Sequence[Draws], other: float | None
    ) -> None:
        """May half of the policy's answers be drawn at another temperature?"""
        if other is None:
            return
        half = max((draws.n // 2 for draws in plan if draws.source == examples.POLICY), default=0)
        if algorithm.selection == "across":
            sentence = (
                f"{algorithm.title} compares answers of two policies with each other; two "
                "temperatures of one would be compared as well, in vain. Leave this empty."
            )
        elif other == 0 and half > 1:
            sentence = (
                f"At temperature 0 all {half} answers of that half are the same; raise it, or draw "
                "fewer answers."
            )
        else:
            return
        self.add_error("other_temperature", sentence)
