"""What an experiment will take before it is launched: votes, the fleet's time, days, and money.

Reckoned from the launch form's values alone, by the project's own past where it has one. Every
figure is a range and says in a sentence where it is from; what cannot be known is said instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, F

from align import algorithms
from plumbline.accounts.models import Project
from plumbline.collect import throughput
from plumbline.collect.models import Campaign
from plumbline.loop import speeds
from plumbline.loop.models import FRESH, JUDGED, Experiment, RoundStage, Stage
from plumbline.loop.speeds import NOTHING, Range

HOUR = 3600.0
A_VOTE = Range(15.0, 60.0)  # seconds of one person, where nobody has measured any
LATEST = 10  # past rounds whose labelling is looked at
NEEDED = ("rounds_wanted", "prompts_per_round", "samples_per_prompt", "max_tokens", "overlap",
          "prompts_compared", "epochs", "heldout_prompts", "labels", "pairs_from",
          "judge")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One figure: of votes, of seconds or of money; None where it is not known."""

    title: str
    amount: Range | None
    source: str


@dataclass(frozen=True)
class Estimate:
    """`waits` names what the form still lacks; then there are no figures."""

    votes: Part
    fleet: Part
    wall: Part
    cost: Part
    parts: tuple[Part, ...]  # of the fleet's time
    currency: str
    waits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What one round asks of people and of the fleet, in units of each kind."""

    votes: Range
    units: Mapping[str, list[tuple[str, Range]]]  # by kind of job: what for, and how much


def of(project: Project, values: Mapping[str, Any], base_model: str) -> Estimate:
    """The estimate of an experiment whose form holds `values`, by field, cleaned."""
    if waits := tuple(name for name in NEEDED if values.get(name) in (None, "")):
        nothing = Part("", None, "")
        return Estimate(nothing, nothing, nothing, nothing, (), project.currency, waits)
    rounds = values["rounds_wanted"]
    work = of_a_round(values)
    parts = tuple(_parts(project, values, work, base_model))
    known = [one.amount for one in parts if one.amount is not None]
    seconds = sum(known, NOTHING) if len(known) == len(parts) else None
    votes = _votes(work.votes.times(rounds), values)
    fleet = Part("Time of the fleet", seconds, _fleet_source(parts, values))
    people = _labelling(project, work.votes.times(rounds), values)
    return Estimate(
        votes=votes,
        fleet=fleet,
        wall=_wall(seconds, people),
        cost=_cost(project, values.get("asked_as"), work.votes.times(rounds), seconds),
        parts=parts,
        currency=project.currency,
    )


def of_a_round(values: Mapping[str, Any]) -> Work:
    """Units of a round, from the form's values. Pairs of answers that are all alike ask nobody, so
    votes are at most what is said, and may be a good part less."""
    prompts, samples = values["prompts_per_round"], _drawn(values)
    fresh = values["labels"] in FRESH
    compared = values["prompts_compared"] or prompts
    heldout, overlap = values["heldout_prompts"], values["overlap"]
    by_model = values["pairs_from"] == Experiment.Pairs.REWARD_MODEL
    least, asked = (heldout * overlap * one for one in _face_offs(values))
    least += 0.6 * compared * overlap * fresh * _seen(values)[0]
    asked += compared * overlap * fresh * _seen(values)[1]
    if values["labels"] in JUDGED and values.get("votes_at_most"):
        asked = min(asked, values["votes_at_most"] + heldout * overlap * _face_offs(values)[1])
    units: dict[str, list[tuple[str, Range]]] = {"sample": [], "score": [], "reward": []}
    if fresh:
        units["sample"].append(("Answers to training prompts", _exactly(prompts * samples)))
    units["sample"].append(("Answers to held-out prompts", Range(2 * heldout, 3 * heldout)))
    units["score"].append(("Judging held-out answers", Range(2 * heldout, 3 * heldout)))
    if by_model:
        units["score"].append(("Scoring samples", _exactly(prompts * samples)))
    if by_model or values["judge"] == Experiment.Judge.REWARD_MODEL:
        copies = 1 + int(values.get("reward_folds") or 0)
        epochs = int(values.get("reward_epochs") or 1)
        rows = compared if fresh else prompts
        grown = rows * (values["rounds_wanted"] + 1) / 2  # all votes so far, averaged over rounds
        units["reward"].append(("Reward model", _exactly(copies * epochs * grown)))
    replayed = {"none": 1.0, "all": (values["rounds_wanted"] + 1) / 2, "decay": 1.6}
    each = (samples * (samples - 1) / 2) if values.get("pair_rule") == "all_pairs" else 1
    most = prompts * each if by_model else compared * (overlap if not fresh else 1)
    factor = replayed.get(values.get("replay", "none"), 1.0) * values["epochs"]
    units["train"] = [("Training the policy", Range(0.6 * most * factor, most * factor))]
    return Work(Range(min(least, asked), asked), units)


def _seen(values: Mapping[str, Any]) -> tuple[float, float]:
    """The share of the comparisons that people see, at least and at most: where judges label, the
    random slice, and where they sort, whatever they are not sure of."""
    slice_ = float(values.get("slice_percent") or 0) / 100
    if values["labels"] == Experiment.Labels.JUDGE:
        return slice_, slice_
    return (slice_, 1.0) if values["labels"] == Experiment.Labels.TRIAGE else (1.0, 1.0)


def _face_offs(values: Mapping[str, Any]) -> tuple[float, float]:
    """The share of the face-offs that people judge, at least and at most; answers that are alike
    are asked of nobody."""
    if values["judge"] == Experiment.Judge.PEOPLE:
        return 0.6, 1.0
    if values["judge"] == Experiment.Judge.JUDGE:
        share = float(values.get("face_off_percent") or 0) / 100
        return 0.6 * share, share
    return 0.0, 0.0


def _exactly(amount: float) -> Range:
    return Range(amount, amount)


def _drawn(values: Mapping[str, Any]) -> int:
    """Answers that the algorithm draws to each prompt."""
    algorithm = algorithms.discover().get(str(values.get("algorithm")))
    if algorithm is None:
        return int(values["samples_per_prompt"])
    try:
        built = algorithm.build(values.get("knobs") or {})
    except ValueError:
        built = algorithm.build({})
    plan = built.draws(values["samples_per_prompt"], values.get("temperature") or 1.0)
    return sum(one.n for one in plan)


def _parts(project: Project, values: Mapping[str, Any], work: Work, base_model: str) -> list[Part]:
    """Seconds of the fleet by what they are for, all rounds together."""
    rounds, tokens = values["rounds_wanted"], values["max_tokens"]
    mode = values.get("mode") or "lora"
    like: dict[str, dict[str, Any]] = {
        "train": {"start.base": base_model, "weights.mode": mode},
        "reward": {"base.base": base_model, "form": values.get("reward_form") or "tuned"},
    }
    found = []
    for kind, asked in work.units.items():
        pace = speeds.of(project, kind, base_model, tokens, like.get(kind, {})) if asked else None
        for title, units in asked:
            amount = pace.seconds(units).times(rounds) if pace else None
            found.append(Part(title, amount, pace.source if pace else _unknown(base_model)))
    return found


def _unknown(base_model: str) -> str:
    return f"Not known: no job of this kind has ended here, and {base_model} lies elsewhere."


def _fleet_source(parts: tuple[Part, ...], values: Mapping[str, Any]) -> str:
    told = [one.source for one in parts]
    rough = sum(not one.startswith("Measured") for one in told)
    if not rough:
        said = "By the pace of this project's past jobs."
    elif rough == len(told):
        said = "Rough: nothing like it has run in this project."
    else:
        said = f"By past jobs of this project, but for {rough} of {len(told)} parts."
    if (values.get("processes") or 1) != 1:
        said += " Of one process; several take less time, and about as much of the GPUs together."
    return said


def _votes(votes: Range, values: Mapping[str, Any]) -> Part:
    if not votes.high:
        return Part("Votes", NOTHING, "Nobody is asked: ballots that are there are read.")
    compared = values["prompts_compared"] or values["prompts_per_round"]
    asked = f"{compared} comparisons × {values['overlap']} × {values['rounds_wanted']} rounds"
    if values["labels"] in JUDGED:
        asked = f"{asked}, of which people see what judges leave them"
    if values["labels"] not in FRESH:
        asked = "The evaluation's face-offs"
    elif values["judge"] == Experiment.Judge.PEOPLE:
        asked += ", and the evaluations' face-offs"
    return Part("Votes", votes, f"{asked}; prompts whose answers are all alike ask nobody.")


def _labelling(project: Project, votes: Range, values: Mapping[str, Any]) -> Part:
    """Seconds that go by while people vote."""
    if not votes.high:
        return Part("Labelling", NOTHING, "")
    past = _past_labelling(project)
    if past:
        low, high = min(past), max(past)
        amount = Range(votes.low * low, votes.high * high)
        source = f"Votes come in as in this project's last {len(past)} labelled rounds."
    else:
        amount = Range(votes.low * A_VOTE.low, votes.high * A_VOTE.high)
        source = "Rough: one person at work, 15 to 60 s a vote; more people take less."
    minutes = values.get("deadline_minutes") or 0
    if minutes and values["labels"] in FRESH:
        most = minutes * 60.0 * values["rounds_wanted"]
        amount = Range(min(amount.low, most), min(amount.high, most))
        source += " No round waits beyond its deadline."
    return Part("Labelling", amount, source)


def _past_labelling(project: Project) -> list[float]:
    """Seconds a vote of the project's last labelled rounds, from opening to freezing."""
    stages = (
        RoundStage.objects.filter(
            stage=Stage.LABEL,
            finished_at__isnull=False,
            round__experiment__project=project,
            round__campaign__isnull=False,
        )
        .annotate(votes=Count("round__ballots"), took=F("finished_at") - F("started_at"))
        .filter(votes__gt=0)
        .order_by("-finished_at")[:LATEST]
    )
    return [one.took.total_seconds() / one.votes for one in stages]


