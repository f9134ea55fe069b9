"""What a calibration says in figures: pure functions of rows.

The fit sees two prompts in five; every figure is of the others, but for the position bias, which
nothing was fitted to. Too little gives no figure and a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.measure import pairs
from align.measure.antisymmetric import PLAIN, Fit, fit, logit
from align.measure.concordance import concordance, majority
from align.measure.intervals import Interval, interval
from align.measure.means import mean
from align.measure.pairs import Pair
from align.measure.trust import threshold
from plumbline.judges.evidence import Row

BINS = 15
RESAMPLES = 100
LEAST_FITTED, LEAST_HELDOUT, LEAST_SLICE = 10, 20, 10  # pairs
ENOUGH = 200  # held-out pairs, from which a judge's accuracy is known to within 7 points
BETTER = 0.55  # what the lower end of its accuracy should lie above, then
SIDED = 0.1  # how far from a half P(first) may lie before it is told as a bias
RATE = 0.1  # errors on the share that a judge is believed on, where nothing else is said
GAPS = {"about as long": (0.0, 0.1), "one is longer": (0.1, 0.3), "far longer": (0.3, 1.01)}


@dataclass(frozen=True)
class Measured:
    fit: Fit | None
    figures: dict[str, Any]
    gate: dict[str, Any]


def measure(rows: Sequence[Row]) -> Measured:
    """The fit, the figures and the gate of a judge that said `p` of these rows."""
    said = [row for row in rows if row.p is not None]
    fitted, seen = [r for r in said if not r.heldout], [r for r in said if r.heldout]
    counts = {
        "pairs": len(rows),
        "judged": len(said),
        "fitted": len(fitted),
        "heldout": len(seen),
        "prompts": len({row.group for row in seen}),
    }
    lacking = too_few(fitted, seen)
    if lacking:
        return Measured(None, {}, {"passed": False, "why": lacking, "checks": [], **counts})
    found = fit([row.said() for row in fitted])
    figures = {**counts, **_figures(said, seen, found)}
    return Measured(found, figures, gate(figures))


def too_few(fitted: Sequence[Row], seen: Sequence[Row]) -> str:
    """Why nothing can be said of these; "" where it can."""
    if len(fitted) < LEAST_FITTED or len(seen) < LEAST_HELDOUT:
        return (
            "Too few votes: of the pairs that people ranked and this version judged, "
            f"{len(fitted)} are there to fit by (at least {LEAST_FITTED} are needed) and "
            f"{len(seen)} to measure by (at least {LEAST_HELDOUT})."
        )
    if len({row.group for row in fitted}) < 2 or len({row.group for row in seen}) < 2:
        return "Too few prompts: votes on one prompt say nothing of another."
    return ""


def gate(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the judge may label, with the evidence; what does not block informs."""
    accuracy, sided = figures["accuracy"], figures["position"]["first"]
    loss = figures["calibrated"]["log_loss"]
    checks = []
    if accuracy is None:
        checks.append(_check("accuracy", False, "Every pair was a tie to people."))
    else:
        low = accuracy["low"] if accuracy["low"] is not None else 0.0
        words = f"It is right on {accuracy['value']:.1%} of decided held-out pairs"
        words += f" (95% interval from {low:.1%}); the interval must lie above 50%."
        checks.append(_check("accuracy", low > 0.5, words))
        sure = figures["heldout"] >= ENOUGH and low > BETTER
        words = (
            f"{figures['heldout']} held-out pairs; of {ENOUGH} or more, the accuracy's lower end"
        )
        checks.append(_check("evidence", sure, f"{words} should lie above {BETTER:.0%}.", False))
    words = f"Log-loss {loss['value']:.3f} once fitted; a coin's is {math.log(2):.3f}."
    checks.append(_check("log-loss", loss["value"] < math.log(2), words))
    if sided is not None:
        words = f"It picks the answer shown first {sided['value']:.1%} of the time."
        checks.append(_check("position", abs(sided["value"] - 0.5) <= SIDED, words, False))
    passed = all(check["passed"] for check in checks if check["blocking"])
    return {"passed": passed, "checks": checks}


