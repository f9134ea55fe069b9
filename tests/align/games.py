"""A game small enough to solve by hand, played through the losses that train language models.

A response is one token out of n and a policy is a softmax over n free logits, so l_m(y) is that
token's log-probability. A round either sees every pair, weighted by the law it is drawn from (the
population), or a finite sample of pairs with one Bernoulli vote each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from align.algorithm import Algorithm, Labels, LogProbs


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Game:
    """`wins[i, j]` = P(i > j), (n, n), one half on the diagonal; the first policy, (n,)."""

    wins: Tensor
    reference: Tensor

    def rates(self, policy: Tensor) -> Tensor:
        """P(y > policy) for every y, (n,)."""
        return self.wins @ policy

    def raw_gap(self, policy: Tensor) -> float:
        """How much the best answer to the policy wins beyond a half, twice; 0 at Nash."""
        return 2 * (self.rates(policy).max().item() - 0.5)

    def gap(self, policy: Tensor, tau: float) -> float:
        """The duality gap of the game in which both sides pay tau * KL to the reference."""
        best = tau * torch.logsumexp(self.reference.log() + self.rates(policy) / tau, 0)
        paid = tau * (policy * (policy / self.reference).log()).sum()
        return 2 * (best + paid - 0.5).item()

    def nash(self, tau: float) -> Tensor:
        """The Nash policy of that game: pi = softmax(log reference + P(y > pi) / tau)."""
        policy = self.reference
        for _ in range(20_000):
            policy = policy**0.99 * self.tilted(self.reference, policy, tau) ** 0.01
            policy = policy / policy.sum()
        return policy

    def tilted(self, start: Tensor, opponent: Tensor, tau: float) -> Tensor:
        """start * exp(P(y > opponent) / tau), normalised."""
        return (start.log() + self.rates(opponent) / tau).softmax(0)

    def swirl(self, policy: Tensor) -> float:
        """s: how strongly the game circles around the policy; 0 for Bradley-Terry tastes."""
        spread = policy.diag() - torch.outer(policy, policy)
        return float(torch.linalg.eigvals((self.wins - 0.5) @ spread).imag.abs().max())


def bradley_terry(rewards: Tensor, reference: Tensor) -> Game:
    return Game(torch.sigmoid(rewards[:, None] - rewards[None, :]), reference)


# Each of three answers beats the next one round the circle.
CYCLE = Game(
    wins=torch.tensor([[0.5, 0.9, 0.3], [0.1, 0.5, 0.6], [0.7, 0.4, 0.5]], dtype=torch.float64),
    reference=row(0.5, 0.3, 0.2),
)


@dataclass(frozen=True)
class Data:
    """Examples: the arm of each role, P(chosen > rejected), and how often it is met; (B,) each."""

    arms: Mapping[str, Tensor]
    p: Tensor
    weights: Tensor
    facts: Mapping[str, Tensor] = field(default_factory=dict)


def population(game: Game, first: Tensor, second: Tensor | None = None) -> Data:
    """All pairs (i, j) with i ~ first and j ~ second (the same law by default), labelled exactly.

    Their facts hold win rates against `second`.
    """
    second = first if second is None else second
    n = len(first)
    i, j = (k.flatten() for k in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    rates = game.rates(second)
    facts = {"tie": torch.zeros(n * n), "win.chosen": rates[i], "win.rejected": rates[j]}
    weights = first[i] * second[j]
    return Data({"chosen": i, "rejected": j}, game.wins[i, j], weights, facts)


def sample(game: Game, policy: Tensor, count: int, generator: torch.Generator) -> Data:
    """`count` pairs drawn alike from the policy, one vote each, the winner as chosen."""
    i, j = torch.multinomial(policy, 2 * count, replacement=True, generator=generator).view(2, -1)
    won = torch.rand(count, generator=generator, dtype=torch.float64) < game.wins[i, j]
    arms = {"chosen": torch.where(won, i, j), "rejected": torch.where(won, j, i)}
    ones = torch.ones(count, dtype=torch.float64)
    return Data(arms, ones, ones / count, {"tie": torch.zeros(count)})


def objective(
    algorithm: Algorithm, data: Data, frozen: Mapping[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """The mean of the algorithm's losses as a function of the policy's logits (n,); `frozen` are
    the policies it names, (n,) probabilities."""
    logs = {name: frozen[name].log() for name in algorithm.references}

    def loss(logits: Tensor) -> Tensor:
        models = {"policy": logits.log_softmax(0), **logs}
        values = {
            name: {role: model[arms] for role, arms in data.arms.items()}
            for name, model in models.items()
        }
        found = algorithm.loss(LogProbs(values), Labels(p=data.p, facts=data.facts))
        return (data.weights * found.losses).sum()

    return loss


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The policy (n,) of least loss, by Newton's method with backtracking from the policy `start`.

    Logits are free up to a shift, so the likeliest arm's stays where it is. Rows and columns are
    scaled to a unit diagonal: near a corner curvatures differ by many orders.
    """
    logits = start.log()
    free = torch.arange(len(start)) != start.argmax()
    for _ in range(100):
        x = logits.clone().requires_grad_(True)
        value = loss(x)
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        curves = [torch.autograd.grad(s, x, retain_graph=True)[0] for s in slope]
        hessian = torch.stack(curves)[free][:, free]
        scale = hessian.diagonal().abs().clamp_min(1e-300).rsqrt()
        scaled = scale[:, None] * hessian * scale
        step = torch.zeros_like(logits)
        step[free] = scale * torch.linalg.solve(scaled, scale * slope.detach()[free])
        size = 1.0
        while loss(logits - size * step) > value + 1e-15 and size > 1e-6:
            size /= 2
        logits = logits - size * step
        if step.abs().max() < 1e-11:
            break
    return logits.softmax(0)


def play(algorithm: Algorithm, game: Game, *, moving: bool = False) -> Iterator[Tensor]:
    """The first policy, then the policy after each online round: pairs of its own answers, loss
    minimised to the end. With `moving` the round's start is its reference."""
    policy = game.reference
    while True:
        yield policy
        frozen = {
            "reference": policy if moving else game.reference,
            "initial": game.reference,
            "round_start": policy,
        }
        policy = minimise(objective(algorithm, population(game, policy), frozen), policy)
