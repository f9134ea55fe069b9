"""What a researcher decides about reward models, and the job that follows from it.

An objective's knobs are derived from its own declaration, as an algorithm's are, so a new objective
file needs no form of its own. Settings that cannot work together are refused in a sentence.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, cast

from django import forms

from align import ensemble, jobs, objectives
from align.ensemble import Ensemble
from align.labels import Labels
from align.objective import Objective
from plumbline.collect.models import Ballot
from plumbline.loop import roundjobs, tastes
from plumbline.loop.fields import knob_field, number, real
from plumbline.loop.models import Experiment, Round

KNOB = "reward-knob-"
ENSEMBLE = {f"reward_{one.name}": one.name for one in fields(Ensemble)}
LABELS = {f"label_{one.name}": one.name for one in fields(Labels)}
BOXES = ("label_raters", "label_margin")


class RewardSettings(forms.Form):
    """The fields, in the order that people see."""

    reward_form = forms.ChoiceField(
        label="Reward model",
        choices=Experiment.RewardForm.choices,
        help_text="A probe reads the base model's hidden states and how far an answer "
        "contradicts it. On the demo's base it learns more from a few hundred votes than a "
        "trained copy does, in seconds; thousands were not tried.",
    )
    reward_learning_rate = real(
        "Reward model's learning rate",
        "When a reward model is trained; a probe needs none.",
        least=0,
        most=1,
    )
    reward_epochs = number(
        "Reward model's epochs",
        "Of a trained copy: passes over all ballots so far.",
        least=1,
        most=100,
    )
    reward_folds = number(
        "Folds for its certainty",
        "Of a trained copy: how many more are trained, each on the other folds' votes, to tell by "
        "the votes it did not see how sure the model may be. 3 make training three times as long; "
        "0 leaves that to the votes held out of every training. A probe has folds in any case.",
        least=0,
        most=10,
    )
    reward_objective = forms.ChoiceField(
        label="Reward objective",
        help_text="What its loss makes of votes: pairs, whole rankings, ties, or a ratio of "
        "policies. What the chosen one says of itself is below.",
    )
    reward_members = number(
        "Members",
        "Reward models that each learn from votes drawn anew by prompt. Where they disagree, the "
        "votes do not say; five tell most of what more would. 1 is a single model.",
        least=1,
        most=ensemble.ROOM,
    )
    reward_sharing = forms.ChoiceField(
        label="Members share",
        choices=[
            ("heads", "The backbone: heads of their own"),
            ("adapters", "Nothing: a model of their own"),
        ],
        help_text="Heads are cheap and are fooled alike; whole models cost as often as there are "
        "members. Members of a probe share its base.",
    )
    reward_reading = forms.ChoiceField(
        label="Read as",
        choices=[
            ("mean", "Their mean"),
            ("worst", "The worst of them (WCO)"),
            ("uncertainty", "The mean less a penalty on disagreement (UWO)"),
            ("nominal", "The least doubtful and the worst, mixed (BRME)"),
        ],
        help_text="All but the mean hold a policy back where members disagree, which is where "
        "over-optimisation leads (arXiv:2310.02743).",
    )
    reward_penalty = real(
        "Penalty on disagreement",
        "Times the members' variance. 0.5 is published for best-of-n, 0.1 for PPO.",
        least=0,
        most=100,
    )
    reward_nominal_share = real(
        "Share of the least doubtful",
        "Of the member that foretold best the votes it did not see; the worst has the rest.",
        least=0,
        most=1,
    )
    agreement = forms.ChoiceField(
        label="Where members disagree",
        choices=Experiment.Agreement.choices,
        help_text="Of pairs made by the reward model's scores; needs two members or more.",
    )
    label_raters = forms.BooleanField(
        label="Weigh raters",
        required=False,
        help_text="Votes count by how reliable their rater proves to be against the others "
        "(Crowd-BT); one who says the opposite is read turned around. Raters whose doubts agree "
        "with each other have a taste, and are not discounted. No vote is changed.",
    )
    label_machines = real(
        "Weight of AI votes",
        "Of votes whose voter stated a probability, as AI judges do. 0 trains on people's alone; "
        "held-out votes are people's in any case, if there are any.",
        least=0,
        most=1,
    )
    label_newest = real(
        "Weight of the newest round",
        "How many times as much as older votes the newest round's count.",
        least=0.01,
        most=100,
    )
    label_flip = real(
        "Votes turned around, at most",
        "Share of the preferences: those contradicted most by models that never saw them. 0.1 is "
        "a start where a tenth or more of the votes are slips; 0 is off.",
        least=0,
        most=0.5,
    )
    label_smooth = real(
        "Softening",
        "Of contradicted preferences that stay as they are: what they give to the other side; "
        "0.2 is published, 0 is off.",
        least=0,
        most=0.5,
    )
    label_margin = forms.BooleanField(
        label="Adaptive margin",
        required=False,
        help_text="A preference asks for the margin that models which never saw it foretell.",
    )
    label_cap = real(
        "Turned of one rater, at most",
        "Share of a rater's preferences; a minority's taste is not noise.",
        least=0,
        most=1,
    )

    REWARD_GROUP = (
        "Reward model",
        "Retrained from the base on all ballots so far in every round that needs one. What was "
        "turned around or counted less is told on the round's page; no vote is ever changed.",
        (
            "reward_form",
            "reward_learning_rate",
            "reward_epochs",
            "reward_folds",
            "reward_members",
            "reward_sharing",
            "reward_reading",
            "reward_penalty",
            "reward_nominal_share",
            "agreement",
            "label_raters",
            "label_machines",
            "label_newest",
            "label_flip",
            "label_smooth",
            "label_margin",
            "label_cap",
        ),
    )

    def offer_objectives(self) -> None:
        """The objectives there are, and the fields of the chosen one's knobs."""
        found = objectives.discover()
        field = self.fields["reward_objective"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, cls.title) for name, cls in found.items()]
        source = self.data if self.is_bound else self.initial
        asked = source.get("reward_objective")
        self.objective_shown = asked if asked in found else "bradley_terry"
        self.objective: type[Objective] = found[self.objective_shown]
        for one in self.objective.knobs():
            self.fields[KNOB + one.name] = knob_field(one)
            self.initial.setdefault(KNOB + one.name, one.default)

    def reward_knobs(self) -> list[forms.BoundField]:
        return [self[KNOB + one.name] for one in self.objective.knobs()]

    def objective_about(self) -> str:
        """What the chosen objective's own file says of it."""
        return inspect.getdoc(inspect.getmodule(self.objective)) or ""

    def clean_reward(self, data: dict[str, Any]) -> None:
        """Check the knobs, and leave them in `data` as reward_knobs."""
        values = {}
        for one in self.objective.knobs():
            name = KNOB + one.name
            if name not in data:
                continue
            try:
                values[one.name] = one.clean(data[name])
            except ValueError as error:
                self.add_error(
                    name, f"{str(error).replace(one.name, str(self.fields[name].label))}."
                )
        data["reward_knobs"] = values
        for name, sentence in refusals(self.objective, data):
            self.add_error(name, sentence)

    def reward_columns(self) -> dict[str, Any]:
        """What an experiment keeps of all this, beside the form and the optimiser."""
        data = self.cleaned_data
        return {
            "reward_objective": data["reward_objective"],
            "reward_knobs": data["reward_knobs"],
            "reward_ensemble": {field: data[name] for name, field in ENSEMBLE.items()},
            "reward_labels": {field: data[name] for name, field in LABELS.items()},
            "agreement": data["agreement"],
        }


