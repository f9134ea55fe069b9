"""What a candidate must show before an alias may point at it. Pure functions of figures.

Every check says what was found against what was asked in one sentence, so the verdict can be read
years later without the code. A figure that is missing or not a number never passes. A check that
does not block only informs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from plumbline.loop.winrate import WinRate

SHORTEST, LONGEST = 0.5, 2.0  # candidate's mean answer length over current's: worth a look outside


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    evidence: str  # one sentence
    values: Mapping[str, float | None] = field(default_factory=dict)
    blocking: bool = True


def checks(
    *,
    against_current: WinRate,
    gate_win_rate: float,
    kl: float | None,
    gate_kl: float,
    loss: float | None,
    trained: bool = True,
    accuracy: float | None = None,
    tokens: float | None = None,
    current_tokens: float | None = None,
) -> list[Check]:
    """All checks of one candidate, in the order they are read.

    `kl` is candidate to base in nats a sequence; `loss` and `accuracy` are the training job's
    last figures (an algorithm without pairs reports no accuracy), and a blend was not `trained`;
    `tokens` are mean answer lengths on the held-out prompts.
    """
    found = [win_rate(against_current, gate_win_rate), kl_to_base(kl, gate_kl)]
    if trained:
        found.append(finite_loss(loss))
    if accuracy is not None:
        found.append(trained_accuracy(accuracy))
    if tokens is not None and current_tokens is not None:
        found.append(length_ratio(tokens, current_tokens))
    return found


def verdict(checks: Sequence[Check]) -> bool:
    """True when there are checks and every one that blocks passed."""
    return bool(checks) and all(check.passed for check in checks if check.blocking)


def record(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks and their verdict as JSON, for Round.gate and a Flip's evidence."""
    return {"passed": verdict(checks), "checks": [_json(check) for check in checks]}


def win_rate(against_current: WinRate, least: float) -> Check:
    """The lower end of the interval, not the rate itself, has to be above `least`."""
    low, high = against_current.interval()
    passed = low > least
    evidence = (
        f"Win rate against current {against_current.rate:.1%} "
        f"(95% interval {low:.1%} to {high:.1%}, {against_current.n} comparisons); "
        f"the interval must lie above {least:.1%}."
    )
    values = {"rate": against_current.rate, "low": low, "high": high, "least": least}
    return Check("win rate", passed, evidence, values)


def kl_to_base(kl: float | None, most: float) -> Check:
    """Divergence from the base model; an estimate may be slightly negative by chance."""
    values = {"kl": kl, "most": most}
    if kl is None or not math.isfinite(kl):
        return Check("kl", False, "The KL divergence to the base model was not measured.", values)
    evidence = f"KL to the base model is {kl:.2f} nats a sequence; at most {most:g} is allowed."
    return Check("kl", kl <= most, evidence, values)


def finite_loss(loss: float | None) -> Check:
    values = {"loss": loss}
    if loss is None:
        return Check("finite loss", False, "Training reported no loss.", values)
    finite = math.isfinite(loss)
    evidence = f"Training ended at a loss of {loss:.4g}."
    return Check("finite loss", finite, evidence, values)


def trained_accuracy(accuracy: float) -> Check:
    """Informs only: it is measured while training runs, so a short round starts near nothing."""
    evidence = f"In its last epoch {accuracy:.1%} of the training pairs were ordered as voted."
    values = {"accuracy": accuracy}
    return Check("trained accuracy", accuracy > 0.5, evidence, values, blocking=False)


def length_ratio(tokens: float, current_tokens: float) -> Check:
    """Informs only: a win by length alone is for a person to weigh."""
    ratio = tokens / current_tokens if current_tokens > 0 else math.inf
    evidence = (
        f"Answers have {tokens:.1f} tokens on average against current's {current_tokens:.1f} "
        f"({ratio:.2f} times); {SHORTEST:g} to {LONGEST:g} times is usual."
    )
    values = {"ratio": ratio, "tokens": tokens, "current_tokens": current_tokens}
    passed = SHORTEST <= ratio <= LONGEST
    return Check("length", passed, evidence, values, blocking=False)


def _json(check: Check) -> dict[str, Any]:
    """JSON has no infinity and no NaN, and PostgreSQL refuses them."""
    values = {
        name: value if value is None or math.isfinite(value) else None
        for name, value in check.values.items()
    }
    return {**asdict(check), "values": values}
