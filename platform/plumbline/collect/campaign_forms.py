"""The form of a campaign: what people read, are asked and earn, and how votes are tested.

Refusals name their field and say what is possible. The quality part is derived from
`quality.settings.Quality`, so a setting added there appears here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from django import forms
from django.forms import BoundField
from django.utils import timezone

from plumbline.accounts.models import Project
from plumbline.collect import asking
from plumbline.collect.campaign_rows import CriteriaSet, ExampleSet, criterion, rows_of
from plumbline.collect.live.form import LiveForm
from plumbline.collect.models import Campaign
from plumbline.collect.quality import settings
from plumbline.collect.quality.settings import Quality

MOST_PEOPLE = 100
MOST_DAYS = 3650
MOST_REASONS, LONGEST_REASON = 12, 80
AS_THEY_ARE = (  # settings that the form holds as the campaign does
    *("name", "guidelines", "warning", "word_counts", "asks", "review", "purpose", "overlap"),
    *("deadline", "hourly_rate", "invited_only", "training_pass", "stale_days"),
)
QUALITY = "quality_"  # before the names of quality settings
QUALITY_HELP = {
    "gold_start": "Share of known comparisons among a person’s first answers, 0 to 0.5.",
    "gold_end": "The share it falls to. Not above the first.",
    "gold_over": "Over how many answers it falls.",
    "repeat_share": "Share of own earlier votes asked again with the sides swapped, 0 to 0.5.",
    "repeat_gap": "Answers at least between a vote and its repeat.",
    "seconds_least": "A vote faster than this is flagged, never refused.",
    "seconds_a_word": "A vote faster than this for each word of the answers is flagged too.",
    "warn_fast": "Tell a person, now and then, whose vote came faster than these; it counts.",
    "pause": "Pause a person by itself when the rule below says so. Off: the page only tells you.",
    "pause_accuracy": "The accuracy on known comparisons that a person should have.",
    "pause_certainty": "How sure the rule must be that they are below it.",
    "prior_right": "Right answers a new person is credited with, so that one slip pauses nobody.",
    "prior_wrong": "Wrong answers a new person is credited with.",
    "ask_flagged": "Off: what somebody flagged waits until a researcher has looked at it.",
    "hourly_cap": "Votes that one person may give within any hour; 0: no limit. A bought or stolen "
    "account cannot outvote the others in a night then. Training and revisions do not count.",
    "daily_cap": "The same within any 24 hours.",
    "left_bias": "Log-odds of choosing the left side that raise an alert, when surely not zero.",
}


@dataclass(frozen=True)
class Group:
    title: str
    about: str
    fields: list[BoundField]
    folded: bool = False


def _number(label: str, help: str, least: int, most: int, **more: Any) -> forms.IntegerField:
    say = f"{label} must be between {least} and {most}."
    return forms.IntegerField(
        label=label,
        help_text=help,
        min_value=least,
        max_value=most,
        error_messages={
            "required": f"{label} is missing.",
            "invalid": f"{label} must be a whole number.",
            "min_value": say,
            "max_value": say,
        },
        **more,
    )


def _quality_field(name: str, default: object) -> forms.Field:
    label = name.replace("_", " ").capitalize()
    about: dict[str, Any] = {"label": label, "help_text": QUALITY_HELP.get(name, "")}
    if isinstance(default, bool):
        return forms.BooleanField(required=False, **about)
    wrong = {"invalid": f"{label} must be a number.", "required": f"{label} is missing."}
    if isinstance(default, int):
        wrong["invalid"] = f"{label} must be a whole number."
        return forms.IntegerField(error_messages=wrong, **about)
    widget = forms.NumberInput(attrs={"step": "any"})
    return forms.FloatField(error_messages=wrong, widget=widget, **about)


class CampaignForm(forms.Form):
    """All settings at once. `saw` is the version the page was made from."""

    saw = forms.IntegerField(required=False, widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=120,
        help_text="People see it. One campaign of the project has it.",
        error_messages={"required": "Name is missing."},
    )
    guidelines = forms.CharField(
        required=False,
        max_length=50_000,
        help_text="Markdown. Say what “better” means here, and what to do when it is close.",
        widget=forms.Textarea(attrs={"rows": 12}),
    )
    warning = forms.CharField(
        required=False,
        max_length=200,
        label="Content warning",
        help_text="With one, texts are blurred until a person asks to see them.",
    )
    word_counts = forms.BooleanField(
        required=False,
        label="Show how many words each answer has",
        help_text="Off: a number beside an answer draws votes towards length.",
    )
    asks = forms.MultipleChoiceField(
        choices=list(asking.ASKS.items()),
        label="People are asked",
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "People must be asked something: tick one of the questions."},
    )
    reasons = forms.CharField(
        required=False,
        label="Reasons to choose from",
        help_text=f"One a line, {MOST_REASONS} at most; people tick any of them beside a vote.",
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    review = forms.BooleanField(
        required=False,
        label="Review before saving",
        help_text="What a person said is put in words and kept when they save it again: for long "
        "work. A pair is answered faster without.",
    )
    purpose = forms.ChoiceField(
        choices=Campaign.Purpose,
        help_text="Votes for evaluation never train a policy.",
    )
    overlap = _number(
        "People per comparison",
        "May change at any time; single comparisons can have a number of their own.",
        1,
        MOST_PEOPLE,
    )
    lease_minutes = _number(
        "Minutes on one comparison", "Unsent after that, it goes to somebody else.", 1, 24 * 60
    )
    stale_days = _number(
        "Days a comparison is asked for",
        "Answers of a policy that has moved on teach less; unanswered after that, they expire. "
        "0: for good. A change begins anew for what waits.",
        0,
        MOST_DAYS,
    )
    deadline = forms.DateTimeField(
        required=False,
        help_text="UTC. No new comparisons are given out after it.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
        error_messages={"invalid": "Deadline must be a date and a time: 2027-01-31 18:00."},
    )
    hourly_rate = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=8,
        decimal_places=2,
        help_text="Of one person’s active hour, in your currency; what the cost is counted by.",
        error_messages={
            "invalid": "Hourly rate must be a number.",
            "min_value": "Hourly rate cannot be negative.",
        },
    )
    invited_only = forms.BooleanField(
        required=False,
        help_text="Off: every member of the project may answer.",
    )
    training_pass = _number(
        "Training passed at",
        "Percent of the training comparisons answered as expected. They come first where a "
        "campaign has some; with 0, answering them is enough.",
        0,
        100,
    )

    def __init__(self, project: Project, campaign: Campaign | None, data: Any = None) -> None:
        initial = None if data is not None else _initial(campaign)
        super().__init__(data, initial=initial)
        self.project, self.campaign = project, campaign
        for one in fields(Quality):
            self.fields[QUALITY + one.name] = _quality_field(one.name, one.default)
        self.live = LiveForm(project, campaign, data)
        self.sets = {
            "criteria": rows_of(
                CriteriaSet, "criteria", campaign.criteria if campaign else [], data
            ),
            "examples": rows_of(
                ExampleSet, "examples", campaign.examples if campaign else [], data
            ),
        }

    @property
    def groups(self) -> Iterator[Group]:
        """The parts of the form that are fields under each other."""
        yield self._group(
            "Who and how many", "", "purpose overlap lease_minutes stale_days deadline"
        )
        yield self._group("People", "", "invited_only training_pass hourly_rate")
        names = " ".join(QUALITY + one.name for one in fields(Quality))
        about = "Hidden tests, caps, and when a rule speaks up. The defaults suit most campaigns."
        yield self._group("Quality", about, names, folded=True)

    @property
    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(label, sentence, id of the field) of everything refused."""
        for field in (*self, *self.live):
            for error in field.errors:
                yield str(field.label), str(error), field.id_for_label
        for error in self.non_field_errors():
            yield "", str(error), ""
        for name, rows in self.sets.items():
            for n, row in enumerate(rows, start=1):
                for field in row:
                    for error in field.errors:
                        yield (
                            f"{name.capitalize()} {n}, {field.label}",
                            str(error),
                            field.id_for_label,
                        )

    def is_valid(self) -> bool:
        # Both are asked, so that everything wrong is told at once.
        rows = [one.is_valid() for one in self.sets.values()]
        return super().is_valid() and all(rows) and self.live.is_valid()

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        others = Campaign.objects.filter(project=self.project, name=name)
        if self.campaign:
            others = others.exclude(pk=self.campaign.pk)
        if others.exists():
            raise forms.ValidationError("Another campaign of this project has this name.")
        return name

    def clean_purpose(self) -> str:
        purpose: str = self.cleaned_data["purpose"]
        row = self.campaign
        if row and purpose != row.purpose and row.comparisons.exists():
            # What people say of held-out prompts must never come to train a policy.
            raise forms.ValidationError("The purpose stays once there are comparisons.")
        return purpose

    def clean_reasons(self) -> list[str]:
        lines = str(self.cleaned_data["reasons"]).splitlines()
        given = dict.fromkeys(" ".join(line.split()) for line in lines)
        reasons = [line for line in given if line]
        if len(reasons) > MOST_REASONS:
            raise forms.ValidationError(f"{MOST_REASONS} reasons are the most that people read.")
        if long := [line for line in reasons if len(line) > LONGEST_REASON]:
            raise forms.ValidationError(f"Shorter, please: “{long[0]}”.")
        return reasons

    def clean_deadline(self) -> Any:
        deadline = self.cleaned_data["deadline"]
        changed = not self.campaign or deadline != self.campaign.deadline
        if deadline and changed and deadline <= timezone.now():
            raise forms.ValidationError("The deadline lies in the past.")
        return deadline

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if "asks" in given and self.sets["criteria"].is_valid():
            scales = [asking.Criterion(**row) for row in self.criteria()]
            try:
                asking.check_asks(given["asks"], scales)
            except ValueError as error:
                self.add_error("asks", str(error))
        if self.live.is_valid() and {"asks", "purpose"} <= given.keys():
            try:
                self.live.check(given["asks"], given["purpose"])
            except ValueError as error:
                self.live.add_error("on", str(error))
        if not any(name.startswith(QUALITY) for name in self.errors):
            try:
                settings.read(self._quality())
            except ValueError as error:
                self.add_error(self._named(str(error)), str(error))
        return given

    def criteria(self) -> list[dict[str, Any]]:
        rows = self.sets["criteria"].cleaned_data
        return [criterion(row) for row in rows if row.get("name")]

    def values(self) -> dict[str, Any]:
        """Settings of the campaign by name, of a valid form."""
        given = dict(self.cleaned_data)
        default = asdict(Quality())
        quality = {k: v for k, v in self._quality().items() if v != default[k]}
        examples = [row for row in self.sets["examples"].cleaned_data if row.get("prompt")]
        return {
            **{name: given[name] for name in (*AS_THEY_ARE, "reasons")},
            "lease_seconds": self._lease(given["lease_minutes"]),
            "criteria": self.criteria(),
            "examples": examples,
            "live": self.live.values(),
            "quality": quality,
        }

    def _quality(self) -> dict[str, Any]:
        return {one.name: self.cleaned_data[QUALITY + one.name] for one in fields(Quality)}

    def _lease(self, minutes: int) -> int:
        """In seconds; what was set in seconds stays as it is while its minutes do."""
        now = self.campaign.lease_seconds if self.campaign else 0
        return now if max(1, now // 60) == minutes and now else 60 * minutes

    def _named(self, sentence: str) -> str:
        """The quality field that a refusal speaks of; the first one when it speaks of several."""
        for one in fields(Quality):
            if sentence.startswith(one.name.replace("_", " ").capitalize()):
                return QUALITY + one.name
        return QUALITY + "gold_end"

    def _group(self, title: str, about: str, names: str, folded: bool = False) -> Group:
        shown = [self[name] for name in names.split()]
        return Group(title, about, shown, folded and not any(one.errors for one in shown))


def _initial(campaign: Campaign | None) -> dict[str, Any]:
    row = campaign or Campaign()
    quality = asdict(settings.of(row))
    return {
        **{name: getattr(row, name) for name in AS_THEY_ARE},
        "saw": row.settings_version,
        "lease_minutes": max(1, row.lease_seconds // 60),
        "reasons": "\n".join(row.reasons),
        **{QUALITY + name: value for name, value in quality.items()},
    }