def _wall(fleet: Range | None, people: Part) -> Part:
    title = "From start to end"
    assert people.amount is not None
    if fleet is None:
        return Part(title, None, "The fleet's time is not known.")
    said = "Jobs one after another, with workers free. "
    return Part(title, fleet + people.amount, said + people.source)


def _cost(project: Project, asked_as: Campaign | None, votes: Range, fleet: Range | None) -> Part:
    """Money for votes and for the fleet, each only where a price is known."""
    said, total = [], NOTHING
    known = False
    if votes.high:
        price, source = vote_price(asked_as)
        said.append(source)
        if price is not None:
            known, total = True, total + Range(votes.low * price.low, votes.high * price.high)
    hour = gpu_price()
    if hour is None:
        said.append("No price is set for an hour of a GPU (GPU_HOUR_PRICE).")
    elif fleet is not None:
        known, total = True, total + fleet.times(float(hour) / HOUR)
        said.append(f"The fleet at {hour:.2f} an hour, as GPU_HOUR_PRICE says.")
    return Part("Cost", total if known else None, " ".join(said))


def gpu_price() -> Decimal | None:
    """What an hour of the fleet costs in each project's currency; None where nobody set it."""
    return Decimal(settings.GPU_HOUR_PRICE) if settings.GPU_HOUR_PRICE else None


def vote_price(asked_as: Campaign | None) -> tuple[Range | None, str]:
    """What a vote costs by the campaign that rounds take their pay from, and a sentence on it."""
    if asked_as is None or asked_as.hourly_rate is None:
        return None, (
            "Votes have no price: choose a campaign with an hourly rate under “People are asked as "
            "in”."
        )
    rate = asked_as.hourly_rate
    measured = throughput.of(asked_as).cost_per_vote
    if measured is not None:
        return Range(float(measured), float(measured)), (
            f"A vote costs {measured:.3f}, as measured in {asked_as} at {rate} an hour."
        )
    return A_VOTE.times(float(rate) / HOUR), (
        f"A vote at {rate} an hour, as {asked_as} pays, and 15 to 60 s, which is a rough figure."
    )