def told(found: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON, an open end as None."""
    if found is None:
        return None
    low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
    return {"value": found.value, "low": low, "high": high, "groups": found.groups}


def trusted(rows: Sequence[tuple[Row, float]], rate: float) -> dict[str, Any] | None:
    """From which confidence on a judge keeps a promised error rate, by held-out rows with its
    calibrated chances; None where from none."""
    found = threshold([p for _, p in rows], [majority(row.votes) for row, _ in rows], rate)
    if found is None:
        return None
    return {
        "rate": rate,
        "above": found.above,
        "share": found.share,
        "errors": found.errors,
        "pairs": found.pairs,
        "bound": found.bound,
    }


def _figures(said: Sequence[Row], seen: Sequence[Row], found: Fit) -> dict[str, Any]:
    raw, fitted = _judged(seen, PLAIN), _judged(seen, found)
    agreement = concordance([row.voted(_p(row, found)) for row in seen])
    decided = [row for row in seen if majority(row.votes) != 0.5]
    right = [(1 + pairs.sign(_p(r, found) - 0.5) * pairs.sign(r.y - 0.5)) / 2 for r in decided]
    calibrated = [(row, _p(row, found)) for row in seen]
    return {
        "accuracy": told(mean(right, [r.weight for r in decided], [r.group for r in decided])),
        "agreement": {
            "judge": told(agreement.judge),
            "beside": told(agreement.judge_beside),
            "people": told(agreement.people),
            "pairs": agreement.pairs,
        },
        "raw": _losses(raw, RAW),
        "calibrated": _losses(fitted, FITTED),
        "fit": {"a": told(found.a_interval), "b_len": told(found.b_interval)},
        "position": _position(said),
        "length": _length(seen, found),
        "slices": _slices(seen, found),
        "trusted": trusted(calibrated, RATE),
    }


def _judged(rows: Sequence[Row], by: Fit) -> list[Pair]:
    return [
        Pair(
            margin=by.a * logit(_raw(row)) + by.b_len * row.longer,
            p=row.y,
            weight=row.weight * len(row.votes),
            group=row.group,
            longer=row.longer,
        )
        for row in rows
    ]


RAW, FITTED = "as it said", "as fitted"


def _losses(found: Sequence[Pair], name: str) -> dict[str, Any]:
    weights, groups = [one.weight for one in found], [one.group for one in found]

    def averaged(of: Callable[[Sequence[Pair]], float | None]) -> dict[str, Any] | None:
        return told(mean([of([one]) or 0.0 for one in found], weights, groups))

    def off(some: Sequence[Pair]) -> float | None:
        return pairs.ece(some, bins=BINS)

    return {
        "name": name,
        "log_loss": averaged(pairs.log_loss),
        "brier": averaged(pairs.brier),
        "ece": told(interval(found, off, RESAMPLES)),
        "curve": [
            {"confidence": one.confidence, "share": one.share, "weight": one.weight}
            for one in pairs.reliability(found, bins=BINS)
        ],
    }


def _position(rows: Sequence[Row]) -> dict[str, Any]:
    """How often it picks the answer shown first, over both orders of all it judged."""
    both = [row for row in rows if row.q_first is not None and row.q_second is not None]
    first = [((row.q_first or 0.0) + (row.q_second or 0.0)) / 2 for row in both]
    same = [float(row.consistent) for row in both]
    groups = [row.group for row in both]
    return {
        "first": told(mean(first, None, groups)),
        "consistent": told(mean(same, None, groups)),
        "pairs": len(both),
    }


def _length(rows: Sequence[Row], found: Fit) -> dict[str, Any]:
    """How often the longer answer is preferred: by the judge as it is, as fitted, and by people."""
    uneven = [row for row in rows if row.longer]
    groups, weights = [row.group for row in uneven], [row.weight for row in uneven]

    def of(p: Callable[[Row], float]) -> dict[str, Any] | None:
        shares = [p(row) if row.longer > 0 else 1 - p(row) for row in uneven]
        return told(mean(shares, weights, groups))

    return {
        "judge": of(_raw),
        "fitted": of(lambda row: _p(row, found)),
        "people": of(lambda row: row.y),
        "pairs": len(uneven),
    }


def _slices(rows: Sequence[Row], found: Fit) -> list[dict[str, Any]]:
    """Accuracy and log-loss by how much longer one answer is, and by prompt set where there are
    several; few pairs have a count and no figure."""
    parts: list[tuple[str, str, list[Row]]] = [
        ("length", name, [row for row in rows if low <= abs(row.longer) < high])
        for name, (low, high) in GAPS.items()
    ]
    sets = sorted({row.set for row in rows})
    if len(sets) > 1:
        parts += [("prompts", name, [row for row in rows if row.set == name]) for name in sets]
    return [_slice(what, name, some, found) for what, name, some in parts]


def _slice(what: str, name: str, rows: Sequence[Row], found: Fit) -> dict[str, Any]:
    told_of: dict[str, Any] = {"what": what, "name": name, "pairs": len(rows)}
    if len(rows) < LEAST_SLICE:
        return told_of
    agreement = concordance([row.voted(_p(row, found)) for row in rows])
    losses = _judged(rows, found)
    return {
        **told_of,
        "judge": told(agreement.judge),
        "people": told(agreement.people),
        "log_loss": pairs.log_loss(losses),
    }


def _raw(row: Row) -> float:
    assert row.p is not None
    return row.p


def _p(row: Row, by: Fit) -> float:
    return by(_raw(row), row.longer)


def _check(name: str, passed: bool, evidence: str, blocking: bool = True) -> dict[str, Any]:
    return {"name": name, "passed": passed, "evidence": evidence, "blocking": blocking}
