"""The implicit reward of a policy: beta * log(pi(y) / pi_ref(y)), what DPO says that it learned.

Nothing is trained: it is the baseline that an explicit reward model is measured against. It fits
what the policy was trained on and generalises worse elsewhere (arXiv:2409.03650), so it watches;
it should not label. Before training pi is pi_ref and everything ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from align.knobs import knob
from align.objective import Forward, Objective


@dataclass(frozen=True, kw_only=True)
class Implicit(Objective):
    title: ClassVar[str] = "Implicit reward of the round's policy"
    forward: ClassVar[Forward] = "policy"

    beta: float = knob(0.1, "What the log-ratio is multiplied by: the policy's own beta.", above=0)
    by_token: bool = knob(
        False, "Divide by the answer's tokens, so that length does not speak for itself."
    )
