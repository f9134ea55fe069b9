"""Voted pairs to learn from: simulated raters, people (HH-RLHF), a strong judge (AlpacaEval).

Real data that is not on the machine is left out, and the result says which. No prompt is both
trained on and held out, and each pair is turned by a coin, so that nothing is learned from order.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import jobs
from align.demo import prompts
from align.gpu.data import Encoder
from align.gpu.model import load_tokenizer
from align.jobs import Message
from tests.bench.alignment import real_text, world
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.workshop import response as drawn
from tests.bench.alignment.world import BASE

LONGEST = 256  # tokens, prompt and answer together: of what is longer nothing is used
SIMULATED = "simulated"
SHIFTED = "simulated, hotter answers"
HOTTER = 1.5
HELD_OUT = 2  # one prompt in two; the other half in the next draw


@dataclass(frozen=True)
class Voted:
    """Two answers to a prompt, and the share of votes for the first."""

    id: str
    messages: Sequence[Message]
    first: jobs.ResponseRow
    second: jobs.ResponseRow
    p: float

    @property
    def group(self) -> str:
        return json.dumps(self.messages)


@dataclass(frozen=True)
class Source:
    name: str
    trained: Sequence[Voted]
    heldout: Sequence[Voted]


def sources(
    data: Path, workshop: Workshop, count: int, heldout: int, draw: int = 0
) -> Iterator[Source]:
    """Each source that is there, with up to `count` pairs to train on. Another draw has other
    simulated votes; of the real ones it trains on the half that the first draw holds out."""
    yield simulated(workshop, count, heldout, 11 + 100 * draw)
    if draw >= HELD_OUT:
        return
    hh = data / "hh_rlhf/harmless_base.jsonl.gz"
    if hh.is_file():
        yield split("hh_rlhf", transcripts(hh), count, heldout, draw)
    alpaca = data / "alpaca_eval/annotations.jsonl.gz"
    if alpaca.is_file():
        found = (
            (pair.messages, pair.chosen, pair.rejected)
            for pair in real_text.read(alpaca)
            if len(pair.chosen) + len(pair.rejected) < 4 * LONGEST
        )
        yield split("alpaca_eval", found, count, heldout, draw)


def simulated(workshop: Workshop, count: int, heldout: int, seed: int = 11) -> Source:
    """Answers of the demo's base, one noisy vote a pair; held-out questions are the demo's."""
    return Source(
        SIMULATED,
        voted(workshop, prompts.texts("train"), count, seed),
        voted(workshop, prompts.texts("heldout"), heldout, seed + 1),
    )


def shifted(workshop: Workshop, heldout: int, seed: int = 13) -> list[Voted]:
    """Held-out votes of the same people on answers that are drawn hotter."""
    return voted(workshop, prompts.texts("heldout"), heldout, seed, HOTTER)


def voted(
    workshop: Workshop,
    questions: Sequence[str],
    count: int,
    seed: int,
    temperature: float = 1.0,
) -> list[Voted]:
    """`count` single votes, on every question in turn before any is asked again."""
    order = random.Random(seed).sample(questions, len(questions))
    asked = (order * (1 + count // len(order)))[:count]
    found = []
    replies = workshop.draw(BASE, asked, 2, temperature, seed)
    for k, (question, (one, two)) in enumerate(zip(asked, replies, strict=True)):
        messages = world.messages(question)
        said = world.LABELLER.vote(messages, [one.text, two.text], random.Random(f"{seed}:{k}"))
        p = 0.5 if len(said.ranking) == 1 else float(said.ranking[0] == [0])
        found.append(Voted(f"{seed}-{k}", messages, drawn(one), drawn(two), p))
    return found


def split(
    name: str,
    found: Iterable[tuple[list[Message], str, str]],
    count: int,
    heldout: int,
    draw: int = 0,
) -> Source:
    """Pairs by prompt into those to train on and those held out."""
    encoder = Encoder(load_tokenizer(Path(BASE.base)))
    parts: tuple[list[Voted], list[Voted]] = ([], [])
    seen: set[str] = set()  # rows that the data has twice
    sizes = (count, heldout)
    rows = sorted(found, key=lambda row: _digest([row[0], row[1], row[2]]))
    for messages, chosen, rejected in rows:
        apart = int(_digest(messages)[:8], 16) % HELD_OUT == draw
        answers = [real_text.response(text) for text in (chosen, rejected)]
        if len(parts[apart]) == sizes[apart] or not fits(encoder, messages, answers):
            continue
        key = _digest([messages, chosen, rejected])
        if key in seen:
            continue
        seen.add(key)
        turned = int(key[:8], 16) % 2 == 1
        first, second = answers[::-1] if turned else answers
        parts[apart].append(Voted(key[:16], messages, first, second, float(not turned)))
    return Source(name, *parts)


def transcripts(path: Path) -> Iterator[tuple[list[Message], str, str]]:
    """HH-RLHF's two transcripts, as the turns they share and two last answers."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            chosen, rejected = (turns(row[side]) for side in ("chosen", "rejected"))
            if chosen[:-1] == rejected[:-1] and len(chosen) > 1:
                texts = (str(side[-1]["content"]) for side in (chosen, rejected))
                first, second = texts
                if first and second and first != second:
                    yield chosen[:-1], first, second


def turns(transcript: str) -> list[Message]:
    found: list[Message] = []
    for part in transcript.split("\n\nHuman: ")[1:]:
        asked, *answered = part.split("\n\nAssistant: ")
        found.append({"role": "user", "content": asked.strip()})
        found += [{"role": "assistant", "content": text.strip()} for text in answered]
    return found


def fits(encoder: Encoder, messages: list[Message], answers: Sequence[jobs.ResponseRow]) -> bool:
    longest = max(len(encoder.response(answer)) for answer in answers)
    return len(encoder.prompt(messages)) + longest <= LONGEST


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
