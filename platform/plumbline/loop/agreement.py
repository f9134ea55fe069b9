"""Pairs as the members of the round's reward model agree on them.

A pair made by scores that its members do not agree on is as likely wrong as right, and what a
policy learns from it is the one member's error (arXiv:2310.02743). Pairs may be kept only where
four in five members agree, or weigh by how sure all are together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from align import ensemble
from align.algorithm import Example as Made
from plumbline.judges.models import Score
from plumbline.loop.models import Experiment, Round

MOST = 0.8  # share of members that must agree


class Members:
    """What the members said of a round's answers, and how many pairs that let through."""

    def __init__(self, round: Round) -> None:
        self.rule = round.experiment.agreement
        self.pairs = self.kept = 0
        self.temperature = round.reward_model.temperature if round.reward_model else 1.0
        self.scores: dict[Any, list[float]] = {}
        if self.rule != Experiment.Agreement.NONE:
            found = Score.objects.filter(reward_model=round.reward_model)
            self.scores = dict(found.values_list("completion_id", "members"))

    def settle(self, answers: Sequence[Any], made: Made) -> Made | None:
        """The example as the members let it be used, None if they do not. answers: their ids."""
        if self.rule == Experiment.Agreement.NONE or not {"chosen", "rejected"} <= set(
            made.answers
        ):
            return made
        chosen, rejected = (
            self.scores.get(answers[made.answers[role]], []) for role in ("chosen", "rejected")
        )
        if len(chosen) < 2 or len(rejected) < 2:
            return made
        self.pairs += 1
        if self.rule == Experiment.Agreement.KEEP:
            settled = made if ensemble.share(chosen, rejected) >= MOST else None
        else:
            weight = made.weight * ensemble.certainty(chosen, rejected, self.temperature)
            settled = replace(made, weight=weight) if weight else None
        self.kept += settled is not None
        return settled

    def figures(self) -> dict[str, int]:
        """How many pairs were asked about, and how many stayed; nothing where none was."""
        return {"pairs": self.pairs, "kept": self.kept} if self.pairs else {}
