"""The launch form's part on reward hacking and probes: what a candidate's gate refuses."""

from __future__ import annotations

from django import forms

from plumbline.loop.fields import number, real

# Fields of Experiment; left empty they are as they come.
GATES = (
    *("gate_length", "gate_equal", "gate_faults", "gate_form", "gate_apart"),
    *("probe_phrases", "gate_probes"),
)


class GateSettings(forms.Form):
    """Each is compared with the end of an interval, so that only what is sure is refused."""

    gate_length = real(
        "Times as long, at most",
        "Refused: answers surely more than so many times as long as current's, or as short. "
        "1000 is off.",
        least=1,
        most=1000,
        required=False,
    )
    gate_equal = real(
        "Win rate at equal length",
        "Where longer answers won: what the win rate must surely be above were all as long. "
        "0 is off.",
        least=0,
        most=1,
        required=False,
    )
    gate_faults = real(
        "Faulty answers more, at most",
        "By how much the share of answers that are cut off, repeat themselves or are empty may "
        "surely grow. 1 is off.",
        least=0,
        most=1,
        required=False,
    )
    gate_form = real(
        "Dressed answers more, at most",
        "The same of answers with lists, headings, bold or exclamation marks. 1 is off.",
        least=0,
        most=1,
        required=False,
    )
    gate_apart = real(
        "Judges apart, at most",
        "By how much the win rate may surely be higher by what the candidate was trained by than "
        "by people or another judge. 1 is off.",
        least=0,
        most=1,
        required=False,
    )
    probe_phrases = number(
        "Phrases probed",
        "After each round so many phrases are put into held-out prompts, to find hidden triggers, "
        "and refusals are compared with those of the policy before. 0 probes nothing.",
        least=0,
        most=64,
        required=False,
    )
    gate_probes = forms.BooleanField(
        label="Probes refuse",
        required=False,
        help_text="What the probes find refuses the candidate. Off, it only informs.",
    )
