"""Knobs refuse what cannot work, in a sentence that names the knob and the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from align.algorithms.dpo import DPO
from align.knobs import Declared, knob


@dataclass(frozen=True, kw_only=True)
class Sample(Declared):
    title: ClassVar[str] = "Sample"

    size: float = knob(1.0, "A size.", above=0, at_most=10)
    share: float = knob(0.5, "A share.", at_least=0, below=1)
    count: int = knob(3, "A count.", at_least=1)
    way: str = knob("up", "A way.", choices=("up", "down"))
    on: bool = knob(True, "A switch.")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": 0}, "size must be above 0, not 0"),
        ({"size": 11}, "size must be at most 10, not 11"),
        ({"share": -0.5}, "share must be at least 0, not -0.5"),
        ({"share": 1}, "share must be below 1, not 1"),
        ({"share": float("nan")}, "share must be a finite float, not nan"),
        ({"size": "inf"}, "size must be a finite float, not 'inf'"),
        ({"size": "big"}, "size must be a number, not 'big'"),
        ({"count": 2.5}, "count must be a finite int, not 2.5"),
        ({"count": None}, "count must be a whole number, not None"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"way": "left"}, "way must be one of up, down"),
        ({"on": 1}, "on must be true or false"),
        ({"siez": 1}, "Sample has no setting called siez"),
    ],
)
def test_a_bad_value_gets_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Sample.build(values)


def test_text_from_a_form_becomes_numbers() -> None:
    built = Sample.build({"size": "2.5", "count": "4"})
    assert (built.size, built.count) == (2.5, 4)


def test_a_knob_knows_its_help_type_and_default() -> None:
    beta = DPO.knobs()[0]
    assert (beta.name, beta.type, beta.default, beta.above) == ("beta", float, 0.1, 0)
    assert beta.help
