"""The demo: a tiny base model, its prompts, and simulated raters with known tastes.

`BASE` is the built model, shipped so that a first start needs no training;
`python -m align.demo.build_base OUT` makes it again.
"""

from pathlib import Path

BASE = Path(__file__).parent / "base"
