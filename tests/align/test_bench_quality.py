"""The benches of reward quality and over-optimisation: what they read, and when they say yes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import overopt, reward_quality
from tests.bench.overopt import Answers, Size
from tests.bench.quality import page, sources


def row(source: str, side: str, high: float, ece: float, labels: int = 10) -> dict[str, Any]:
    gap = {"value": 0.0, "low": -1.0, "high": high, "groups": 3}
    return {"source": source, "side": side, "labels": labels, "ece": ece, "against_trl": gap}


def test_met_needs_no_count_surely_below_trl_and_better_calibration() -> None:
    theirs = [row(source, "TRL", 0.0, 0.2) for source in "ab"]
    good = [row(source, "bradley_terry", 0.1, 0.1) for source in "ab"]
    assert reward_quality.met([*theirs, *good])
    below = row("a", "bradley_terry", -0.01, 0.0, labels=5)
    assert not reward_quality.met([*theirs, *good, below])
    vain = [row(source, "bradley_terry", 0.1, 0.3) for source in "ab"]
    assert not reward_quality.met([*theirs, *vain])


def test_two_transcripts_are_the_turns_they_share_and_two_answers(tmp_path: Path) -> None:
    start = "\n\nHuman: Hello\n\nAssistant: Hi\n\nHuman: A joke?\n\nAssistant: "
    rows = [
        {"chosen": start + "Yes.", "rejected": start + "No."},
        {"chosen": start + "Same.", "rejected": start + "Same."},
    ]
    path = tmp_path / "hh.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(one) + "\n" for one in rows)
    ((messages, chosen, rejected),) = sources.transcripts(path)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert (chosen, rejected) == ("Yes.", "No.")


def test_an_ensemble_that_sees_through_its_members_flaws_is_found_to_be_better() -> None:
    """Each member overrates one answer of its own; the worst case of all is the truth."""
    found = {}
    for prompt in range(20):
        gold = [float(k) for k in range(8)]
        members = [
            [value + 20.0 * (k == who) for who in range(overopt.MEMBERS)]
            for k, value in enumerate(gold)
        ]
        found[str(prompt)] = Answers([str(k) for k in range(8)], gold, members)
    result = overopt.report(found, Size(1, 20, 8))
    assert result["met"] == 1
    last = {one["reading"]: one for one in result["rows"] if one["n"] == 8}
    assert last["worst case"]["gold"]["value"] == pytest.approx(3.5)
    assert last["single"]["gold"]["value"] == pytest.approx(2 - 3.5)
    assert "| worst case |" in page.overopt_tables(result)
    assert page.overopt_picture(result).startswith("<svg")


def test_scores_of_members_are_put_on_one_scale() -> None:
    found = overopt.standard({"a": 1.0, "b": 2.0, "c": 3.0})
    assert found == {"a": -1.0, "b": 0.0, "c": 1.0}
