"""The forms of the routing page: a canary or a shadow of an alias, an objective, and ending one."""

from __future__ import annotations

from typing import Any

from django import forms

from plumbline.accounts.models import ApiKey, Project
from plumbline.policies.models import Deployment, Policy

REASON = 300  # characters, as the audit's rows hold
MOST_POLICIES = 200  # newest ones to choose from


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label="Reason",
        max_length=REASON,
        help_text="Kept with your name.",
        error_messages={
            "required": "Say why; the reason is kept with the change.",
            "max_length": f"A reason may have {REASON} characters.",
        },
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class CanaryForm(ReasonForm):
    policy = forms.ModelChoiceField(
        Policy.objects.none(),
        label="Policy",
        help_text="The engine loads it and it must answer a probe first.",
        error_messages={
            "required": "Choose a policy.",
            "invalid_choice": "Choose a policy of this project other than the one served now.",
        },
    )
    percent = forms.FloatField(
        label="Share of requests, %",
        min_value=0.1,
        max_value=100,
        help_text="Each user stays on one side; a larger share only adds users.",
        error_messages={
            "required": "Say which share of the requests.",
            "invalid": "The share must be a number of per cent.",
            "min_value": "The share must be at least 0.1 per cent.",
            "max_value": "The share must be at most 100 per cent.",
        },
    )
    field_order: tuple[str, ...] = ("policy", "percent", "reason")
    what = "canary"

    def __init__(self, deployment: Deployment, data: Any = None) -> None:
        now = getattr(deployment, self.what)
        share = getattr(deployment, f"{self.what}_share")
        initial = {"policy": now, "percent": round(100 * share, 1) if now else 10}
        super().__init__(
            data,
            initial={**initial, **self.more(deployment)},
            auto_id=f"{self.what}-{deployment.alias}-%s",
        )
        choice = self.fields["policy"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset = offered(deployment)

    def more(self, deployment: Deployment) -> dict[str, Any]:
        return {}

    @property
    def share(self) -> float:
        return float(self.cleaned_data["percent"]) / 100


class ShadowForm(CanaryForm):
    keys = forms.ModelMultipleChoiceField(
        ApiKey.objects.none(),
        label="Of requests by",
        widget=forms.CheckboxSelectMultiple,
        help_text="Only requests that say store and consent_train are shadowed.",
        error_messages={"required": "Choose at least one key whose requests may be shadowed."},
    )
    field_order = ("policy", "percent", "keys", "reason")
    what = "shadow"

    def __init__(self, deployment: Deployment, data: Any = None) -> None:
        super().__init__(deployment, data)
        self.fields["percent"].help_text = "Of the requests that may be shadowed."
        choice = self.fields["keys"]
        assert isinstance(choice, forms.ModelMultipleChoiceField)
        choice.queryset = live_keys(deployment.project)

    def more(self, deployment: Deployment) -> dict[str, Any]:
        return {"keys": deployment.shadow_keys.all()}


class ObjectiveForm(ReasonForm):
    name = forms.CharField(
        label="Name",
        max_length=40,
        help_text="Small letters, digits, hyphens: helpful, brief.",
        error_messages={"required": "Name the objective."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    policy = forms.ModelChoiceField(
        Policy.objects.none(),
        label="Policy",
        help_text="The engine loads it and it must answer a probe first.",
        error_messages={
            "required": "Choose a policy.",
            "invalid_choice": "Choose a policy of this project.",
        },
    )
    field_order = ("name", "policy", "reason")

    def __init__(self, project: Project, data: Any = None) -> None:
        super().__init__(data, auto_id="objective-%s")
        choice = self.fields["policy"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset = newest(Policy.objects.filter(project=project))


def offered(deployment: Deployment) -> Any:
    """Policies that an alias may try: the project's newest, but the one it serves."""
    mine = Policy.objects.filter(project=deployment.project_id)
    return newest(mine.exclude(pk=deployment.policy_id))


def newest(policies: Any) -> Any:
    found = policies.order_by("-created_at").values_list("pk", flat=True)[:MOST_POLICIES]
    return Policy.objects.filter(pk__in=list(found))


def live_keys(project: Project) -> Any:
    return ApiKey.objects.filter(project=project, revoked_at=None).order_by("name")
