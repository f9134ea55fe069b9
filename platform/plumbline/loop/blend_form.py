"""The form of a blend: which policies, how much of each, how many points between, who judges.

Everything that a blend could trip over later and that is known now is refused here, in a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django import forms
from django.db.models import Count, Q

from align import blends
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Prompt, PromptSet
from plumbline.loop import blending
from plumbline.loop.blending import BONE, METHODS, MOST_POINTS, VECTOR, Point
from plumbline.loop.fields import number, real
from plumbline.loop.models import Experiment
from plumbline.policies.models import Policy, RewardModel

MOST = 4  # policies in a blend
PEOPLE = "people"
ROLES = ("Add to", "what this one has learnt", "beyond this one")  # of a vector's policies


class BlendForm(forms.Form):
    """`save` creates the experiment, with a round for each point."""

    name = forms.CharField(
        label="Name", max_length=80, error_messages={"required": "The blend needs a name."}
    )
    method = forms.ChoiceField(label="Method", choices=list(METHODS.items()), initial="soup")
    own = real(
        "Own objective's part",
        "Of a Bone Soup: how much of its own objective each policy was trained for; the rest was "
        "shared evenly by the others. 0.6 to 0.8 is usual.",
        least=0,
        most=1,
        required=False,
    )
    alpha = real(
        "How much is added",
        "Of task arithmetic: 1 adds all that was learnt, less than 0 takes it away.",
        least=-2,
        most=2,
        required=False,
    )
    steps = number(
        "Steps between",
        "0 makes the one blend that is set above. More make every blend in so many even steps "
        f"from each policy to the others, {MOST_POINTS} at most.",
        least=0,
        most=MOST_POINTS - 1,
    )
    prompt_set = forms.ChoiceField(
        label="Prompt set",
        help_text="Its held-out prompts are answered by every point.",
        error_messages={"required": "Choose a prompt set."},
    )
    judge = forms.ChoiceField(
        label="Judged by",
        help_text="Which of two answers is better, against the current policy and the base.",
    )
    objectives = forms.MultipleChoiceField(
        label="Objectives",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Reward models whose mean scores the points are shown by; two make a picture.",
    )
    heldout_prompts = number("Held-out prompts", "", least=1, most=100_000)
    max_tokens = number("Longest answer", "Longer answers are cut.", least=1, most=32_768)
    gate_win_rate = real(
        "Win rate to clear",
        "The whole 95 % interval against the current policy must lie above it.",
        least=0,
        most=1,
    )
    gate_kl = real("KL to base, at most", "Nats a sequence.", least=0, most=1e6)
    seed = number("Seed", "Of the prompts and the answers.", least=0, most=2**31 - 1)

    def __init__(self, project: Project, *args: Any, **kwargs: Any) -> None:
        usual = {
            **{"method": "soup", "own": 0.7, "alpha": 0.5, "steps": 4, "heldout_prompts": 64},
            **{"max_tokens": 96, "gate_win_rate": 0.5, "gate_kl": 100.0, "seed": 0},
        }
        kwargs["initial"] = {**usual, **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)
        self.project = project
        self.policies = {str(one.pk): one for one in _policies(project)}
        self.models = {str(one.pk): one for one in RewardModel.objects.filter(project=project)}
        held = Count("prompts", filter=Q(prompts__split=Prompt.Split.HELDOUT))
        sets = PromptSet.objects.filter(project=project).annotate(held=held).filter(held__gt=0)
        self.sets = {str(one.pk): one for one in sets.order_by("-created_at", "-pk")}
        named = [(pk, one.name) for pk, one in self.models.items()]
        self._choose("judge", [*named, (PEOPLE, "People, blind")])
        self._choose("objectives", named)
        self._choose("prompt_set", [(pk, one.name) for pk, one in self.sets.items()])
        for place in range(1, MOST + 1):
            self.fields[f"policy-{place}"] = forms.ChoiceField(
                label=f"Policy {place}",
                required=False,
                choices=[("", "none"), *((pk, one.name) for pk, one in self.policies.items())],
            )
            self.fields[f"share-{place}"] = forms.IntegerField(
                label=f"Share of policy {place}",
                required=False,
                min_value=0,
                max_value=100,
                initial=50 if place < 3 else 0,
                widget=forms.NumberInput(attrs={"type": "range", "step": 5}),
            )

    @staticmethod
    def like(experiment: Experiment) -> dict[str, Any]:
        """Initial values of a form that repeats a blend."""
        return {**experiment.blend.get("form", {}), "name": f"{experiment.name}, again"[:80]}

    def rows(self) -> Iterator[tuple[forms.BoundField, forms.BoundField]]:
        """Each policy's field with its share's."""
        for place in range(1, MOST + 1):
            yield self[f"policy-{place}"], self[f"share-{place}"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["points"] = self._points(cleaned)
            except ValueError as error:
                self.add_error(None, str(error))
        name = cleaned.get("name")
        if name and Experiment.objects.filter(project=self.project, name=name).exists():
            self.add_error("name", "Another experiment has this name.")
        return cleaned

    def preview(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Each point as it was asked for, with its coefficients by the policies' names."""
        found: list[Point] = self.cleaned_data.get("points", [])
        return [
            (one.asked, [(self.policies[pk].name, share) for pk, share in one.parts.items()])
            for one in found
        ]

    def save(self, actor: User) -> Experiment:
        data = self.cleaned_data
        return blending.launch(
            self.project,
            actor,
            name=data["name"],
            method=data["method"],
            found=data["points"],
            prompt_set=self.sets[data["prompt_set"]],
            judge=None if data["judge"] == PEOPLE else self.models[data["judge"]],
            objectives=[self.models[pk] for pk in data["objectives"]],
            form={key: value for key, value in data.items() if key not in ("name", "points")},
            **{name: data[name] for name in ("heldout_prompts", "max_tokens", "seed")},
            **{name: data[name] for name in ("gate_win_rate", "gate_kl")},
        )

    def _choose(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def _points(self, data: dict[str, Any]) -> list[Point]:
        """Raises ValueError in a sentence."""
        chosen = [
            (self.policies[data[f"policy-{place}"]], data.get(f"share-{place}") or 0)
            for place in range(1, MOST + 1)
            if data.get(f"policy-{place}")
        ]
        policies, shares = [one for one, _ in chosen], [share for _, share in chosen]
        method, steps = data["method"], data["steps"]
        if method == VECTOR:
            if len(policies) != len(ROLES):
                raise ValueError(
                    "Task arithmetic takes three policies: one that is added to, one that has "
                    "learnt something, and the one it had learnt it from."
                )
        elif len(policies) < 2 or len(set(policies)) < len(policies):
            raise ValueError("Choose two different policies or more.")
        if trouble := blending.refusal(policies):
            raise ValueError(trouble)
        asked = _asked(method, shares, data.get("alpha"), steps)
        if len(asked) > MOST_POINTS:
            raise ValueError(
                f"{steps} steps between {len(policies)} policies are {len(asked)} blends; at most "
                f"{MOST_POINTS} are made at once. Take fewer steps."
            )
        own = data.get("own")
        if method == BONE and own is None:
            raise ValueError("A Bone Soup needs to know its policies' own objective's part.")
        found = blending.points(method, policies, asked, own or 0.0)
        if not found:
            raise ValueError("That is the base model alone, which is there already.")
        return found


def _asked(
    method: str, shares: Sequence[float], alpha: float | None, steps: int
) -> list[Sequence[float]]:
    if method != VECTOR:
        return list(blends.simplex(len(shares), steps)) if steps else [shares]
    if alpha is None:
        raise ValueError("Say how much of what was learnt is added.")
    return [[alpha * step / steps] for step in range(steps + 1)] if steps else [[alpha]]


def _policies(project: Project) -> list[Policy]:
    """The newest first; averages that clients asked for are no parts."""
    found = Policy.objects.filter(project=project).exclude(state=Policy.State.MIXTURE)
    return list(found.order_by("-created_at", "pk")[:200])
