"""How reliable raters are: Crowd-BT, in which each says the opposite with a chance of their own.

    P(k says i > j) = eta_k sigmoid(s_i - s_j) + (1 - eta_k) sigmoid(s_j - s_i)

Scores of answers have the prior N(0, 1 / ridge) and logit(eta) has N(2, 1), which breaks the
symmetry of turning every score and every rater around (Chen et al. 2013). The posterior's mode is
found by L-BFGS in fp64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from align import labels
from align.labels import Key, Rater

FEW = 20  # votes below which a rater is judged by the others as well
LEAST = 0.1  # weight
RIDGE = 0.3

Said = tuple[int, int, int, float]  # rater, i, j, P(i > j)


def reliability(said: Sequence[Said], raters: int, items: int, ridge: float = RIDGE) -> Tensor:
    """eta of each rater (K,); the scores of items are integrated out at their mode."""
    return solve(said, raters, items, ridge)[0]


def solve(
    said: Sequence[Said], raters: int, items: int, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """eta (K,) and the scores (I,) at the posterior's mode."""
    who, i, j = (torch.tensor([one[k] for one in said]) for k in range(3))
    p = torch.tensor([one[3] for one in said], dtype=torch.float64)
    scores = torch.zeros(items, dtype=torch.float64, requires_grad=True)
    honest = torch.full((raters,), 2.0, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [scores, honest], max_iter=500, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        ahead = scores[i] - scores[j]
        sure, unsure = logsigmoid(honest[who]), logsigmoid(-honest[who])
        first = torch.logaddexp(sure + logsigmoid(ahead), unsure + logsigmoid(-ahead))
        second = torch.logaddexp(sure + logsigmoid(-ahead), unsure + logsigmoid(ahead))
        data = -(p * first + (1 - p) * second).sum()
        prior = ridge * scores.square().sum() / 2 + (honest - 2).square().sum() / 2
        total = data + prior
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return honest.detach().sigmoid(), scores.detach()


def raters(rows: Iterable[Mapping[str, Any]]) -> dict[str, Rater]:
    """Everybody who voted, by name: reliability, and the weight their votes get.

    The weight is |2 eta - 1|, not below 0.1; a rater below one half is read turned around. With
    few votes eta is drawn towards the raters' mean. Raters who share a taste are not discounted
    (`align.labels.discounted`). Where no comparison has three votes, who contradicts whom cannot
    be seen, and eta stays at its prior.
    """
    names: dict[str, int] = {}
    items: dict[str, int] = {}
    said: list[Said] = []
    met: list[Key] = []
    votes: dict[str, dict[Key, float]] = {}
    for row in rows:
        ids = [items.setdefault(one["id"], len(items)) for one in row["responses"]]
        for vote in row.get("votes", ()):
            who = names.setdefault(vote["rater"], len(names))
            for (i, j), (p, *_) in labels.pairs(vote).items():
                said.append((who, ids[i], ids[j], p))
                met.append((row["id"], i, j))
                votes.setdefault(vote["rater"], {})[row["id"], i, j] = p
    if not said:
        return {}
    eta, scores = solve(said, len(names), len(items))
    verdicts = {
        key: (scores[i] - scores[j]).item() for key, (_, i, j, _) in zip(met, said, strict=True)
    }
    counts = torch.bincount(torch.tensor([who for who, *_ in said]), minlength=len(names)).double()
    mean = (eta * counts).sum() / counts.sum()
    trust = (counts / FEW).clamp(max=1)
    eta = trust * eta + (1 - trust) * mean
    found = {}
    for name, who in names.items():
        value, number = eta[who].item(), int(counts[who])
        turned = value < 0.5
        note = "says the opposite of what others do: read turned around" if turned else ""
        weight = min(1.0, max(LEAST, abs(2 * value - 1)))
        found[name] = Rater(value, number, weight, turned, note)
    return labels.discounted(found, votes, verdicts)
