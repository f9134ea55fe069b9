"""Weights of factors by people's votes: found again, never on the wrong side, and told with how
sure they are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align import fitting, jobs, measuring, monotone
from align.factor_jobs import COMPARED, FACTORS, FactorJob, FitJob
from align.monotone import Compared
from tests.align.conftest import do, response

Rundir = Callable[..., Path]
TRUE = {"words": -1.5, "structure": 2.5, "noise": 0.0}


def compared(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Votes by a hidden taste that is logistic in two of three factors."""
    draw, found = random.Random(seed), []
    for n in range(count):
        first, second = ({name: draw.gauss(0, 1) for name in TRUE} for _ in range(2))
        ahead = sum(2 * w * (first[name] - second[name]) for name, w in TRUE.items())
        p = float(draw.random() < monotone.sigmoid(ahead))
        found.append({"prompt": str(n), "first": first, "second": second, "p": p, "weight": 1.0})
    return found


def rows(count: int, seed: int = 0) -> list[Compared]:
    return [
        Compared(row["first"], row["second"], row["p"], 1.0, row["prompt"])
        for row in compared(count, seed)
    ]


def test_two_hundred_votes_foretell_others_and_the_job_says_how_well(rundir: Rundir) -> None:
    signs = {"words": 0, "structure": 1, "noise": 1}
    folder = rundir(FitJob(signs=signs, resamples=40), compared=compared(200))
    assert (folder / COMPARED).is_file()
    found = do(fitting.work, folder)
    assert found["fitted_on"] + found["heldout"] == 200
    assert found["heldout"] > 25
    assert found["accuracy"] > 0.85
    low, high = found["intervals"]["structure"]
    assert 0 < low < found["weights"]["structure"] < high
    assert found["weights"]["words"] < 0
    assert found["weights"]["noise"] >= 0
    assert found["intervals"]["noise"][0] == 0  # it may well be nothing
    fresh = [
        (monotone.score(found["weights"], found["scales"], row.first)
         > monotone.score(found["weights"], found["scales"], row.second)) == (row.p > 0.5)
        for row in rows(400, seed=9)
    ]  # fmt: skip
    assert sum(fresh) / len(fresh) > 0.85


def test_more_of_a_factor_that_is_declared_good_never_costs_anything() -> None:
    fitted = monotone.fit(rows(120), {"words": 1, "structure": 1, "noise": 1})
    assert fitted.weights["words"] == 0  # the votes say the contrary of what was declared
    z = {"words": 0.3, "structure": -0.2, "noise": 1.0}
    before = monotone.score(fitted.weights, fitted.scales, z)
    for name in TRUE:
        for more in (0.1, 1.0, 10.0):
            raised = {**z, name: z[name] + more}
            assert monotone.score(fitted.weights, fitted.scales, raised) >= before


numbers = st.floats(-5, 5, allow_subnormal=False)


@given(
    st.lists(
        st.tuples(numbers, numbers, st.floats(0, 1, allow_subnormal=False)), min_size=2, max_size=12
    )
)
@settings(max_examples=60, deadline=None)
def test_naming_the_answers_in_the_other_order_gives_the_same_weights(told: Any) -> None:
    one = [Compared({"x": a}, {"x": b}, p) for a, b, p in told]
    other = [Compared({"x": b}, {"x": a}, 1 - p) for a, b, p in told]
    ours, theirs = (monotone.fit(some, {"x": 0}).weights["x"] for some in (one, other))
    assert ours == pytest.approx(theirs, abs=1e-6)
    kept = monotone.fit(one, {"x": -1}).weights["x"]
    assert kept <= 0


def test_what_cannot_be_fitted_is_refused_in_a_sentence(rundir: Rundir, capsys: Any) -> None:
    with pytest.raises(ValueError, match="no votes"):
        monotone.fit([], {"x": 1})
    with pytest.raises(ValueError, match="no factor"):
        monotone.fit([Compared({}, {}, 1.0)], {})
    with pytest.raises(ValueError, match="-1, 0 or 1, not 2"):
        monotone.fit([Compared({"x": 1.0}, {"x": 0.0}, 1.0)], {"x": 2})
    folder = rundir(FitJob(signs={"absent": 1}), compared=compared(20))
    with pytest.raises(SystemExit):
        do(fitting.work, folder)
    assert "has no absent" in capsys.readouterr().err


def test_a_job_measures_every_answer(rundir: Rundir) -> None:
    items = [
        {"id": text, "messages": [{"role": "user", "content": "Why?"}], "response": response(text)}
        for text in ("one two three", "- a\n- b")
    ]
    folder = rundir(FactorJob(), items=items)
    assert do(measuring.work, folder)["answers"] == 2
    found = {row["id"]: row["values"] for row in jobs.read_rows(folder / FACTORS)}
    assert found["one two three"]["words"] == 3
    assert found["- a\n- b"]["list_items"] == 2
    assert json.loads((folder / jobs.JOB).read_text())["kind"] == "factors"
