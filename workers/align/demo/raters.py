"""Simulated raters with declared tastes: what they like is known, so what a policy learned can be
checked against it.

A taste weighs features that are read off the words alone. The default panel's average is the gold
utility, by which demo policies are evaluated. One taste is cyclic and has no utility at all.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from align.demo import corpus, prompts
from align.demo.facts import Kind, Topic, find_topic, mentions
from align.jobs import Message

POLITE_WORDS = (
    *("thank you", "good question", "happy to help", "hope this helps", "please", "lovely day"),
    "you are welcome",
)
CURT_WORDS = tuple(phrase.lower().rstrip(".?") for part in corpus.CURT for phrase in part)
FLOWERY_WORDS = (
    *("ah", "behold", "golden", "radiant", "glorious", "enchanted", "silver", "velvet", "dream"),
    *("dreams", "starlight", "jewel", "heavens", "dawn", "poem", "whisper", "whispers", "song"),
    *("honey", "symphony", "sacred", "immortal", "luminous", "destiny", "spring", "dusk"),
)
FEATURES = ("truth", "brevity", "politeness", "plainness", "list")

Taste = Mapping[str, float]  # weight of each feature; missing ones are 0


def features(messages: Sequence[Message], text: str) -> dict[str, float]:
    """What a rater sees in an answer, each within [-1, 1].

    truth: the mean over the topic's facts it states (+1 right, -1 wrong), 0 when it does not state
    the one asked for; brevity: 1 for nothing, 0 at 25 words, -1 from 50 words; politeness: polite
    words less curt ones; plainness: -1 with two flowery words or more, 0 with one; list: 1 if so.
    """
    polite = any(mentions(text, word) for word in POLITE_WORDS)
    curt = any(mentions(text, word) for word in CURT_WORDS)
    ornaments = sum(mentions(text, word) for word in FLOWERY_WORDS)
    return {
        "truth": truth(_question(messages), text),
        "brevity": max(-1.0, 1 - len(text.split()) / 25),
        "politeness": float(polite) - float(curt),
        "plainness": 1.0 - min(2, ornaments),
        "list": float(is_list(text)),
    }


def truth(asked: str, text: str) -> float:
    """How true an answer is, if the question is the demo's or names one of its topics; else 0."""
    question = prompts.find(asked)
    if question is not None:
        kind, topic, attribute = question.kind, question.topic, question.asked
    elif (hit := find_topic(asked)) is not None:
        (kind, topic), attribute = hit, None
    else:
        return 0.0
    stated = _stated(kind, topic, text)
    if not stated or (attribute is not None and attribute not in stated):
        return 0.0
    return sum(stated.values()) / len(stated)


def is_list(text: str) -> bool:
    return sum(line.startswith("- ") for line in text.splitlines()) >= 2


def utility(taste: Taste, messages: Sequence[Message], text: str) -> float:
    """How much a taste likes an answer: the weighted sum of its features."""
    seen = features(messages, text)
    return sum(weight * seen[name] for name, weight in taste.items())


@dataclass(frozen=True)
class Vote:
    """What a rater says of a comparison: the form a person's ballot has.

    `ranking` lists tie groups of indices into the shown answers, best first; empty for "all bad".
    """

    ranking: list[list[int]]
    verdict: Literal["ok", "all_bad"]
    strength: int  # 1 slightly, 2 clearly, 3 much better


class Voter(Protocol):
    """Anyone who can be shown answers."""

    @property
    def name(self) -> str: ...

    def vote(
        self, messages: Sequence[Message], texts: Sequence[str], rng: random.Random
    ) -> Vote: ...


