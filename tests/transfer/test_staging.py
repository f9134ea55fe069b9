"""A file is read once, in bounded memory, and any harm to it is told by row or is harmless."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from plumbline.transfer import lines
from plumbline.transfer.formats import find
from plumbline.transfer.staging import BadFile, in_heldout, stage

PROMPTS = find("prompts_jsonl")


def prompts(*texts: str) -> bytes:
    return b"".join(json.dumps({"prompt": text}).encode() + b"\n" for text in texts)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def texts(path: Path, **options: int) -> list[str]:
    with stage(path, PROMPTS, **options) as staged:
        return [row.messages[0]["content"] for chunk in staged.chunks(2) for _, row in chunk]


def test_plain_and_gzipped_files_read_alike(tmp_path: Path) -> None:
    data = prompts("a", "b", "c", "a") + b"\n"
    assert texts(write(tmp_path / "x.jsonl", data)) == ["a", "b", "c"]
    # By its content, not by its name.
    assert texts(write(tmp_path / "y.jsonl", gzip.compress(data))) == ["a", "b", "c"]


def test_equal_rows_are_one_and_are_counted(tmp_path: Path) -> None:
    with stage(write(tmp_path / "x", prompts("a", "b", "a")), PROMPTS) as staged:
        assert (staged.rows, staged.duplicates, len(staged)) == (3, 1, 2)


def test_a_limit_reads_no_further(tmp_path: Path) -> None:
    data = prompts("a", "b") + b"not json\n"
    assert texts(write(tmp_path / "x", data), limit=2) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "row 2: not JSON: Expecting property name"),
        (b'{"prompt": "\xff"}', "row 2: byte 13 of the line is not UTF-8"),
        (b'{"prompt": "a\\u0000"}', "row 2: message 1 holds a NUL"),
        (b'{"prompt": "\\udc00"}', "row 2: message 1 holds half of a surrogate"),
        (b"[1]", "row 2: the line is JSON, but not an object"),
        (b'{"prompt": NaN}', "row 2: not JSON: NaN is no number"),
        (b'{"prompt": ' + b"[" * 100_000, "row 2: not usable: nested too deeply"),
        (b'{"prompt": ' + b"9" * 10_000 + b"}", "row 2: not JSON"),
        (b'{"prompt": "' + b"a" * (5 << 20) + b'"}', "row 2: the line is longer than 4 MiB"),
    ],
    ids=["cut", "utf8", "nul", "surrogate", "array", "nan", "deep", "digits", "long"],
)
def test_a_bad_row_is_named_by_its_number(tmp_path: Path, line: bytes, sentence: str) -> None:
    path = write(tmp_path / "x", prompts("a") + line + b"\n" + prompts("c"))
    with pytest.raises(BadFile, match="1 bad rows; nothing was imported") as caught:
        stage(path, PROMPTS)
    assert caught.value.errors[0].startswith(sentence)


def test_twenty_errors_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        stage(write(tmp_path / "x", b"{\n" * 50), PROMPTS)
    assert (len(caught.value.errors), caught.value.total) == (20, 50)
    assert str(caught.value).endswith("... and 30 more")


def test_a_file_that_breaks_off_is_refused(tmp_path: Path) -> None:
    data = gzip.compress(prompts(*(str(i) for i in range(2000))))
    with pytest.raises(BadFile, match="damaged from here on"):
        stage(write(tmp_path / "x", data[: len(data) // 2]), PROMPTS)
    with pytest.raises(BadFile, match="the file has no rows"):
        stage(write(tmp_path / "y", b"\n"), PROMPTS)


def test_a_gzip_bomb_takes_no_memory(tmp_path: Path) -> None:
    bomb = write(tmp_path / "bomb", gzip.compress(b"a" * (64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="longer than"):
            stage(bomb, PROMPTS)
        assert tracemalloc.get_traced_memory()[1] < 4 * lines.LONGEST_LINE
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (500, 5000):
        path = write(tmp_path / "x", prompts(*(f"{i} " + "x" * 500 for i in range(rows))))
        tracemalloc.start()
        with stage(path, PROMPTS) as staged:
            assert sum(len(chunk) for chunk in staged.chunks(100)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_harmed_files_give_errors_or_rows_and_nothing_else(tmp_path: Path) -> None:
    """Random cuts, flips and insertions: no exception but BadFile, no row a database refuses."""
    dice = random.Random(0)
    whole = prompts("What is tea?", "Name a sea — any.", "x" * 50)
    refused: list[BadFile] = []
    for trial in range(400):
        data = bytearray(whole if trial % 2 else gzip.compress(whole))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(data))
            what = dice.choice(["flip", "cut", "insert", "double"])
            if what == "flip":
                data[place] ^= 1 << dice.randrange(8)
            elif what == "cut":
                del data[place : place + dice.randint(1, 40)]
            elif what == "insert":
                data[place:place] = dice.randbytes(dice.randint(1, 4))
            else:
                data += data[place:]
            data = data or bytearray(b" ")
        try:
            for text in texts(write(tmp_path / "x", bytes(data))):
                assert text.strip()
                assert "\0" not in text.encode().decode()
        except BadFile as error:
            refused.append(error)
    assert len(refused) > 200
    assert all(error.errors[0].startswith("row ") for error in refused)


def test_the_split_is_by_prompt_and_close_to_its_share() -> None:
    import hashlib

    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(4000)]
    share = sum(in_heldout(one, 0.1) for one in digests) / len(digests)
    assert 0.085 < share < 0.115
    assert not any(in_heldout(one, 0.0) for one in digests)
    # A larger share keeps what a smaller one held out.
    assert all(in_heldout(one, 0.2) for one in digests if in_heldout(one, 0.1))
