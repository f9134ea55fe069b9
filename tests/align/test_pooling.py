"""Several judges' verdicts as one label: surer judges count more, none decides alone, and planted
noise is outvoted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align import jobs, pooling
from align.factor_jobs import POOLED, PoolJob
from tests.align.conftest import do

chances = st.dictionaries(
    st.sampled_from("abcdef"), st.floats(0, 1, allow_subnormal=False), min_size=2
)


@given(chances)
@settings(max_examples=200, deadline=None)
def test_the_other_order_gives_the_other_label(said):
    one = pooling.pooled(said, 0.2)
    other = pooling.pooled({name: 1 - p for name, p in said.items()}, 0.2)
    assert one.p == pytest.approx(1 - other.p, abs=1e-9)
    assert one.strength == pytest.approx(-other.strength, abs=1e-9)
    assert abs(one.strength) <= pooling.WIDEST + 1e-9


def test_labels_by_hand():
    agree = pooling.pooled({"a": 0.8, "b": 0.8}, 0.2)
    assert (agree.p, agree.contradicted) == (pytest.approx(0.8), ())
    cancel = pooling.pooled({"a": 0.8, "b": 0.2}, 0.2)
    assert cancel.p == pytest.approx(0.5)
    assert cancel.contradicted == ("a", "b")  # each by the other
    # One that is sure outvotes two that hardly lean; the label gives them a fifth.
    split = pooling.pooled({"a": 1.0, "b": 0.45, "c": 0.45}, 0.2)
    strength = (3.0 - 2 * 0.2006707) / 3
    p = 1 / (1 + 2.718281828**-strength)
    assert split.strength == pytest.approx(strength, abs=1e-5)
    assert split.p == pytest.approx(0.8 * p + 0.2 * (1 - p), abs=1e-5)
    assert split.contradicted == ("a", "b", "c")  # a by the two others, they by a
    assert pooling.pooled({"a": 0.9, "b": 0.2, "c": 0.2}, 0.2).contradicted[0] == "a"
    assert pooling.pooled({"a": 0.9, "b": None}, 0.2) is None


def test_judges_with_noise_of_their_own_are_right_together_more_often_than_the_best_alone(
    tmp_path: Path, rundir: Callable[..., Path]
) -> None:
    draw, truth, rows = random.Random(5), [], []
    noise = {"a": 1.0, "b": 1.2, "c": 1.4, "d": 1.6}
    for n in range(600):
        gap = draw.gauss(0, 1)
        truth.append(gap > 0)
        said = {
            name: pooling.math.exp(x) / (1 + pooling.math.exp(x))
            for name, sd in noise.items()
            for x in [(gap + draw.gauss(0, sd)) / (1 + sd**2)]
        }
        rows.append({"id": str(n), "said": said})
    folder = rundir(PoolJob(), members=rows)
    assert do(pooling.work, folder)["pooled"] == 600
    found = list(jobs.read_rows(folder / POOLED))

    def share(right: list[bool]) -> float:
        return sum(right) / len(right)

    alone = {
        name: share([(row["said"][name] > 0.5) == t for row, t in zip(rows, truth, strict=True)])
        for name in noise
    }
    together = share([(row["p"] > 0.5) == t for row, t in zip(found, truth, strict=True)])
    assert together > max(alone.values()) + 0.02
    # Whose word the others are against is wrong far more often than not.
    against = [
        (row["said"][name] > 0.5) == t
        for row, one, t in zip(rows, found, truth, strict=True)
        for name in one["contradicted"]
    ]
    assert share(against) < 0.45
    strong = [
        (one["p"] > 0.5) == t
        for one, t in zip(found, truth, strict=True)
        if abs(one["strength"]) > 0.6
    ]
    assert share(strong) > 0.95


@pytest.mark.parametrize(
    ("job", "said"), [(PoolJob(smooth=0.7), {"a": 0.5}), (PoolJob(), {"a": 2})]
)
def test_what_is_no_probability_is_refused(rundir: Callable[..., Path], job, said) -> None:
    with pytest.raises(SystemExit):
        do(pooling.work, rundir(job, members=[{"id": "1", "said": said}]))