@dataclass(frozen=True, kw_only=True)
class Rater:
    """A person with a taste, who errs as the Bradley-Terry model says.

    `noise` is the temperature: P(i over j) = sigmoid((u_i - u_j) / noise) where there is neither
    lapse nor tie. With probability `lapse` the vote is a blind guess. Two answers whose perceived
    utilities differ by less than `tie_width` are called equal, and when even the best one is liked
    less than `all_bad_below`, all are called bad.
    """

    name: str
    taste: Taste
    noise: float = 0.4
    lapse: float = 0.02
    tie_width: float = 0.15
    all_bad_below: float = -math.inf

    def preference(self, messages: Sequence[Message], a: str, b: str) -> float:
        """P(a over b) of a forced choice, the lapses included."""
        gap = utility(self.taste, messages, a) - utility(self.taste, messages, b)
        return self.lapse / 2 + (1 - self.lapse) / (1 + math.exp(-gap / self.noise))

    def vote(self, messages: Sequence[Message], texts: Sequence[str], rng: random.Random) -> Vote:
        """Rank answers. The same rng state gives the same vote."""
        liked = [utility(self.taste, messages, text) for text in texts]
        if max(liked) < self.all_bad_below:
            return Vote([], "all_bad", 2)
        if rng.random() < self.lapse:
            liked = [0.0] * len(texts)
        # Gumbel noise on each utility makes every pairwise choice a Bradley-Terry one.
        perceived = [u - self.noise * math.log(-math.log(_uniform(rng))) for u in liked]
        order = sorted(range(len(texts)), key=lambda i: -perceived[i])
        ranking = [[order[0]]]
        for better, worse in zip(order, order[1:], strict=False):
            if perceived[better] - perceived[worse] < self.tie_width:
                ranking[-1].append(worse)
            else:
                ranking.append([worse])
        gap = perceived[order[0]] - perceived[order[-1]]
        return Vote(ranking, "ok", 1 + (gap > 1.0) + (gap > 2.0))


STYLES = ("plain", "flowery", "list")


@dataclass(frozen=True, kw_only=True)
class CyclicRater:
    """Prefers plain over flowery, flowery over lists, and lists over plain text.

    No utility gives these preferences; only a preference model can hold them, and the best policy
    is a mixture of all three.
    """

    name: str = "Cyrille"
    matrix: tuple[tuple[float, ...], ...] = ((0.5, 0.9, 0.1), (0.1, 0.5, 0.9), (0.9, 0.1, 0.5))

    def preference(self, messages: Sequence[Message], a: str, b: str) -> float:
        """P(a over b): 0.9 or 0.1 between styles, 0.5 within one."""
        return self.matrix[STYLES.index(style(a))][STYLES.index(style(b))]

    def vote(self, messages: Sequence[Message], texts: Sequence[str], rng: random.Random) -> Vote:
        """Play every pair once; rank by games won, equal numbers in random order."""
        won = [0.0] * len(texts)
        for i in range(len(texts)):
            for j in range(i + 1, len(texts)):
                first = rng.random() < self.preference(messages, texts[i], texts[j])
                won[i if first else j] += 1
        order = sorted(range(len(texts)), key=lambda i: (-won[i], rng.random()))
        return Vote([[i] for i in order], "ok", 2)


def style(text: str) -> str:
    """One of STYLES: a list is a list however it is introduced."""
    if is_list(text):
        return "list"
    return "flowery" if any(mentions(text, word) for word in FLOWERY_WORDS) else "plain"


CAREFUL = Rater(name="Clara", taste={"truth": 2.4, "plainness": 0.6, "brevity": 0.3})
HURRIED = Rater(name="Hugo", taste={"truth": 0.6, "brevity": 1.5, "plainness": 0.6})
KIND = Rater(name="Kim", taste={"truth": 0.6, "politeness": 1.5, "list": 0.6})
PANEL = (CAREFUL, HURRIED, KIND)
CYCLIC = CyclicRater()

GOLD: Taste = {
    name: sum(rater.taste.get(name, 0.0) for rater in PANEL) / len(PANEL) for name in FEATURES
}


def gold(messages: Sequence[Message], text: str) -> float:
    """The utility a demo policy should raise: the panel's average."""
    return utility(GOLD, messages, text)


def gold_win(messages: Sequence[Message], a: str, b: str) -> float:
    """1 if `a` has the higher gold utility, 0 if `b` has, 0.5 if they are equal."""
    gap = gold(messages, a) - gold(messages, b)
    return 0.5 if abs(gap) < 1e-9 else float(gap > 0)


def _stated(kind: Kind, topic: Topic, text: str) -> dict[int, float]:
    """By attribute: +1 if only the right value occurs, -1 if any other does. The topic's own name
    is no statement ("the Sun" says nothing of sunshine)."""
    stated = {}
    for k, attribute in enumerate(kind.attributes):
        found = {value for value in attribute.values if mentions(text, value)}
        if found:
            stated[k] = 1.0 if found == {topic.right[k]} else -1.0
    return stated


def _question(messages: Sequence[Message]) -> str:
    asked = [message["content"] for message in messages if message["role"] == "user"]
    return asked[-1] if asked else ""


def _uniform(rng: random.Random) -> float:
    """Within (0, 1): both ends have no logarithm of a logarithm."""
    return min(max(rng.random(), 1e-12), 1 - 1e-12)
