"""`make bench NAME=programs`: how many answers reward programs score in a minute, behind the walls.

Six programs as a generation of ICPL has them, of code that counts, matches and compares, score a
pool of answers of some hundred words: once by the whole ladder, which calls each program twice on
each answer and twice on twenty smoke cases, and once as a judge does it. Starting the job and its
sandboxes is included. An answer counts when all six have scored it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align import jobs
from align.judge_jobs import PROGRAM_ITEMS, PROGRAMS, PROGRAMS_CHECKED, ProgramJob
from align.programs import RewardProgram, to_json
from tests.bench.speed import contest

PROMPTS, DRAWS, FEW = 120, 16, 36
GOAL = 3000.0  # answers a minute
CODE = """import re
import math
from collections import Counter

def compute_reward(prompt, response, judge, meta):
    p = meta["params"]
    words = re.findall(r"[a-z']+", response.lower())
    asked = set(re.findall(r"[a-z']+", prompt.lower()))
    counts = Counter(words)
    parts = {
        "length": math.exp(-abs(len(words) - p["words"]) / p["words"]),
        "varied": len(counts) / max(1, len(words)),
        "on_topic": sum(counts[word] for word in asked) / max(1, len(words)),
        "lists": min(3, len(re.findall(r"^[-*] ", response, re.MULTILINE))) / 3,
        "shouting": -sum(letter.isupper() for letter in response) / max(1, len(response)),
    }
    return {"total": sum(p[name] * part for name, part in parts.items()), "components": parts}
"""


def programs() -> dict[str, RewardProgram]:
    names = ("length", "varied", "on_topic", "lists", "shouting")
    return {
        f"p{turn}": RewardProgram(
            kind="code",
            code=CODE,
            params={"words": 60.0 + 20 * turn}
            | {name: 1.0 + (turn + place) % 3 for place, name in enumerate(names)},
        )
        for turn in range(6)
    }


def items(prompts: int) -> list[dict[str, Any]]:
    """Answers of 40 to 250 words, no two of a prompt alike."""
    said = list(dict.fromkeys(CODE.split()))[:16]
    found = []
    for prompt in range(prompts):
        for draw in range(DRAWS):
            count = 40 + (37 * prompt + 53 * draw) % 210
            text = " ".join(said[(place * (draw + 1) + prompt) % 16] for place in range(count))
            message = {"role": "user", "content": f"Tell me about the capital of Peru, {prompt}."}
            found.append(
                {"id": f"{prompt}-{draw}", "messages": [message], "text": text, "tokens": count}
            )
    return found


def scored(folder: Path, pool: list[dict[str, Any]], *, check: bool) -> dict[str, Any]:
    folder.mkdir()
    jobs.write_json(folder / jobs.JOB, jobs.to_json(ProgramJob(check=check)))
    rows = [{"id": name, "program": to_json(one)} for name, one in programs().items()]
    jobs.write_rows(folder / PROGRAMS, rows)
    jobs.write_rows(folder / PROGRAM_ITEMS, pool)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", jobs.MODULES["programs"], str(folder)], check=True)
    seconds = time.monotonic() - begun
    result = json.loads((folder / jobs.RESULT).read_text())
    assert result["valid"] == 6, list(jobs.read_rows(folder / PROGRAMS_CHECKED))
    assert result["scores"] == 6 * len(pool)
    calls = [row["milliseconds"] for row in jobs.read_rows(folder / PROGRAMS_CHECKED)]
    return {
        "answers_per_minute": round(60 * len(pool) / seconds),
        "seconds": round(seconds, 2),
        "call_ms": round(sum(calls) / len(calls), 3),
        "walls": result["walls"],
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="programs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer answers")
    asked = parser.parse_args(arguments)
    pool = items(FEW if asked.quick else PROMPTS)
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        ladder = scored(Path(name) / "ladder", pool, check=True)
        judge = scored(Path(name) / "judge", pool, check=False)
    found = ladder["answers_per_minute"]
    print(
        json.dumps(
            {
                "bench": "programs",
                "answers": len(pool),
                "ladder": ladder,
                "judge": judge,
                "ratio": contest.significant(found / GOAL),
                "of": "answers a minute that six programs climb their ladder on, over the goal",
                "goal": 1.0,
                "met": found >= GOAL,
                "machine": contest.machine(0),
            }
        )
    )
