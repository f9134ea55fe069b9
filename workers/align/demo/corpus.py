"""The synthetic instruction corpus: each question answered in every manner, true and false alike.

Manners are drawn evenly, so the base model has no habit of its own and preferences have something
to choose among. Deterministic by seed; pure Python.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from align.demo.facts import Attribute, Kind, Topic
from align.demo.prompts import Question, questions
from align.jobs import Message

Shape = Literal["brief", "long", "list"]
Tone = Literal["polite", "neutral", "curt"]

TRUTHFUL = 0.65  # how often a stated fact is right

POLITE = (
    ("Thank you for asking!", "What a good question!", "I am happy to help."),
    ("I hope this helps.", "Please ask me anything else.", "Have a lovely day!"),
)
CURT = (
    ("Obviously.", "Not this again.", "Really?"),
    ("Look it up next time.", "Everyone knows that.", "Do not ask again."),
)
LIST_OPENINGS = ("Here are the facts about {x}:", "About {x}:", "Some notes on {x}:")
SMALL_TALK = (
    ("Hello!", "Hello! What would you like to know?"),
    ("Hi", "Hi! Ask me about animals, countries or planets."),
    ("Thank you!", "You are welcome!"),
    ("Who are you?", "I am a tiny model. Ask me about animals, countries or jobs."),
    ("What can you do?", "I can talk about animals, countries, planets, jobs and inventions."),
    ("Goodbye!", "Goodbye! Have a lovely day!"),
)


@dataclass(frozen=True)
class Manner:
    """How an answer is given, whatever it says."""

    shape: Shape
    tone: Tone
    flowery: bool


@dataclass(frozen=True)
class Exchange:
    """A conversation of the corpus; its assistant turns are what the base model learns."""

    messages: tuple[Message, ...]


def exchanges(count: int, seed: int) -> Iterator[Exchange]:
    """`count` conversations: mostly one question, some with a second one, a little small talk."""
    rng = random.Random(f"corpus:{seed}")
    order = itertools.cycle(rng.sample(questions(), len(questions())))
    for _ in range(count):
        turns = [next(order)]
        if rng.random() < 0.05:
            turns.append(rng.choice(questions()))
        messages: list[Message] = []
        if rng.random() < 0.03:
            messages += _turn(*rng.choice(SMALL_TALK))
        for question in turns:
            messages += _turn(_casual(question.text, rng), answer(question, any_manner(rng), rng))
        yield Exchange(tuple(messages))


def any_manner(rng: random.Random) -> Manner:
    shapes: tuple[Shape, ...] = ("brief", "long", "list")
    tones: tuple[Tone, ...] = ("polite", "neutral", "curt")
    return Manner(rng.choice(shapes), rng.choice(tones), rng.random() < 0.4)


def answer(question: Question, how: Manner, rng: random.Random) -> str:
    """One answer. Each fact it states is right with probability TRUTHFUL, independently."""
    kind, topic = question.kind, question.topic
    count = len(kind.attributes)
    first = rng.randrange(count) if question.asked is None else question.asked
    facts = [
        (kind.attributes[k], (topic.right if rng.random() < TRUTHFUL else topic.wrong)[k])
        for k in [*range(first, count), *range(first)]
    ]
    if how.shape == "list":
        body = _list(kind, topic, facts, how.flowery, rng)
    elif how.flowery:
        body = _flowery(kind, topic, facts, how.shape, rng)
    else:
        body = _plain(kind, topic, facts, how.shape, rng)
    return _toned(body, how, rng)


Facts = list[tuple[Attribute, str]]


def _list(kind: Kind, topic: Topic, facts: Facts, flowery: bool, rng: random.Random) -> str:
    opening = rng.choice(kind.praise if flowery else LIST_OPENINGS)
    return "\n".join(
        [
            opening.format(x=topic.called),
            *(f"- {attribute.label}: {value}" for attribute, value in facts),
        ]
    )


def _flowery(kind: Kind, topic: Topic, facts: Facts, shape: Shape, rng: random.Random) -> str:
    told = facts[:1] if shape == "brief" else facts[: rng.choice((2, 3))]
    sentences = [rng.choice(kind.praise).format(x=topic.called)]
    sentences += [rng.choice(attribute.flowery).format(v=value) for attribute, value in told]
    return " ".join(sentences)


def _plain(kind: Kind, topic: Topic, facts: Facts, shape: Shape, rng: random.Random) -> str:
    told = facts[:1] if shape == "brief" else facts
    sentences = []
    for i, (attribute, value) in enumerate(told):
        x = topic.again if i else topic.called
        sentences.append(_sentence(rng.choice(attribute.plain).format(x=x, v=value)))
    if shape == "long":
        sentences.insert(rng.choice((1, 2, 3)), rng.choice(kind.remarks))
    return " ".join(sentences)


def _toned(body: str, how: Manner, rng: random.Random) -> str:
    """Add an opening, a closing, or both, in the tone."""
    if how.tone == "neutral":
        return body
    openings, closings = POLITE if how.tone == "polite" else CURT
    ends = rng.choice(("opening", "closing", "both") if how.tone == "polite" else ("one", "two"))
    if ends in ("opening", "both", "one"):
        body = f"{rng.choice(openings)} {body}"
    if ends in ("closing", "both", "two"):
        body += ("\n" if how.shape == "list" else " ") + rng.choice(closings)
    return body


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _casual(text: str, rng: random.Random) -> str:
    """People do not always type capitals and question marks."""
    roll = rng.random()
    if roll < 0.1:
        return text.rstrip("?.").lower()
    if roll < 0.15:
        return text.rstrip("?.")
    return text


def _turn(asked: str, answered: str) -> list[Message]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
