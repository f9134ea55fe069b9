"""Token-level implicit rewards as a picture: a tint for each token, and the figures behind it.

The implicit reward of a token is beta (log pi - log ref), in the units of the policy's own margin;
of a policy that was not trained with a beta it is the log-ratio itself, in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from plumbline.loop.models import TokenRewards
from plumbline.policies.models import Policy

LEVELS = 5  # tints on either side of nothing
CLEAR = 0.98  # of all tokens lie within the darkest tint's bound


@dataclass(frozen=True)
class Token:
    text: str
    reward: float
    logp: float
    reference: float
    tint: str  # "p1".."p5", "n1".."n5" or "" about nothing

    @property
    def shown(self) -> str:
        """Its text, with what has no shape made visible."""
        return self.text.replace("\n", "⏎\n") or "·"


@dataclass(frozen=True)
class Heat:
    """An answer by token. `ratio` is the whole answer's log pi - log ref, nats."""

    tokens: list[Token]
    ratio: float
    beta: float

    @property
    def reward(self) -> float:
        return self.beta * self.ratio

    @property
    def summary(self) -> str:
        """What the picture shows, in a sentence."""
        if not self.tokens:
            return "No token was read."
        best = max(self.tokens, key=lambda one: one.reward)
        worst = min(self.tokens, key=lambda one: one.reward)
        return (
            f"{len(self.tokens)} tokens, implicit reward {self.reward:+.3g} in all; most liked "
            f"“{best.text.strip()}” {best.reward:+.3g}, least “{worst.text.strip()}” "
            f"{worst.reward:+.3g}."
        )


@dataclass(frozen=True)
class Legend:
    """What the tints mean: the bound of the darkest, and the steps between."""

    bound: float

    @property
    def steps(self) -> list[tuple[str, float]]:
        """From the least to the greatest, each tint and its middle."""
        each = [(f"n{k}", -self.bound * (k - 0.5) / LEVELS) for k in range(LEVELS, 0, -1)]
        return [*each, *((tint.replace("n", "p"), -value) for tint, value in reversed(each))]


def beta(policy: Policy) -> float | None:
    """What the policy was trained with, if its algorithm has a beta."""
    value = policy.knobs.get("beta")
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def heats(
    read: Iterable[TokenRewards], writers: Mapping[UUID, Policy]
) -> tuple[dict[UUID, Heat], Legend]:
    """By answer; all on one scale, that of the answers given. writers: by policy id."""
    betas = {pk: beta(policy) or 1.0 for pk, policy in writers.items()}
    rows = [(one, betas[pk]) for one in read if (pk := one.completion.policy_id) is not None]
    rewards = sorted(
        abs(scale * (own - other))
        for one, scale in rows
        for own, other in zip(one.logps, one.reference_logps, strict=True)
    )
    bound = rewards[min(len(rewards) - 1, int(CLEAR * len(rewards)))] if rewards else 0.0
    return {one.completion_id: _heat(one, scale, bound) for one, scale in rows}, Legend(bound)


def _heat(one: TokenRewards, scale: float, bound: float) -> Heat:
    tokens = []
    for text, own, other in zip(one.pieces, one.logps, one.reference_logps, strict=True):
        reward = scale * (own - other)
        tokens.append(Token(text, reward, own, other, tint(reward, bound)))
    return Heat(tokens, sum(one.logps) - sum(one.reference_logps), scale)


def tint(reward: float, bound: float) -> str:
    """The tint of a reward; none within a tenth of the bound."""
    if bound <= 0 or abs(reward) < bound / 10:
        return ""
    level = min(LEVELS, int(LEVELS * abs(reward) / bound) + 1)
    return f"{'p' if reward > 0 else 'n'}{level}"
