"""Files that were bent in every way come in whole or not at all; no name of a file is a path."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plumbline.collect.models import Completion, Prompt
from plumbline.transfer import formats, uploads
from plumbline.transfer.models import Import, Upload
from plumbline.transfer.publish import Source, publish
from plumbline.transfer.staging import BadFile, stage

SEED = 20261123
ROWS = 6
GOOD = {
    "trl_preference": lambda n: {"prompt": f"Why {n}?", "chosen": "So.", "rejected": "No."},
    "prompts_jsonl": lambda n: {"prompt": f"Why {n}?"},
    "hh_rlhf": lambda n: {
        "chosen": f"\n\nHuman: Why {n}?\n\nAssistant: So.",
        "rejected": f"\n\nHuman: Why {n}?\n\nAssistant: No.",
    },
}
ODD = [
    *(None, True, 0, -1, 1e308, 1 << 70, "", "\0", "\ud800", "=cmd|' /C calc'!A0", [], {}, [[]]),
    *({"a": {"b": {}}}, "x" * 10_000, "../../etc/passwd", "<script>alert(1)</script>", [None]),
]


def plain(format: str) -> bytes:
    return b"".join(json.dumps(GOOD[format](n)).encode() + b"\n" for n in range(ROWS))


def bend(data: bytes, draw: random.Random) -> bytes:
    """One way in which a file goes bad."""
    place = draw.randrange(len(data))
    lines = data.splitlines(keepends=True)
    line = draw.randrange(len(lines))
    match draw.randrange(12):
        case 0:
            return data[:place]
        case 1:
            return (
                data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]
            )
        case 2:
            return data[:place] + draw.randbytes(draw.randrange(1, 9)) + data[place:]
        case 3:
            return data[:place] + b"\0" + data[place:]
        case 4:
            return b"".join([*lines, lines[line]])
        case 5:
            depth = draw.choice([10, 1_000, 50_000])
            return data + b'{"prompt": ' + b"[" * depth + b"]" * depth + b"}\n"
        case 6:
            return draw.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PK\x03\x04"]) + data
        case 7:
            row = json.loads(lines[line])
            row[draw.choice([*row, "extra"])] = draw.choice(ODD)
            lines[line] = json.dumps(row).encode() + b"\n"
            return b"".join(lines)
        case 8:
            row = json.loads(lines[line])
            del row[draw.choice(list(row))]
            lines[line] = json.dumps(row).encode() + b"\n"
            return b"".join(lines)
        case 9:
            packed = gzip.compress(data)
            return packed[: draw.randrange(1, len(packed) + 1)]
        case 10:
            return data.replace(b"\n", draw.choice([b"", b"\r", b"\r\n", b"\n\n", b"\xe2\x80\xa8"]))
        case _:
            return data.decode().encode(draw.choice(["utf-16", "utf-32", "utf-7", "cp500"]))


def bent(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    draw = random.Random(seed)
    for format, _ in zip(itertools.cycle(GOOD), range(count)):  # noqa: B905
        data = plain(format)
        for _ in range(draw.choice([1, 1, 2, 4])):
            with suppress(ValueError, AttributeError, TypeError, LookupError):  # no JSON any more
                data = bend(data, draw) or b"\n"
        yield format, data


def counts() -> tuple[int, ...]:
    return tuple(model.objects.count() for model in (Prompt, Completion, Import))


def is_named(error: str) -> bool:
    return error.startswith("row ")


def bring(project, count: int, seed: int, path: Path) -> Counter[str]:
    """Import each; what became of them."""
    ends: Counter[str] = Counter()
    for number, (format, data) in enumerate(bent(count, seed)):
        path.write_bytes(data)
        before = counts()
        try:
            staged = stage(path, formats.find(format), most=1 << 20)
        except BadFile as refused:
            ends["named" if all(map(is_named, refused.errors)) else "unnamed"] += 1
            continue
        with staged:
            wanted = len(staged)
            source = Source(format, "x.jsonl", 0.0)
            publish(staged, project, f"set {number}", source, formats.find(format))
        made = counts()[0] - before[0]
        assert made == wanted if format == "prompts_jsonl" else 0 < made <= wanted
        ends["taken"] += 1
    assert Import.objects.count() == ends["taken"], "nothing of a refused file is kept"
    return ends


@pytest.mark.django_db
@pytest.mark.sqlite
def test_two_thousand_bent_files_come_in_whole_or_not_at_all(project, tmp_path):
    ends = bring(project, 2_000, SEED, tmp_path / "x.jsonl")
    assert ends.total() == 2_000
    assert ends["named"] > 1_000
    assert ends["unnamed"] == 0
    assert ends["taken"] > 100, "some ways to bend a file leave it good"


@pytest.mark.nightly
@pytest.mark.django_db
def test_fifty_thousand_bent_files_come_in_whole_or_not_at_all(project, tmp_path):
    ends = bring(project, 50_000, SEED + 1, tmp_path / "x.jsonl")
    assert ends.total() == 50_000


def names() -> list[str]:
    """Names of files that are paths to somebody: climbing, absolute, encoded, of other systems."""
    ups = [
        "../",
        "..\\",
        "%2e%2e/",
        "%252e%252e%252f",
        "..%2f",
        "..%5c",
        "....//",
        "..;/",
        "\uff0e\uff0e/",
    ]
    ups += [
        "..\u2215",
        "%c0%ae%c0%ae/",
        "..\0/",
        "~/",
        "./",
        "//",
        "/",
        "\\\\host\\share\\",
        "C:\\",
    ]
    ends = [
        "etc/passwd",
        "secret_key",
        "db.sqlite3",
        "x.html",
        "x.svg",
        "x.jsonl#",
        "x?y",
        "x\0.jsonl",
    ]
    ends += ["CON", "x.jsonl\r\nSet-Cookie: a=b", "x" * 300, ".", "..", "", " ", "\u202egnp.exe"]
    return [up * times + end for up in ups for times in range(1, 9) for end in ends]


def test_no_name_of_a_file_is_a_path(project, alice, settings, tmp_path):
    settings.UPLOADS_DIR = tmp_path / "uploads"
    hostile = names()
    assert len(hostile) >= 2_000
    for name in hostile:
        upload = Upload(project=project, author=alice, filename=uploads._plain(name), size=0)
        assert upload.path.parent == settings.UPLOADS_DIR
        assert upload.path.resolve().parent == settings.UPLOADS_DIR.resolve()
        assert upload.path.name.startswith(str(upload.pk))
        assert "\0" not in upload.filename
        assert "\n" not in upload.filename
        assert 0 < len(upload.filename) <= 255


def test_what_is_given_lies_under_its_own_number_alone(project, alice, settings, tmp_path):
    settings.UPLOADS_DIR = tmp_path / "uploads"
    for name in ("../../../etc/passwd", "..\\..\\x.svg", "/x.html", "~/.ssh/authorized_keys"):
        upload = uploads.receive(project, alice, name, [b"{}"], set_name="s", heldout=0.0)
        assert upload.path.stat().st_mode & 0o777 == 0o600
        upload.delete()
    found = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {tmp_path / "uploads"}


def test_nothing_is_written_where_a_link_already_is(project, alice, settings, tmp_path):
    """Somebody who can write in the folder sends a file elsewhere: it is not followed."""
    settings.UPLOADS_DIR = tmp_path
    path = tmp_path / "1.upload"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        uploads._private(path)
    assert not (tmp_path / "elsewhere").exists()