def refusals(objective: type[Objective], data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, sentence) for settings of a reward model that cannot work together."""
    found = []
    probe = data.get("reward_form") == Experiment.RewardForm.PROBE
    several = data.get("reward_members", 1) > 1
    if probe and data.get("reward_objective") != "bradley_terry":
        found.append(("reward_objective", "A probe is fitted by Bradley-Terry; leave it at that."))
    if several and objective.forward == "policy":
        found.append(("reward_members", "A policy's implicit reward is one; there are no members."))
    if several and objective.forward == "side_by_side" and data.get("reward_sharing") != "adapters":
        found.append(
            ("reward_sharing", f"{objective.title} has no heads; let members share nothing.")
        )
    if data.get("reward_folds") == 1:
        found.append(
            ("reward_folds", "One fold leaves no other to learn from; ask for two or more, or 0.")
        )
    if not several and data.get("agreement") != Experiment.Agreement.NONE:
        found.append(("agreement", "A single model cannot disagree; ask for two members or more."))
    elif (
        data.get("agreement") != Experiment.Agreement.NONE
        and data.get("pairs_from") != Experiment.Pairs.REWARD_MODEL
    ):
        found.append(("agreement", "Voted pairs are people's word; no model is asked about them."))
    changed = ("label_flip", "label_smooth", "label_margin")
    if objective.reads != "preferences" or objective.forward != "answers" or objective.by_rater:
        found += [
            (name, f"{objective.title} does not read changed preferences; leave this off.")
            for name in changed
            if data.get(name)
        ]
    return found


def initial() -> dict[str, Any]:
    """Values of a form for a new experiment: everything off, as it is by default."""
    return seam(Ensemble(), Labels())


def seam(members: Ensemble, view: Labels) -> dict[str, Any]:
    return {
        **{name: getattr(members, field) for name, field in ENSEMBLE.items()},
        **{name: getattr(view, field) for name, field in LABELS.items()},
    }


def like(experiment: Experiment) -> dict[str, Any]:
    """Values of a form that repeats an experiment."""
    return {
        **seam(Ensemble(**experiment.reward_ensemble), Labels(**experiment.reward_labels)),
        "reward_objective": experiment.reward_objective,
        "agreement": experiment.agreement,
        **{KNOB + name: value for name, value in experiment.reward_knobs.items()},
    }


def told(experiment: Experiment) -> tuple[str, list[tuple[str, Any]]]:
    """The objective's title, and its knobs by label, for a page."""
    found = objectives.discover().get(experiment.reward_objective)  # None: its file is gone
    defaults = {one.name: one.default for one in found.knobs()} if found else {}
    values = defaults | experiment.reward_knobs
    named = [(name.replace("_", " ").capitalize(), value) for name, value in values.items()]
    return found.title if found else experiment.reward_objective, named


