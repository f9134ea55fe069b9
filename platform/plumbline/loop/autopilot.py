"""Whether an experiment begins its next round by itself: a budget, and rules that stop it.

Asked between rounds only, so stopping loses no work: what is under way goes on to its end. Every
answer is stored once for a round and a version of the settings, with a sentence of evidence for
each rule, and a person's change of the settings asks anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction

from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.loop import noise, rounds, spending
from plumbline.loop.models import (
    Autopilot,
    Evaluation,
    Experiment,
    PilotChange,
    PilotDecision,
    Round,
    Stage,
)
from plumbline.loop.noise import FEWEST_REPEATS, FEWEST_VOTES

HALF = 0.5
BUDGET = ("most_votes", "most_gpu_hours", "most_money", "no_gain_rounds", "most_kl", "noise_floor")


@dataclass(frozen=True)
class Check:
    """One rule's answer: whether it stops the experiment, and the sentence that says why."""

    name: str
    stops: bool
    evidence: str


def goes_on(experiment: Experiment, last: Round) -> bool:
    """Whether the round after `last`, which is done, begins by itself. The decision is stored."""
    pilot = Autopilot.objects.filter(experiment=experiment).first()
    if pilot is None:
        return True
    if not pilot.on:
        return False
    return decide(experiment, pilot, last).goes_on


def decide(experiment: Experiment, pilot: Autopilot, last: Round) -> PilotDecision:
    """The decision after a round by the settings of this version, made at first sight."""
    made = PilotDecision.objects.filter(round=last, version=pilot.version).first()
    if made is not None:
        return made
    found = list(checks(experiment, pilot, last))
    decision, _ = PilotDecision.objects.get_or_create(
        round=last,
        version=pilot.version,
        defaults={
            "experiment": experiment,
            "goes_on": not any(one.stops for one in found),
            "checks": [asdict(one) for one in found],
        },
    )
    return decision


def checks(experiment: Experiment, pilot: Autopilot, last: Round) -> Iterator[Check]:
    """Every rule there is, in the order they are read; one that is off says nothing."""
    yield _rounds(experiment, last)
    spent, each = spending.of(experiment), spending.of_round(last)
    if pilot.most_votes is not None:
        yield _budget("votes", spent.votes, each.votes, pilot.most_votes, "votes are given")
    if pilot.most_gpu_hours is not None:
        yield _budget(
            "gpu hours", spent.gpu_hours, each.gpu_hours, pilot.most_gpu_hours,
            "hours of GPUs are used",
        )  # fmt: skip
    if pilot.most_money is not None:
        yield _money(spent.money, each.money, pilot.most_money)
    if pilot.no_gain_rounds:
        yield no_gain(experiment, pilot.no_gain_rounds)
    if pilot.most_kl is not None:
        yield _kl(experiment, pilot.most_kl)
    if pilot.noise_floor:
        yield noise_floor(noise.of(experiment, last))


def change(experiment: Experiment, actor: User, wanted: dict[str, Any]) -> bool:
    """Switch the autopilot and set its budget, with an audit row; False when nothing differs.

    `wanted` are fields of Autopilot, `rounds_wanted`, and `promotes` for the experiment's own
    switch. An experiment that had ended goes on when it may have more rounds.
    """
    with transaction.atomic():
        held = Experiment.objects.select_for_update().get(pk=experiment.pk)
        pilot = Autopilot.objects.filter(experiment=held).first()
        before = settings(held, pilot)
        after = {name: _plain(value) for name, value in {**before, **wanted}.items()}
        if pilot is not None and before == after:
            return False
        pilot = pilot or Autopilot(experiment=held, version=0)
        for name in ("on", *BUDGET):
            setattr(pilot, name, wanted.get(name, getattr(pilot, name)))
        pilot.version += 1
        pilot.save()
        held.rounds_wanted = after["rounds_wanted"]
        held.autopilot = after["promotes"]
        if held.state == Experiment.State.FINISHED and _has_more(held):
            held.state = Experiment.State.ACTIVE
        held.save(update_fields=["rounds_wanted", "autopilot", "state"])
        PilotChange.objects.create(experiment=held, actor=actor, before=before, after=after)
        record("autopilot.changed", held, project=held.project_id, actor=actor, on=pilot.on)
    return True


def begin_next(experiment: Experiment) -> Round:
    """A person begins the next round, whatever the autopilot says; the plan grows by one round
    where it has to. Raises ValueError with a sentence where no round can begin."""
    with transaction.atomic():
        held = Experiment.objects.select_for_update().get(pk=experiment.pk)
        if held.state == Experiment.State.PAUSED:
            raise ValueError("The experiment is paused; resume it first.")
        fresh = rounds.begin(held)
        held.rounds_wanted = max(held.rounds_wanted, fresh.number)
        held.state = Experiment.State.ACTIVE
        held.save(update_fields=["rounds_wanted", "state"])
    return fresh


