"""Every place in an operator's command has an errand that comes there, and a restore is judged by
what it says."""

from __future__ import annotations

import json

from tests.chaos import errands
from tests.chaos.scene import failpoints


def printed(*findings: tuple[str, str]) -> str:
    found = [{"check": check, "sentence": sentence} for check, sentence in findings]
    return json.dumps({"verify": {"findings": found}})


def test_every_place_in_an_operators_command_has_its_errand():
    places = [name for name in failpoints() if name.startswith(errands.PLACES)]
    assert len(places) >= 7
    assert {name.partition(".")[0] for name in places} == set(errands.ACTS)


def test_a_restore_may_say_that_nobody_works_and_no_more():
    lease = ("jobs", "The lease of a job ended, and nobody took it.")
    laid = ("weights", "/home/weights/mind-1 has no manifest.json: it was never committed.")
    trained = ("weights", "/home/runs/17/weights/a.safetensors was altered.")
    assert errands._well(0, "")
    assert errands._well(1, printed(lease, laid))
    assert not errands._well(1, printed(lease, laid, trained))
    assert not errands._well(1, "")
    assert not errands._well(-9, "")
