"""The forms of judges, endpoints and principles. A judge's knobs come from its kind's own file."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from align.manners import LIMITS
from plumbline.accounts.models import Project
from plumbline.collect.models import Campaign
from plumbline.judges import judges, kind
from plumbline.judges.kind import CONSTITUTION, ENDPOINT, PROGRAM, REWARD_MODEL
from plumbline.judges.models import Constitution, Endpoint, Judge, JudgeVersion
from plumbline.loop.fields import knob_field, number, real
from plumbline.policies.models import RewardModel

KNOB = "knob-"
MOST_PAIRS = 5000


def offered() -> dict[str, type[kind.Kind]]:
    """Kinds that are made by a form of their knobs; one that needs a program is made from that
    program, and one with a page of its own there."""
    found = kind.discover().items()
    return {name: one for name, one in found if PROGRAM not in one.needs and not one.page}


def elsewhere() -> dict[str, type[kind.Kind]]:
    """Kinds that are made on pages of their own."""
    return {name: one for name, one in kind.discover().items() if one.page}


class JudgeForm(forms.Form):
    """A new judge of a kind, or the next version of `judge`."""

    name = forms.CharField(max_length=80, error_messages={"required": "A judge needs a name."})

    def __init__(
        self, project: Project, kind_name: str, data: Any = None, judge: Judge | None = None
    ) -> None:
        self._project, self._kind_name, self._judge = project, kind_name, judge
        self.kind = kind.get(kind_name)
        last = judges.current(judge) if judge else None
        super().__init__(data, initial=values(last) if last else {})
        if judge is not None:
            del self.fields["name"]
        for name, (label, help, rows) in self._parts().items():
            if name in self.kind.needs:
                self.fields[name] = forms.ModelChoiceField(
                    rows,
                    label=label,
                    help_text=help,
                    empty_label=None if rows.count() == 1 else "Choose one",
                    error_messages={"required": f"Choose the {label.lower()}."},
                )
        if self.kind.guided:
            self._offer_guidance()
        for one in self.kind.knobs():
            self.fields[KNOB + one.name] = knob_field(one)
            self.initial.setdefault(KNOB + one.name, one.default)

    def parts(self) -> list[forms.BoundField]:
        names = ("name", *self._parts(), "guidelines", "guidance")
        return [self[name] for name in names if name in self.fields]

    def knobs(self) -> list[forms.BoundField]:
        return [self[KNOB + one.name] for one in self.kind.knobs()]

    def save(self, by: Any) -> JudgeVersion | None:
        """The version, or None after adding what refuses it to the form's errors."""
        if not self.is_valid():
            return None
        data = self.cleaned_data
        chosen: Campaign | None = data.get("guidelines")
        parts = {name: data[name] for name in self._parts() if name in data}
        words = data.get("guidance") or (chosen.guidelines if chosen else "")
        if self.kind.guided:
            parts["guidance"] = words
        knobs = {one.name: data[KNOB + one.name] for one in self.kind.knobs()}
        try:
            if self._judge is not None:
                return judges.revise(self._judge, knobs, by=by, **parts)
            return judges.make(self._project, data["name"], self._kind_name, knobs, by=by, **parts)
        except ValueError as error:
            self.add_error(None, str(error))
            return None

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for one in self.kind.knobs():
            name = KNOB + one.name
            if name not in data:
                continue
            try:
                data[name] = one.clean(data[name])
            except ValueError as error:
                label = str(self.fields[name].label)
                self.add_error(name, f"{str(error).replace(one.name, label)}.")
        return data

    def _parts(self) -> dict[str, tuple[str, str, Any]]:
        here = {"project": self._project}
        return {
            ENDPOINT: (
                "Endpoint",
                "Whom it asks.",
                Endpoint.objects.filter(**here, retired_at=None),
            ),
            CONSTITUTION: (
                "Constitution",
                "Its active principles, as they stand now.",
                Constitution.objects.filter(**here),
            ),
            REWARD_MODEL: (
                "Reward model",
                "Which one scores or compares.",
                RewardModel.objects.filter(**here),
            ),
        }

    def _offer_guidance(self) -> None:
        told = Campaign.objects.filter(project=self._project).exclude(guidelines="")
        self.fields["guidelines"] = forms.ModelChoiceField(
            told,
            required=False,
            label="Guidelines of",
            empty_label="no campaign",
            help_text="What people were told there is told the judge, as it stands now.",
        )
        self.fields["guidance"] = forms.CharField(
            required=False,
            label="Or criteria of its own",
            widget=forms.Textarea(attrs={"rows": 4}),
            max_length=20_000,
            help_text="Quoted above every pair. Left empty, it judges by what serves the person.",
        )


