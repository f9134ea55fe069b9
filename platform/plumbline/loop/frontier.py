"""What policies gained for how far they went: rewards, doubt and win rates against KL to the base.

Reward models' scores are never compared with each other's: a gain is a policy's score less the
base's, by one model on one prompt, in log-odds at that model's temperature, and then a mean. The
base itself stands at 0 with no gain and wins half of the time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from uuid import UUID

from align.measure import overoptimisation
from align.measure.overoptimisation import Fit
from align.measure.pairs import sigmoid
from align.measure.ratings import Z, ratings
from plumbline.accounts.models import Project
from plumbline.collect.models import Prompt
from plumbline.judges.models import Score
from plumbline.loop import meetings as meeting
from plumbline.loop.models import Evaluation, Round
from plumbline.loop.standings import matrix
from plumbline.policies.models import Policy, RewardModel

CURVE = 48  # points that a fitted curve is drawn through


@dataclass(frozen=True)
class Point:
    """A policy's figure with its 95 % interval; `kl` in nats a sequence. `direct` is False where
    it met the base through others only, and the rate is by their ratings."""

    policy: str
    kl: float
    value: float
    low: float
    high: float
    count: int  # prompts or meetings behind it
    direct: bool = True


@dataclass(frozen=True)
class Series:
    """One panel: its points by KL and, where a curve can be fitted to gains over `level`, that.

    `why` says why there is no curve, or what is doubtful about it."""

    key: str
    title: str
    unit: str
    level: float
    points: list[Point]
    fit: Fit | None = None
    why: str = ""
    curve: list[tuple[float, float]] = field(default_factory=list)  # KL and value


@dataclass(frozen=True)
class Checkpoints:
    """A round's checkpoints against the policy it started from, by its validation model."""

    round: Round
    points: list[Point]


@dataclass(frozen=True)
class Frontier:
    series: list[Series]
    checkpoints: list[Checkpoints]
    guards: list[tuple[float, str]]  # KL that a gate allows, and whose it is
    unmeasured: list[Policy]  # chosen, but nobody has measured how far they are


def frontier(project: Project, policies: Sequence[Policy], base: Policy) -> Frontier:
    """The panels of these policies. The base is one of them whether it was chosen or not."""
    everybody = [base, *(one for one in policies if one.pk != base.pk)]
    made = list(
        Round.objects.filter(policy_out__in=everybody)
        .select_related("experiment")
        .order_by("experiment_id", "number")
    )
    far = distances(everybody, base)
    known = [one for one in everybody if one.pk in far]
    found = [_rewards(known, base, far), _doubt(known, far)]
    found += [_win_rates(known, base, far, judge) for judge in meeting.JUDGES]
    guards: dict[float, list[str]] = defaultdict(list)
    for round in made:
        if round.experiment.name not in guards[round.experiment.gate_kl]:
            guards[round.experiment.gate_kl].append(round.experiment.name)
    return Frontier(
        series=found,
        checkpoints=[one for round in made if (one := _checkpoints(round)).points],
        guards=[(kl, ", ".join(names)) for kl, names in sorted(guards.items())],
        unmeasured=[one for one in everybody if one.pk not in far],
    )


def distances(policies: Sequence[Policy], base: Policy) -> dict[UUID, float]:
    """KL to the base as each policy's own round measured it; noise below 0 is 0."""
    found = {base.pk: 0.0}
    rows = Evaluation.objects.filter(round__policy_out__in=policies, kl__isnull=False)
    for pk, kl in rows.order_by("pk").values_list("round__policy_out", "kl"):
        assert kl is not None
        found[pk] = max(0.0, kl)
    return found


