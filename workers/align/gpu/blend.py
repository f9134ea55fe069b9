"""A reward that also asks what the base model thinks: r = a * verdict + b * log p_base(answer).

A reward model learns a style from a few hundred votes and facts hardly at all, while a base model
has read the facts. How far to trust either, (a, b), is a logistic regression of held-out votes on
the two differences: the Bradley-Terry likelihood again, in two parameters, on comparisons that the
verdicts were not trained on, so that it calibrates them as well. The weights are ours; as a reward,
the log-likelihood is the sharpening of arXiv:2412.01951.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from align import jobs
from align.gpu.data import Batch
from align.gpu.logps import sequence_logps
from align.gpu.model import Policy

FILE = "blend.json"
PRIOR = 1.0  # precision of a normal prior on both weights, in units of their differences' spread


@dataclass(frozen=True)
class Blend:
    """Weights of the trained head's verdict and of the base's log-likelihood, nats."""

    verdict: float
    likelihood: float

    def said(self) -> str:
        return f"{self.verdict:.3g} * verdict + {self.likelihood:.3g} * log p of the base"

    def save(self, folder: Path) -> None:
        jobs.write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Blend | None:
        path = folder / FILE
        return cls(**json.loads(path.read_text())) if path.is_file() else None


def base_logps(policy: Policy, batch: Batch) -> Tensor:
    """log p(answer) of the model below an adapter, (B,), without gradient."""
    with torch.no_grad(), cast(PeftModel, policy.model).disable_adapter():
        return sequence_logps(policy, batch)


def fit(verdicts: Tensor, logps: Tensor, p: Tensor, weight: Tensor) -> Blend:
    """The blend that explains votes best; all arguments (P,), differences first less second.

    Neither weight is below 0: held-out votes are few, and no sign is learned from noise.
    """
    x = torch.stack([verdicts, logps], dim=1).double()  # (P, 2)
    spread = x.square().mean(0).sqrt().clamp(min=1e-6)
    best: tuple[float, Tensor] | None = None
    for free in ((True, True), (True, False), (False, True)):
        mask = torch.tensor(free, dtype=torch.float64)
        found, loss = _minimum(x / spread * mask, p.double(), weight.double())
        if (found >= 0).all() and (best is None or loss < best[0]):
            best = (loss, found * mask / spread)
    if best is None or not best[1].any():
        return Blend(1.0, 0.0)  # the votes speak against both: the verdict as it was trained
    verdict, likelihood = best[1].tolist()
    return Blend(verdict, likelihood)


def _minimum(x: Tensor, p: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """Logistic regression without intercept by Newton's method: the objective is convex."""
    w = torch.zeros(x.shape[1], dtype=x.dtype)

    def loss(w: Tensor) -> Tensor:
        misfit = binary_cross_entropy_with_logits(x @ w, p, weight, reduction="sum")
        return misfit + PRIOR / 2 * w.square().sum()

    for _ in range(50):
        chance = torch.sigmoid(x @ w)
        gradient = x.T @ (weight * (chance - p)) + PRIOR * w
        curvature = (x.T * (weight * chance * (1 - chance))) @ x
        step = torch.linalg.solve(curvature + PRIOR * torch.eye(len(w), dtype=x.dtype), gradient)
        w = w - step
        if step.abs().max() < 1e-9:
            break
    return w, loss(w).item()


def figures(blend: Blend | None) -> Mapping[str, Any]:
    """What a training's result says of it."""
    return {"blend": asdict(blend)} if blend else {}
