"""AlpacaEval annotations: a model's answer (`output_2`) judged against a baseline's (`output_1`).

`preference` is 1 + P(output_2 is better) by the judge, so 1.0 is all for output_1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from plumbline.transfer.rows import Answer, ImportedRow, text_field, user

SOURCE = "https://github.com/tatsu-lab/alpaca_eval"
LICENCE = "Apache-2.0"
TITLE = "AlpacaEval annotations"
FIELDS = (
    "index",
    "instruction",
    "output_1",
    "generator_1",
    "output_2",
    "generator_2",
    "preference",
)


def parse(record: Mapping[str, Any]) -> ImportedRow:
    preference = record.get("preference")
    if not isinstance(preference, int | float) or isinstance(preference, bool):
        raise ValueError("'preference' must be a number from 1 to 2")
    if not math.isfinite(preference) or not 1 <= preference <= 2:
        raise ValueError(f"'preference' must be from 1 to 2, not {preference}")
    writer = text_field(record, "generator_2")
    return ImportedRow(
        messages=user(text_field(record, "instruction")),
        answers=(
            Answer(text_field(record, "output_1"), text_field(record, "generator_1")),
            Answer(text_field(record, "output_2"), writer),
        ),
        preference=2 - preference,
        graded=True,
        key=f"{record.get('index', '')}/{writer}",
    )
