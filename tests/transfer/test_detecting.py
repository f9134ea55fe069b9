"""A file's format is found out by its first lines, with reasons, and never by its name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from plumbline.transfer import formats
from plumbline.transfer.detecting import detect
from tests.comparisons import open_campaign
from tests.transfer.said import exported, say


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", sorted(formats.exporters()))
@pytest.mark.parametrize("layout", ["conversational", "standard"])
def test_what_we_wrote_is_recognised(name, layout, project, bob, tmp_path):
    campaign = open_campaign(project, comparisons=4)
    for one in campaign.comparisons.all():
        say(one, bob, [[1], [0]], mark=3)
    options = {"layout": layout} if "layout" in formats.exporter(name).TAKES else {}
    guess = detect(write(tmp_path / "x", *exported(project, name, **options)))
    assert guess.format == name
    # Two texts without a prompt are both HH-RLHF and TRL's implicit type, and read alike.
    assert guess.sure == (name != "hh_rlhf"), guess.reasons


def test_the_readings_of_a_text_pair_are_named(tmp_path):
    start = "\n\nHuman: hi\n\nAssistant: "
    guess = detect(write(tmp_path / "x", {"chosen": f"{start}a", "rejected": f"{start}b"}))
    assert guess.format == "hh_rlhf"
    assert not guess.sure
    assert guess.reasons == [
        "HH-RLHF reads its first line.",
        "So does TRL preference, implicit prompt, which knows the same fields.",
    ]


def test_prompts_with_answers_are_not_taken_for_prompts_alone(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3
    guess = detect(write(tmp_path / "x", *rows))
    assert (guess.format, guess.sure) == ("trl_preference", True)
    assert "Prompts would read it too, but drop some of its fields." in guess.reasons
    assert detect(write(tmp_path / "y", {"prompt": "a"})).format == "prompts_jsonl"


def test_some_bad_rows_are_no_doubt_and_many_are(tmp_path):
    good, bad = {"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": 1}
    assert detect(write(tmp_path / "x", *[good] * 9, bad)).sure
    guess = detect(write(tmp_path / "y", *[good] * 3, bad, bad))
    assert (guess.format, guess.sure) == ("trl_preference", False)
    assert guess.reasons[-1].startswith("The others do not fit; in row 4 chosen: must be")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "It is empty."),
        (b"\n \n", "It is empty."),
        (gzip.compress(b""), "It has no lines."),
        (b'[{"prompt": "a"}]', "It is one JSON array."),
        (b"PAR1\x15\x04", "It is a Parquet file."),
        (b"PK\x03\x04\x14", "It is a zip archive."),
        (b"prompt,chosen\na,b\n", "Its first lines are not JSON objects."),
        (b'{"a": 1, "b": 2}\n', "No format reads its first lines, which have the fields a, b."),
        (b'{"chosen": 1}\n', "comes nearest; in row 1 chosen: must be a string"),
        (b"\x1f\x8bnot gzip", "Line 1: the compressed file is damaged"),
        (b"[" * 1_000_000, "It is one JSON array."),
        (b'{"a":' * 100_000, "Line 1: not usable: nested too deeply."),
    ],
)
def test_what_is_not_ours_is_told_why(data, sentence, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(data)
    guess = detect(path)
    assert guess.format == ""
    assert sentence in " ".join(guess.reasons)


def test_real_files_are_recognised(shared_data):
    found = detect(shared_data / "hh_rlhf" / "harmless_base.jsonl.gz")
    assert found.format == "hh_rlhf"
    found = detect(shared_data / "alpaca_eval" / "annotations.jsonl.gz")
    assert (found.format, found.sure) == ("alpaca_eval", True)