def values(version: JudgeVersion) -> dict[str, Any]:
    """A form's values that repeat a version."""
    frozen = version.settings
    return {
        ENDPOINT: version.endpoint_id,
        CONSTITUTION: frozen.get("constitution"),
        REWARD_MODEL: version.reward_model_id,
        "guidance": frozen.get("guidance", ""),
        **{KNOB + name: value for name, value in frozen["knobs"].items()},
    }


class EndpointForm(forms.Form):
    """A new endpoint; what it refuses is told by `judges.endpoints`."""

    name = forms.CharField(max_length=80, error_messages={"required": "An endpoint needs a name."})
    url = forms.CharField(
        required=False,
        label="Address",
        max_length=300,
        help_text="Up to and with /v1, of any API that speaks OpenAI’s chat completions. Empty: "
        "our own engine.",
    )
    model = forms.CharField(
        max_length=200,
        help_text="As the API calls it; on our own engine the base or a policy of this project.",
        error_messages={"required": "An endpoint needs a model."},
    )
    key_variable = forms.CharField(
        required=False,
        label="Variable of its key",
        max_length=80,
        help_text="An environment variable of the workers that begins with PLUMBLINE_ENDPOINT_. "
        "The key itself is never entered here.",
    )
    price_in = forms.DecimalField(
        label="Dollars a million tokens read", min_value=0, initial=Decimal(0), max_digits=10
    )
    price_out = forms.DecimalField(
        label="Dollars a million tokens written", min_value=0, initial=Decimal(0), max_digits=10
    )
    limit = forms.ChoiceField(
        label="Its limit on tokens is called",
        choices=[(one, one) for one in LIMITS],
        initial=LIMITS[0],
        required=False,
        help_text="Where it refuses one of them, the other is tried and kept.",
    )
    own_temperature = forms.BooleanField(
        required=False,
        label="Takes no temperature",
        help_text="Of models that refuse any but their own. That, too, is found out by asking.",
    )

    def clean_limit(self) -> str:
        return str(self.cleaned_data["limit"] or LIMITS[0])


class PrincipleForm(forms.Form):
    text = forms.CharField(
        label="Principle",
        widget=forms.Textarea(attrs={"rows": 3}),
        max_length=2000,
        error_messages={"required": "A principle needs words."},
    )
    weight = real("Weight", "How much it counts beside the others.", least=0.001, most=1000)
    active = forms.BooleanField(
        required=False, help_text="Off, it has no influence on versions made from then on."
    )


class TryForm(forms.Form):
    """What a judge is asked about: one comparison, or the newest of a campaign or of all."""

    comparison = forms.IntegerField(
        required=False,
        min_value=1,
        label="One comparison",
        help_text="Its number. Left empty, the newest ones are asked about.",
    )
    campaign = forms.ModelChoiceField(
        Campaign.objects.none(), required=False, label="Of campaign", empty_label="any"
    )
    count = number("How many", "The newest first.", least=1, most=MOST_PAIRS)
    dollars = real(
        "Cap in dollars", "When it is spent the job ends with what it has; 0 is none.",
        least=0, most=100_000,
    )  # fmt: skip
    ballots = forms.BooleanField(
        required=False,
        label="Cast its word as ballots",
        help_text="In the chosen campaign, under its own account; they take nobody’s place.",
    )
    again = forms.BooleanField(
        required=False,
        label="Ask again where it gave no verdict",
    )

    def __init__(self, project: Project, data: Any = None) -> None:
        super().__init__(data, initial={"count": 50, "dollars": 1})
        field = self.fields["campaign"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Campaign.objects.filter(project=project).order_by("-created_at")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("ballots") and not data.get("campaign"):
            self.add_error("campaign", "Choose the campaign in which ballots are cast.")
        elif data.get("ballots") and data["campaign"].closed_at is not None:
            self.add_error("campaign", f"{data['campaign']} is closed and takes no ballots.")
        return data


class RevisionsForm(forms.Form):
    """Which answers a judge's model is to revise, and where the revisions go."""

    campaign = forms.ModelChoiceField(
        Campaign.objects.none(),
        label="Answers compared in",
        error_messages={"required": "Choose the campaign whose answers are revised."},
    )
    count = number("How many answers", "The newest first.", least=1, most=MOST_PAIRS)
    name = forms.CharField(
        max_length=120,
        label="New campaign’s name",
        help_text="Revised answers beside their originals go there. No round learns from it until "
        "somebody includes it.",
        error_messages={"required": "The new campaign needs a name."},
    )
    dollars = real(
        "Cap in dollars", "When it is spent the job ends with what it has; 0 is none.",
        least=0, most=100_000,
    )  # fmt: skip

    def __init__(self, project: Project, data: Any = None) -> None:
        super().__init__(data, initial={"count": 20, "dollars": 1})
        field = self.fields["campaign"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Campaign.objects.filter(project=project).order_by("-created_at")