def check_learnable(experiment: Experiment, ballots: Iterable[Ballot]) -> None:
    """Raises ValueError with a sentence where a round's frozen ballots hold nothing that its
    objective or its pairs could be made from."""
    ballots = list(ballots)
    by_model = Experiment.Pairs.REWARD_MODEL in (experiment.pairs_from, experiment.judge)
    objective = objectives.get(experiment.reward_objective).build(experiment.reward_knobs)
    by_ratings = by_model and objective.reads == "ratings" and not objective.votes_for_ratings
    if by_ratings and not any(ballot.ratings for ballot in ballots):
        raise ValueError(
            f"{objective.title} learns from people's ratings, and nobody rated an answer: let the "
            "round's campaign ask for ratings by criteria, or let the objective learn from votes."
        )
    voted = experiment.pairs_from == Experiment.Pairs.VOTES or not by_ratings
    if voted and not any(ballot.outcome == Ballot.Outcome.RANKED for ballot in ballots):
        raise ValueError("Nobody ranked any answers before labelling ended: nothing to learn from.")


def spec(round: Round) -> jobs.RewardJob:
    """The job that trains a round's reward model. Raises ValueError when its file is gone."""
    experiment = round.experiment
    members = Ensemble(**experiment.reward_ensemble)
    objective = objectives.get(experiment.reward_objective)
    policy = objective.forward == "policy"
    probe = experiment.reward_form == Experiment.RewardForm.PROBE
    apart = members.members > 1 and members.sharing == "adapters"
    return jobs.RewardJob(
        base=jobs.ModelRef(base=experiment.start.base_model),
        objective=experiment.reward_objective,
        knobs=experiment.reward_knobs,
        form=cast(jobs.RewardForm, experiment.reward_form),
        folds=experiment.reward_folds,
        processes=1 if probe or policy or apart else experiment.processes,
        ensemble=members,
        labels=Labels(**experiment.reward_labels),
        policy=round.policy_in.ref if policy else None,
        tastes=tastes.before(round) if objective.by_rater else {},
        weights=jobs.Weights(**experiment.weights),
        optimiser=roundjobs.optimiser(experiment, experiment.reward_optimiser),
    )
