"""How far people contradict themselves, and whether the reward model is that good already.

A vote that its own voter would not give again is noise: no model foretells it. Where people's
hidden repeats say that a share e of votes are such slips, a perfect model is wrong about e of the
votes it did not see, so a reward model that errs no more often than that has nothing left to learn
from votes of this kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.collect.models import Campaign
from plumbline.collect.quality import reading, report, settings
from plumbline.collect.quality.intervals import Estimate, proportion
from plumbline.loop.models import Experiment, Round

FEWEST_REPEATS, FEWEST_VOTES = 20, 30


@dataclass(frozen=True)
class Noise:
    """`same`: votes asked again that were answered alike; `tied`: answers beside themselves that
    were called equal; `right`: held-out votes that the round's reward model foretold."""

    same: Estimate
    tied: Estimate
    right: Estimate

    @property
    def slips(self) -> float | None:
        """The share of votes that are not what their voters would say again."""
        if self.same.value is None:
            return None
        return (1 - (2 * self.same.value - 1) ** 0.5) / 2 if self.same.value > 0.5 else 0.5

    @property
    def wrong(self) -> float | None:
        return None if self.right.value is None else 1 - self.right.value

    @property
    def enough(self) -> bool:
        return self.same.n >= FEWEST_REPEATS and self.right.n >= FEWEST_VOTES

    @property
    def reached(self) -> bool:
        """Whether the model errs no more often than people slip, on enough votes to say so."""
        slips, wrong = self.slips, self.wrong
        return self.enough and slips is not None and wrong is not None and wrong <= slips


def of(experiment: Experiment, last: Round) -> Noise:
    """From all that people said in the experiment, and the last round's reward model."""
    again: list[bool] = []
    tied: list[bool] = []
    for campaign in Campaign.objects.filter(round__experiment=experiment):
        said, golds = reading.said(campaign), reading.golds(campaign)
        material = report.Material(said, golds, {}, settings.of(campaign))
        again += [ok for one in said if (ok := report.repeated(material.first, one)) is not None]
        passed = report.gold_passed(golds, said)
        tied += [ok for gold, ok in passed if gold.is_duplicate]
    return Noise(
        same=proportion(sum(again), len(again), report.NO_REPEATS),
        tied=proportion(sum(tied), len(tied), report.NO_DUPLICATES),
        right=_foretold(last),
    )


def _foretold(last: Round) -> Estimate:
    model = last.reward_model
    held_out = int(model.metrics.get("heldout") or 0) if model else 0
    if model is None or model.accuracy is None or not held_out:
        return Estimate(None, why="The last round trained no reward model that votes could test.")
    return proportion(round(model.accuracy * held_out), held_out, "")
