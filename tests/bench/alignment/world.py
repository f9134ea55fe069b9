"""The world that the bench aligns a model in: questions, labellers, and what is true of answers.

Labellers see the gold utility only through single noisy votes; one more taste is a cycle, which no
utility gives. Everything is a pure function of (seed, round, question), so that all methods of a
seed face the same people.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import align
from align.demo import prompts, raters
from align.demo.raters import STYLES, CyclicRater, Rater
from align.jobs import Message, ModelRef
from align.pairing import Vote

BASE = ModelRef(base=str(Path(align.__file__).parent / "demo/base"))
LABELLER = Rater(name="labeller", taste=raters.GOLD)
CYCLE = raters.CYCLIC
LONGEST = 128  # tokens of an answer
CONTRASTED = (
    0.5  # share of contrasting pairs among the votes, as plumbline.collect.selection has it
)
TUNED_BY = 60  # held-out questions that the arms' last settings were chosen by (docs/alignment.md)


@dataclass(frozen=True)
class Reply:
    """A sampled answer: what a trainer, a rater and a ruler need of it."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


def messages(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def training_questions(seed: int, round: int, votes: int, count: int) -> list[str]:
    """`count` questions of a round. People are asked about the first `votes`, which no other round
    asks them about until every question has had its turn; the rest are any others."""
    everything = prompts.texts("train")
    random.Random(f"bench:{seed}").shuffle(everything)
    first = (round - 1) * votes
    asked = [everything[k % len(everything)] for k in range(first, first + votes)]
    others = sorted(set(everything) - set(asked))
    random.Random(f"bench:{seed}:{round}").shuffle(others)
    return [*asked, *others[: count - votes]]


def heldout_questions(count: int) -> list[str]:
    """Questions to measure policies on, other than those that settings were chosen by."""
    return prompts.texts("heldout")[TUNED_BY : TUNED_BY + count]


def vote(
    labeller: Rater | CyclicRater,
    question: str,
    replies: Sequence[Reply],
    seed: int,
    contrast: Sequence[int] = (),
) -> tuple[Vote, ...]:
    """One person compares two different answers once: any two, or, for half of the questions, the
    two that contrast, where those are known."""
    rng = random.Random(f"vote:{seed}:{question}")
    several = different(replies)
    if len(several) < 2:
        return ()
    pair = rng.sample(several, 2)
    if contrast and rng.random() < CONTRASTED:
        pair = list(contrast)
    i, j = sorted(pair)
    first, second = replies[i].text, replies[j].text
    said = labeller.vote(messages(question), [first, second], rng)
    if len(said.ranking) == 1:
        return (Vote(i, j, 0.5, 1.0, 1.0),)
    return (Vote(i, j, float(said.ranking[0] == [0]), 1.0),)


def different(replies: Sequence[Reply]) -> list[int]:
    """Indices of the replies, of equal ones the first alone."""
    return list({replies[k].text.strip(): k for k in reversed(range(len(replies)))}.values())[::-1]


def gold(question: str, reply: Reply) -> float:
    return raters.gold(messages(question), reply.text)


def style(reply: Reply) -> int:
    """The class that the cyclic taste sees in an answer: an index into STYLES."""
    return STYLES.index(raters.style(reply.text))


def truth(question: str, reply: Reply) -> float:
    """How true an answer is, in [-1, 1]."""
    return raters.truth(question, reply.text)
