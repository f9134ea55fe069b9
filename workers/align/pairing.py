"""Rules that turn one prompt's judged answers into training pairs (algorithms.md 1.4).

A rule is a pure function of (judged answers, seed): the same ballots replayed through the same
rule give the same pairs. Ties between scores are never forced into a win, and two answers with
the same text never form a pair.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from align.measure import shaping


@dataclass(frozen=True)
class Answer:
    """A candidate: its score (None when no model judged it), length in tokens, whether it was cut
    off, which bars it from being chosen, and the draw it came from ("teacher" when imported)."""

    id: str
    text: str
    tokens: int
    truncated: bool
    score: float | None
    source: str = "policy"


@dataclass(frozen=True)
class Vote:
    """What raters said of answers i and j (indices): P(i > j), a tie counting half, how much it
    counts, and the share of raters who called it a tie."""

    i: int
    j: int
    p: float
    weight: float
    tie: float = 0.0


@dataclass(frozen=True)
class Mark:
    """An absolute judgement of one answer (an index), as "both bad" is of two."""

    answer: int
    good: bool
    weight: float


@dataclass(frozen=True)
class Judged:
    prompt: str
    answers: tuple[Answer, ...]
    votes: tuple[Vote, ...] = ()
    marks: tuple[Mark, ...] = ()
    length_penalty: float = 0.0  # off the score per token; what people said of a pair stays
    margin: float = 0.0  # least score difference of a pair, for the rules that read scores
    temperature: float = 1.0  # what differences of a model's scores are divided by to be log-odds


@dataclass(frozen=True)
class PairChoice:
    """Indices into the answers; `p` = P(chosen > rejected) in [0.5, 1]; the share of ties in it."""

    chosen: int
    rejected: int
    p: float
    weight: float
    tie: float = 0.0

    def turned(self) -> PairChoice:
        """The same, said from the other side."""
        return replace(self, chosen=self.rejected, rejected=self.chosen, p=1 - self.p)


Rule = Callable[[Judged, int], list[PairChoice]]


def said(judged: Judged, i: int, j: int) -> Vote | None:
    """All votes on exactly these two as one on (i, j): their mean by weight; None without any."""
    votes = [v for v in judged.votes if {v.i, v.j} == {i, j}]
    weight = sum(v.weight for v in votes)
    if not weight:
        return None
    p = sum(v.weight * (v.p if v.i == i else 1 - v.p) for v in votes) / weight
    return Vote(i, j, p, weight, sum(v.weight * v.tie for v in votes) / weight)


def score(judged: Judged, index: int) -> float:
    """The answer's score less its length penalty; without a model's score, its mean share of the
    votes against each answer it met."""
    answer = judged.answers[index]
    if answer.score is not None:
        return answer.score - judged.length_penalty * answer.tokens
    met = {v.i + v.j - index for v in judged.votes if index in (v.i, v.j)}
    shares = [vote.p for rival in sorted(met) if (vote := said(judged, index, rival))]
    share = sum(shares) / len(shares) if shares else 0.5
    return share - judged.length_penalty * answer.tokens


def bounded(judged: Judged, index: int) -> float:
    """PAR (arXiv:2502.18770): the mean chance, by scores at their temperature, to be preferred to
    the policy's other answers, of which there may be none: 0.5. Those are the round's own, where
    the paper draws them from the SFT policy. Without a model's score it is `score`, which shares of
    votes bound."""
    if judged.answers[index].score is None:
        return score(judged, index)
    others = [k for k in opponents(judged, index) if judged.answers[k].score is not None]
    mine, *theirs = (score(judged, k) / judged.temperature for k in (index, *others))
    return shaping.par(mine, theirs) if theirs else 0.5


def preference(judged: Judged, i: int, j: int) -> float:
    """P(i > j): what raters said of exactly these two, else the scores' logistic difference at the
    temperature that their model was found to need."""
    if vote := said(judged, i, j):
        return vote.p
    apart = (score(judged, i) - score(judged, j)) / judged.temperature
    return (1 + math.tanh(apart / 2)) / 2


def known(judged: Judged) -> list[int]:
    """The answers of which anything is known: a model's score, or a vote."""
    voted = {index for vote in judged.votes for index in (vote.i, vote.j)}
    return [k for k, a in enumerate(judged.answers) if a.score is not None or k in voted]


def opponents(judged: Judged, index: int) -> list[int]:
    """The policy's other answers: those that an answer's win rate is over."""
    return [k for k, a in enumerate(judged.answers) if k != index and a.source == "policy"]


def win_rate(judged: Judged, index: int, *, itself: bool = False) -> float:
    """P(y > pi_t), estimated by the answer's mean preference over the policy's other answers; with
    `itself` it also meets itself, at one half. Needs at least one opponent."""
    rates = [preference(judged, index, rival) for rival in opponents(judged, index)]
    if itself:
        rates.append(0.5)
    return sum(rates) / len(rates)


def voted(judged: Judged, seed: int) -> list[PairChoice]:
    """Exactly the pairs people compared, each once, with their vote share as soft label; split
    votes are kept as ties (p = 0.5)."""
    pairs = []
    for i, j in {frozenset((v.i, v.j)): (v.i, v.j) for v in judged.votes}.values():
        if vote := said(judged, i, j):
            pair = PairChoice(i, j, vote.p, vote.weight, vote.tie)
            pairs.append(pair if vote.p >= 0.5 else pair.turned())
    return usable(judged, pairs)


