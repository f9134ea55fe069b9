"""Rewards made safer to climb: bounded against references (PAR), and by step (Clip, Delta).

PAR is a knob of the algorithms that regress on rewards (`align.pairing.SHAPINGS`); methods on pairs
read only an order, which it keeps and so cannot help. Clip and Delta are for rewards of single
steps, which no reward model here gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from align.measure.pairs import sigmoid


def par(reward: float, references: Sequence[float], k: float = 1.0) -> float:
    """Preference as reward (arXiv:2502.18770): the mean of sigmoid(k (r - r_m)) over rewards r_m of
    the reference policy's answers to the same prompt; in (0, 1), and blind to a shift a prompt."""
    if not references:
        raise ValueError("PAR needs at least one reference answer's reward")
    if k <= 0:
        raise ValueError(f"PAR's steepness is above 0, not {k}")
    return fmean(sigmoid(k * (reward - other)) for other in references)


def clipped(steps: Sequence[float], threshold: float) -> list[float]:
    """Clip (arXiv:2410.15115): min(q - threshold, 0); no step earns anything, bad ones cost."""
    return [min(q - threshold, 0.0) for q in steps]


def deltas(steps: Sequence[float]) -> list[float]:
    """Delta (arXiv:2410.15115): q_k - q_{k+1}, then q_{K-1}, then 0 for the last step, which the
    outcome rewards. The sum from k on is q_k, so repeating a good step earns nothing."""
    if not steps:
        return []
    *body, _ = steps
    return [q - body[k + 1] if k + 1 < len(body) else q for k, q in enumerate(body)] + [0.0]


def outcome_and_steps(shaped: Sequence[float], success: bool, alpha: float) -> list[float]:
    """success at the last step, plus alpha times each shaped step reward."""
    last = len(shaped) - 1
    return [float(success and k == last) + alpha * value for k, value in enumerate(shaped)]
