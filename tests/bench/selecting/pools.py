"""What may be asked: answers with their features, the vote on each pair, and held-out votes.

`simulated`: the demo's base answers each question several times, and a simulated rater's vote on
every pair is thrown once and looked up from then on. `alpaca_eval`: a strong judge's verdicts, each
pair a prompt of its own, since no other pairs were judged. Features are the probe's, read once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from align import jobs
from align.demo import prompts
from align.gpu import data, model, probe, score
from align.jobs import Message
from tests.bench.alignment import real_text, world
from tests.bench.alignment.workshop import Workshop, digest, response
from tests.bench.alignment.world import BASE

ANSWERS = 4  # to a question
BATCH = 64  # answers read at once
LONGEST = 384  # tokens of a judged instruction and answer: longer ones are left out


@dataclass(frozen=True)
class Pool:
    """`prompts`: rows of `features` by prompt; `votes`: P(first is better) by pair of rows, first
    row the smaller; `heldout`: (first, second, P(first is better), prompt)."""

    name: str
    features: Tensor  # (R, D) fp64
    texts: Sequence[str]
    prompts: Mapping[int, Sequence[int]]
    votes: Mapping[tuple[int, int], float]
    heldout: Sequence[tuple[int, int, float, str]]


class Reader:
    """Collects answers and reads all of them at once."""

    def __init__(self) -> None:
        self.items: list[tuple[Sequence[Message], jobs.ResponseRow]] = []

    def add(self, messages: Sequence[Message], answer: jobs.ResponseRow) -> int:
        self.items.append((messages, answer))
        return len(self.items) - 1

    def read(self, folder: Path) -> Tensor:
        """Features (R, D) of the answers in the order they came; kept in `folder`."""
        place = folder / f"features-{digest(self.items)}.pt"
        if not place.is_file():
            policy = model.load(BASE)
            encoder = data.Encoder(policy.tokenizer)
            encoded = {}
            for row, (messages, answer) in enumerate(self.items):
                found = encoder.example(list(messages), [answer], world.LONGEST * 4)
                assert found, "an answer that does not fit was not left out"
                encoded[f"{row:08}"] = found[0]
            table: dict[str, Tensor] = {}
            for keys in score.batches(encoded, BATCH):
                table.update(
                    zip(keys, probe.features(policy, [encoded[k] for k in keys]), strict=True)
                )
            torch.save(torch.stack([table[key] for key in sorted(table)]).double(), place)
        found: Tensor = torch.load(place)
        return found


def simulated(workshop: Workshop, count: int, heldout: int) -> Pool:
    """`count` training questions and `heldout` others, ANSWERS answers of the base to each."""
    reader = Reader()
    asked: dict[int, list[int]] = {}
    votes: dict[tuple[int, int], float] = {}
    kept: list[tuple[int, int, float, str]] = []
    texts: list[str] = []
    for part, wanted, seed in (("train", count, 21), ("heldout", heldout, 22)):
        questions = prompts.texts(part)
        random.Random(seed).shuffle(questions)
        questions = questions[:wanted]
        drawn = workshop.draw(BASE, questions, ANSWERS, 1.0, seed)
        for number, (question, replies) in enumerate(zip(questions, drawn, strict=True)):
            messages = world.messages(question)
            different = [replies[k] for k in world.different(replies) if replies[k].text.strip()]
            rows = [reader.add(messages, response(one)) for one in different]
            texts += [one.text for one in different]
            if part == "train" and len(rows) > 1:
                asked[number] = rows
            for i, j in itertools.combinations(rows, 2):
                if part == "train":
                    rng = random.Random(f"{seed}:{number}:{i}:{j}")
                    said = world.LABELLER.vote(messages, [texts[i], texts[j]], rng)
                    votes[i, j] = 0.5 if len(said.ranking) == 1 else float(said.ranking[0] == [0])
                else:
                    p = world.LABELLER.preference(messages, texts[i], texts[j])
                    kept.append((i, j, p, question))
    return Pool("simulated", reader.read(workshop.folder), texts, asked, votes, kept)


def alpaca_eval(path: Path, folder: Path, count: int, heldout: int) -> Pool:
    """Judged pairs that fit the base; no instruction is both asked about and held out."""
    reader = Reader()
    asked: dict[int, list[int]] = {}
    votes: dict[tuple[int, int], float] = {}
    kept: list[tuple[int, int, float, str]] = []
    texts: list[str] = []
    encoder = data.Encoder(model.load_tokenizer(Path(BASE.base)))

    def fits(one: real_text.Pair) -> bool:
        texts = (one.chosen, one.rejected)
        if sum(map(len, texts)) >= 4 * LONGEST:
            return False
        longest = max(len(encoder.response(real_text.response(text))) for text in texts)
        return len(encoder.prompt(one.messages)) + longest <= LONGEST

    judged = [one for one in real_text.read(path) if fits(one)]
    random.Random(23).shuffle(judged)
    for number, one in enumerate(judged):
        apart = one.instruction % real_text.HELD_OUT == 0
        if (len(kept) >= heldout) if apart else (len(asked) >= count):
            continue
        first_won = random.Random(f"23:{number}").random() < 0.5
        pair = (one.chosen, one.rejected) if first_won else (one.rejected, one.chosen)
        i, j = (reader.add(one.messages, real_text.response(text)) for text in pair)
        texts += pair
        if apart:
            kept.append((i, j, float(first_won), str(one.instruction)))
        else:
            asked[number] = [i, j]
            votes[i, j] = float(first_won)
    return Pool("alpaca_eval", reader.read(folder), texts, asked, votes, kept)
