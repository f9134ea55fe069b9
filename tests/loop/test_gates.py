"""A candidate passes its gate only with evidence, and the evidence reads as sentences."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from plumbline.loop import gates
from plumbline.loop.gates import Check, checks, record, verdict
from plumbline.loop.winrate import WinRate

GOOD: dict[str, Any] = {
    "against_current": WinRate(70, 10, 20),
    "gate_win_rate": 0.5,
    "kl": 4.2,
    "gate_kl": 10.0,
    "loss": 0.41,
    "accuracy": 0.72,
    "tokens": 30.0,
    "current_tokens": 24.0,
}


def failed(**changes: Any) -> list[str]:
    return [check.name for check in checks(**{**GOOD, **changes}) if not check.passed]


def test_a_better_candidate_passes() -> None:
    found = checks(**GOOD)
    assert [check.name for check in found] == [
        "win rate",
        "kl",
        "finite loss",
        "trained accuracy",
        "length",
    ]
    assert verdict(found)
    assert found[0].evidence == (
        "Win rate against current 75.0% (95% interval 66.2% to 81.9%, 100 comparisons); "
        "the interval must lie above 50.0%."
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"against_current": WinRate(54, 0, 46)}, "win rate"),  # ahead, but not surely
        ({"against_current": WinRate(0, 0, 0)}, "win rate"),
        ({"gate_win_rate": 0.7}, "win rate"),
        ({"kl": 10.1}, "kl"),
        ({"kl": None}, "kl"),
        ({"kl": math.nan}, "kl"),
        ({"kl": math.inf}, "kl"),
        ({"loss": math.nan}, "finite loss"),
        ({"loss": math.inf}, "finite loss"),
        ({"loss": None}, "finite loss"),
    ],
)
def test_each_shortcoming_fails_its_own_check(changes: dict[str, Any], name: str) -> None:
    assert failed(**changes) == [name]
    assert not verdict(checks(**{**GOOD, **changes}))


def test_a_kl_at_the_limit_passes() -> None:
    assert failed(kl=10.0) == []
    assert failed(kl=-0.01) == []


def test_length_informs_and_does_not_block() -> None:
    found = checks(**{**GOOD, "tokens": 100.0})
    assert [check.name for check in found if not check.passed] == ["length"]
    assert verdict(found)
    assert not gates.length_ratio(3.0, 0.0).passed


def test_training_accuracy_informs_but_does_not_decide() -> None:
    found = checks(**{**GOOD, "accuracy": 0.4})
    assert [check.name for check in found if not check.passed] == ["trained accuracy"]
    assert verdict(found)


def test_an_algorithm_without_pairs_has_no_accuracy_to_show() -> None:
    names = [check.name for check in checks(**{**GOOD, "accuracy": None})]
    assert "trained accuracy" not in names


def test_no_checks_is_no_verdict() -> None:
    assert not verdict([])
    assert not verdict([Check("a", False, "No.")])


def test_the_record_is_plain_json() -> None:
    kept = record(checks(**{**GOOD, "loss": math.nan, "kl": math.inf}))
    assert kept["passed"] is False
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert record(checks(**GOOD))["passed"] is True
