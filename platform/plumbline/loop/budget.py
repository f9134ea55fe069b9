"""The form of an experiment's autopilot: a switch, a budget, and the rules that stop it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from plumbline.loop import autopilot, spending
from plumbline.loop.fields import number, real
from plumbline.loop.models import Autopilot, Experiment


class BudgetForm(forms.Form):
    """Fields are called as in `autopilot.settings`; an empty one sets no bound."""

    rounds_wanted = number("Rounds", "In all, those that are done among them.", least=1, most=100)
    most_votes = forms.IntegerField(
        label="Votes, at most",
        required=False,
        min_value=0,
        help_text="Of all rounds together. Empty: no bound.",
        error_messages={
            "invalid": "Votes must be a whole number.",
            "min_value": "Votes cannot be fewer than 0.",
        },
    )
    most_gpu_hours = real(
        "GPU hours, at most",
        "Of training and scoring jobs, on whatever machine they run. Empty: no bound.",
        least=0,
        most=1e6,
        required=False,
    )
    most_money = forms.DecimalField(
        label="Money, at most",
        required=False,
        min_value=0,
        max_digits=12,
        decimal_places=2,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="For people's time at the campaigns' rate, and for GPUs at their price.",
        error_messages={
            "invalid": "Money must be an amount.",
            "min_value": "Money cannot be less than 0.",
            "max_decimal_places": "Money has two decimal places at most.",
        },
    )
    no_gain_rounds = number(
        "Rounds without a gain",
        "Stops after so many in a row whose win rate's interval reaches down to a half. 0: off.",
        least=0,
        most=100,
    )
    most_kl = real(
        "KL to the base, at most",
        "Nats a sequence of the policy that a round would start from. Empty: no bound.",
        least=0,
        most=1e6,
        required=False,
    )
    noise_floor = forms.BooleanField(
        label="Stop at the noise floor",
        required=False,
        help_text="When the reward model foretells votes as well as people repeat their own.",
    )
    promotes = forms.BooleanField(
        label="Promote by itself",
        required=False,
        help_text="What passes the gate. Off, each round waits for you before the next one.",
    )

    def __init__(
        self, experiment: Experiment, pilot: Autopilot | None, data: QueryDict | None = None
    ) -> None:
        self.experiment = experiment
        super().__init__(data, initial=autopilot.settings(experiment, pilot), prefix="pilot")

    def clean_rounds_wanted(self) -> int:
        wanted = int(self.cleaned_data["rounds_wanted"])
        begun = self.experiment.rounds.count()
        if wanted < begun:
            raise forms.ValidationError(f"{begun} rounds have begun; there cannot be fewer.")
        return wanted

    def clean_most_money(self) -> Any:
        money = self.cleaned_data["most_money"]
        if money is not None and not spending.priced(self.experiment):
            raise forms.ValidationError(
                "Nothing here has a price: give the experiment's campaign an hourly rate, or let "
                "the operator set GPU_HOUR_PRICE."
            )
        return money