def _rewards(policies: Sequence[Policy], base: Policy, far: dict[UUID, float]) -> Series:
    """Mean gain over the base's score, prompts as the sample."""
    said: dict[tuple[UUID, int], dict[UUID, float]] = defaultdict(dict)
    temperatures = dict(
        RewardModel.objects.filter(project=base.project).values_list("pk", "temperature")
    )
    for policy, prompt, model, value, _ in _scores(policies):
        said[model, prompt][policy] = value
    gains: dict[UUID, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (model, prompt), scores in said.items():
        if base.pk in scores:
            for policy, value in scores.items():
                gain = (value - scores[base.pk]) / temperatures.get(model, 1.0)
                gains[policy][prompt].append(gain)
    points = [
        _mean(one.name, far[one.pk], [fmean(some) for some in gains[one.pk].values()])
        for one in policies
        if len(gains[one.pk]) > 1
    ]
    return _fitted(Series("gain", "Reward over the base", "log-odds", 0.0, points))


def _doubt(policies: Sequence[Policy], far: dict[UUID, float]) -> Series:
    """Mean standard deviation of an ensemble's members, in log-odds."""
    temperatures = dict(
        RewardModel.objects.filter(project=policies[0].project).values_list("pk", "temperature")
    )
    spread: dict[UUID, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for policy, prompt, model, _, apart in _scores(policies):
        if apart is not None:
            spread[policy][prompt].append(apart / temperatures.get(model, 1.0))
    points = [
        _mean(one.name, far[one.pk], [fmean(some) for some in spread[one.pk].values()])
        for one in policies
        if len(spread[one.pk]) > 1
    ]
    return Series("doubt", "Disagreement of the ensemble", "log-odds", 0.0, _by_kl(points))


def _win_rates(
    policies: Sequence[Policy], base: Policy, far: dict[UUID, float], judge: str
) -> Series:
    """Rates against the base: by meetings with it, else through the policies that both met."""
    found = meeting.meetings(policies, judge)
    cells = matrix(found)
    rated = ratings(found, base.pk).by
    points = []
    for one in policies:
        met, rating = cells.get((one.pk, base.pk)), rated.get(one.pk)
        if one.pk == base.pk:
            if found:
                points.append(Point(one.name, 0.0, 0.5, 0.5, 0.5, 0))
        elif met is not None:
            low, high = met.interval
            points.append(Point(one.name, far[one.pk], met.rate, low, high, met.outcome.n))
        elif rating is not None:
            rate, low, high = (sigmoid(x) for x in (rating.value, rating.low, rating.high))
            points.append(Point(one.name, far[one.pk], rate, low, high, 0, direct=False))
    title = f"Win rate against the base by {meeting.JUDGES[judge][0].lower()}"
    title = title.replace("by a", "by A") if judge == meeting.AI else title
    title += meeting.JUDGES[judge][1:]
    return _fitted(Series(judge, title, "share", 0.5, points))


def _fitted(series: Series) -> Series:
    """With the curve d (a - b log d), d = sqrt(KL), through its gains (arXiv:2210.10760)."""
    points = _by_kl(series.points)
    d = [math.sqrt(one.kl) for one in points]
    gains = [one.value - series.level for one in points]
    errors = [max((one.high - one.low) / (2 * Z), 1e-3) for one in points]
    rest = (series.key, series.title, series.unit, series.level, points)
    try:
        fit = overoptimisation.fit_means("training", d, gains, errors)
    except ValueError as error:
        return Series(*rest, why=str(error))
    last = max(d)
    curve = [
        (x * x, series.level + overoptimisation.gain("training", fit.a, fit.b, x))
        for x in (last * k / CURVE for k in range(CURVE + 1))
    ]
    return Series(*rest, fit=fit, why=fit.why, curve=curve)


def _checkpoints(round: Round) -> Checkpoints:
    rows = round.figures.get("checkpoints", [])
    points = [
        Point(
            f"step {row['step']}" if row.get("step") is not None else row["name"],
            max(0.0, row["kl"]),
            row["rate"],
            row["low"],
            row["high"],
            0,
        )
        for row in rows
        if row.get("kl") is not None
    ]
    return Checkpoints(round, _by_kl(points))


def _scores(
    policies: Iterable[Policy],
) -> Iterable[tuple[UUID, int, UUID, float, float | None]]:
    """(policy, prompt, model, value, spread) of held-out answers, the newest last."""
    found = Score.objects.filter(
        completion__policy__in=list(policies), completion__prompt__split=Prompt.Split.HELDOUT
    )
    return found.order_by("completion__created_at", "pk").values_list(
        "completion__policy_id", "completion__prompt_id", "reward_model_id", "value", "spread"
    )


def _mean(name: str, kl: float, values: Sequence[float]) -> Point:
    mean, half = fmean(values), Z * stdev(values) / math.sqrt(len(values))
    return Point(name, kl, mean, mean - half, mean + half, len(values))


def _by_kl(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda one: (one.kl, one.policy))