def max_min(judged: Judged, seed: int) -> list[PairChoice]:
    """Best against worst."""
    order = _ranked(judged, seed)
    return _scored(judged, [(order[0], order[-1])]) if order else []


def max_max(judged: Judged, seed: int) -> list[PairChoice]:
    """Best against second best."""
    order = _ranked(judged, seed)
    return _scored(judged, [(order[0], order[1])]) if len(order) > 1 else []


def max_random(judged: Judged, seed: int) -> list[PairChoice]:
    """Best against one of the others, truly at random."""
    order = _ranked(judged, seed)
    if len(order) < 2:
        return []
    return _scored(judged, [(order[0], _rng(judged, seed).choice(order[1:]))])


def random_pair(judged: Judged, seed: int) -> list[PairChoice]:
    """Two answers chosen without looking at their scores (theory-faithful i.i.d. pairs)."""
    if len(judged.answers) < 2:
        return []
    i, j = _rng(judged, seed).sample(range(len(judged.answers)), 2)
    return _scored(judged, [(i, j)])


def pair_off(judged: Judged, seed: int) -> list[PairChoice]:
    """All answers paired off at random, each in one pair (RSO's first round, 2309.06657)."""
    return _scored(judged, couples(judged, seed))


def all_pairs(judged: Judged, seed: int) -> list[PairChoice]:
    """Every pair whose scores differ by more than the margin; together they weigh as one."""
    return as_one(_scored(judged, list(combinations(_ranked(judged, seed), 2))))


def tournament(judged: Judged, seed: int) -> list[PairChoice]:
    """Knock-out among winners and among losers (INPO 2407.00617, section 5); the pair is kept only
    if the winner also beats the loser directly. The bracket is shuffled, so index order never
    breaks a tie."""
    bracket = list(range(len(judged.answers)))
    if len(bracket) < 2:
        return []
    _rng(judged, seed).shuffle(bracket)
    winners, losers = _play(judged, bracket)
    while len(winners) > 1:
        winners = _play(judged, winners)[0]
    while len(losers) > 1:
        losers = _play(judged, losers)[1]
    if preference(judged, winners[0], losers[0]) <= 0.5:
        return []
    return _scored(judged, [(winners[0], losers[0])])


RULES: dict[str, Rule] = {
    "voted": voted,
    "max_min": max_min,
    "max_max": max_max,
    "max_random": max_random,
    "random": random_pair,
    "pair_off": pair_off,
    "all_pairs": all_pairs,
    "tournament": tournament,
}
SHAPINGS: dict[str, Callable[[Judged, int], float]] = {"none": score, "par": bounded}


def _rng(judged: Judged, seed: int) -> random.Random:
    return random.Random(f"{seed}:{judged.prompt}")


def _ranked(judged: Judged, seed: int) -> list[int]:
    """Indices from best to worst; equal scores in random order."""
    order = list(range(len(judged.answers)))
    _rng(judged, seed).shuffle(order)
    return sorted(order, key=lambda index: -score(judged, index))


def _play(judged: Judged, entrants: list[int]) -> tuple[list[int], list[int]]:
    """One knock-out stage; an odd one out goes through on both sides."""
    winners, losers = [], []
    for a, b in zip(entrants[::2], entrants[1::2], strict=False):
        first = preference(judged, a, b) >= 0.5
        winners.append(a if first else b)
        losers.append(b if first else a)
    if len(entrants) % 2:
        winners.append(entrants[-1])
        losers.append(entrants[-1])
    return winners, losers


def _scored(judged: Judged, indices: list[tuple[int, int]]) -> list[PairChoice]:
    """Orient each pair by preference; drop ties and differences within the margin."""
    pairs = []
    for i, j in indices:
        p = preference(judged, i, j)
        if p < 0.5:
            i, j, p = j, i, 1 - p
        apart = abs(score(judged, i) - score(judged, j)) > judged.margin
        if p > 0.5 and (apart or not judged.margin):
            pairs.append(PairChoice(i, j, p, 1.0))
    return usable(judged, pairs)


def couples(judged: Judged, seed: int) -> list[tuple[int, int]]:
    """Disjoint pairs of answers at random, their scores unseen; an odd one is left out."""
    order = list(range(len(judged.answers)))
    _rng(judged, seed).shuffle(order)
    return list(zip(order[::2], order[1::2], strict=False))


def meetings(judged: Judged, rule: str, seed: int) -> list[PairChoice]:
    """Which answers a rule lets meet, for losses that learn from equals too: no margin and no tie
    leaves a pair out. Rules that do not look at scores give p = 0.5; who is chosen, and whether
    the pairs are usable, is the caller's to say."""
    if rule == "all_pairs":
        indices = list(combinations(range(len(judged.answers)), 2))
    elif rule in ("random", "pair_off"):
        indices = couples(judged, seed)[: 1 if rule == "random" else None]
    else:
        return RULES[rule](replace(judged, margin=0.0), seed)
    return [PairChoice(i, j, 0.5, 1.0) for i, j in indices]


def as_one(pairs: list[PairChoice]) -> list[PairChoice]:
    """The same pairs, weighing as much as a single one together."""
    return [replace(pair, weight=1 / len(pairs)) for pair in pairs]


def usable(judged: Judged, pairs: list[PairChoice]) -> list[PairChoice]:
    """Drop pairs of one text with itself and pairs whose chosen answer was cut off."""
    answers = judged.answers
    return [
        pair
        for pair in pairs
        if answers[pair.chosen].text != answers[pair.rejected].text
        and not answers[pair.chosen].truncated
    ]
