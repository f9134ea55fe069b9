"""The same trainer on real text: AlpacaEval's judgements, with instructions held out.

The tiny base has never read such text, so this asks how much of a strong judge's taste an implicit
reward picks up, and next to what trivial rules. Answers that fit the model are used and no others,
which are the short ones. Skipped where the data folder is not there.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import jobs
from align.gpu.data import Encoder
from align.gpu.model import load_tokenizer
from align.jobs import Message, ModelRef
from tests.bench.alignment.intervals import share
from tests.bench.alignment.rounds import optimiser
from tests.bench.alignment.sampler import Sampler
from tests.bench.alignment.workshop import Workshop
from tests.bench.alignment.world import BASE

DATA = Path(__file__).resolve().parents[4] / "shared/data/alpaca_eval/annotations.jsonl.gz"
LONGEST = 512  # tokens, instruction and answer together
HELD_OUT = 4  # one instruction in four
BETA = 0.1


@dataclass(frozen=True)
class Pair:
    """A judgement: the answer that the judge preferred, and the other one."""

    instruction: int
    messages: list[Message]
    chosen: str
    rejected: str


def measure(folder: Path, *, quick: bool) -> dict[str, Any] | None:
    """Held-out pair accuracy of DPO's implicit reward, beta * log(policy / base)."""
    if not DATA.is_file():
        return None
    pairs = list(read(DATA))
    random.Random(0).shuffle(pairs)
    trained = [pair for pair in pairs if pair.instruction % HELD_OUT][: 200 if quick else 1200]
    heldout = [pair for pair in pairs if not pair.instruction % HELD_OUT][: 200 if quick else 600]
    workshop = Workshop(folder, Sampler(BASE.base))
    job = jobs.TrainJob(
        algorithm="dpo",
        knobs={"beta": BETA},
        start=BASE,
        references={"reference": BASE},
        optimiser=optimiser(2e-3, 1, 8, 0),
    )
    result = workshop.do(job, {jobs.EXAMPLES: map(example_row, range(len(trained)), trained)})
    policy = ModelRef(base=BASE.base, adapter=str(result["weights"]))
    items = [
        {"id": f"{k}:{side}", "messages": pair.messages, "response": response(text)}
        for k, pair in enumerate(heldout)
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
    ]
    scored = workshop.do(
        jobs.ScoreJob(policies={"policy": policy, "base": BASE}, batch_size=16),
        {jobs.ITEMS: items},
    )
    rows = {row["id"]: row for row in jobs.read_rows(scored["folder"] / jobs.SCORES)}

    def right(value: Any) -> list[float]:
        """1 where a rule's value is larger for the chosen answer; equal values are half right."""
        both = (
            (value(rows[f"{k}:chosen"]), value(rows[f"{k}:rejected"])) for k in range(len(heldout))
        )
        return [0.5 if a == b else float(a > b) for a, b in both]

    after = share(right(lambda row: BETA * (row["logps"]["policy"] - row["logps"]["base"])))
    return {
        "trained_on": len(trained),
        "heldout": len(heldout),
        "before": 0.5,  # a policy that equals its base has an implicit reward of 0 everywhere
        "after": after.mean,
        "low": after.low,
        "high": after.high,
        "longer_wins": share(right(lambda row: row["tokens"])).mean,
        "base_likelihood": share(right(lambda row: row["logps"]["base"])).mean,
    }


def read(path: Path) -> Iterator[Pair]:
    """Decided judgements whose two answers fit the model."""
    encoder = Encoder(load_tokenizer(Path(BASE.base)))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            texts = [row["output_1"], row["output_2"]]
            if row["preference"] is None or row["preference"] == 1.5 or not all(texts):
                continue
            if max(map(len, texts)) + len(row["instruction"]) > 4 * LONGEST:
                continue  # too long for certain: a token is shorter than four letters
            messages: list[Message] = [{"role": "user", "content": row["instruction"]}]
            longest = max(len(encoder.response(response(text))) for text in texts)
            if len(encoder.prompt(messages)) + longest > LONGEST:
                continue
            first = row["preference"] < 1.5
            yield Pair(row["index"], messages, texts[not first], texts[first])


def example_row(k: int, pair: Pair) -> dict[str, Any]:
    return {
        "id": str(k),
        "messages": pair.messages,
        "responses": {"chosen": response(pair.chosen), "rejected": response(pair.rejected)},
        "p": 1.0,
        "facts": {"tie": 0.0},
        "weight": 1.0,
    }


def response(text: str) -> jobs.ResponseRow:
    return {"id": "", "text": text, "token_ids": None, "finish_reason": "stop"}