def settings(experiment: Experiment, pilot: Autopilot | None) -> dict[str, Any]:
    """Everything about the autopilot that a person may change, as JSON holds it."""
    shown = pilot or Autopilot(on=False)
    found = {name: _plain(getattr(shown, name)) for name in ("on", *BUDGET)}
    return {
        **found,
        "rounds_wanted": experiment.rounds_wanted,
        "promotes": experiment.autopilot,
    }


def no_gain(experiment: Experiment, most: int) -> Check:
    """Stops after so many measured rounds in a row whose win rate's interval reaches down to a
    half: none of them was surely better than what was deployed."""
    measured = list(
        Evaluation.objects.filter(round__experiment=experiment, round__stage=Stage.DONE)
        .filter(against=Evaluation.Against.CURRENT)
        .select_related("round")
        .order_by("-round__number")[:most]
    )
    told = "; ".join(
        f"round {one.round.number} {one.rate:.1%} ({one.low:.1%} to {one.high:.1%})"
        for one in reversed(measured)
    )
    if len(measured) < most:
        said = f"{len(measured)} of the {most} measured rounds that this rule looks at have ended"
        return Check("no gain", False, f"{said}{f': {told}' if told else ''}.")
    stops = all(one.low <= HALF for one in measured)
    rounds_said = "the last round" if most == 1 else f"the last {most} rounds"
    if stops:
        sentence = f"Of {rounds_said} none was surely better than the policy it met: {told}."
    else:
        sentence = f"Of {rounds_said} one at least was surely better than the policy it met: "
        sentence += f"{told}."
    return Check("no gain", stops, sentence)


def noise_floor(found: noise.Noise) -> Check:
    """Stops where the reward model foretells held-out votes as well as votes can be foretold."""
    if found.right.value is None or found.same.value is None:
        why = found.right.why or found.same.why
        return Check("noise floor", False, f"Not known whether more votes would help. {why}")
    assert found.slips is not None
    assert found.wrong is not None
    sentence = (
        f"The reward model is wrong on {found.wrong:.1%} of {found.right.n} held-out votes; people "
        f"answer {found.same.value:.1%} of {found.same.n} hidden repeats alike, so that "
        f"{found.slips:.1%} of their votes are slips that no model could foretell."
    )
    if found.tied.value is not None:
        different = 1 - found.tied.value
        sentence += f" Of {found.tied.n} answers beside themselves {different:.1%} were preferred."
    if not found.enough:
        sentence += (
            f" Too few to decide by: it takes {FEWEST_REPEATS} repeats and {FEWEST_VOTES} held-out "
            "votes."
        )
    elif found.reached:
        sentence += " More votes of this kind will not help it."
    else:
        sentence += " There is still something to learn."
    return Check("noise floor", found.reached, sentence)


def _rounds(experiment: Experiment, last: Round) -> Check:
    done, wanted = last.number, experiment.rounds_wanted
    return Check("rounds", done >= wanted, f"{done} of {wanted} rounds are done.")


def _budget(name: str, spent: float, each: float, most: float, what: str) -> Check:
    """Stops where a round like the last one would go beyond the budget."""
    stops = spent + each > most
    sentence = (
        f"{spent:,.4g} {what} of {most:,.4g}; a round like the last one takes {each:,.4g} more, "
        f"which {'is more than is left' if stops else 'fits'}."
    )
    return Check(name, stops, sentence)


def _money(spent: Decimal | None, each: Decimal | None, most: Decimal) -> Check:
    if spent is None:
        said = "No price is known, so the budget of money cannot be kept: stopped to be safe."
        return Check("money", True, said)
    return _budget("money", float(spent), float(each or 0), float(most), "is spent")


def _kl(experiment: Experiment, most: float) -> Check:
    """Stops where the policy that the next round would start from has left its budget."""
    best = rounds.best_policy(experiment)
    measured = Evaluation.objects.filter(
        round__policy_out=best, against=Evaluation.Against.CURRENT
    ).first()
    if measured is None or measured.kl is None:
        said = f"The next round starts from {best.name}, whose KL to the base was not measured."
        return Check("kl", False, said)
    stops = measured.kl >= most
    return Check(
        "kl",
        stops,
        f"The next round would start from {best.name}, {measured.kl:.3g} nats a sequence from the "
        f"base; the budget is {most:g}, which is {'used up' if stops else 'not reached'}.",
    )


def _has_more(experiment: Experiment) -> bool:
    last = experiment.rounds.order_by("-number").first()
    return last is None or last.number < experiment.rounds_wanted


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
