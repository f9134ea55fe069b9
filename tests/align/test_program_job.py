"""A programs job, as the fleet starts it: what goes in, what comes out, and what stops it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from align import jobs
from align.judge_jobs import (
    PROGRAM_ITEMS,
    PROGRAM_SCORES,
    PROGRAMS,
    PROGRAMS_CHECKED,
    UNASKED,
    Asked,
    ProgramJob,
)
from align.programs import Criterion, RewardProgram, to_json
from tests.align.hostile import inside
from tests.scripted import Scripted

CRITERIA = tuple(Criterion(id=name, question=f"Is it {name}?") for name in ("kind", "good", "new"))
GOOD = RewardProgram(
    kind="code",
    code=inside(
        "return {'total': min(len(response), 900) * meta['params']['a'] + meta['tokens'] / 1e3 +"
        " meta['turns'] + len(prompt) / 1e6, 'components': {'length': len(response)}}"
    ),
    params={"a": 0.01},
)
HANGING = RewardProgram(kind="code", code=inside("while True:\n    pass"))
CLOCK = RewardProgram(kind="code", code=inside("import time\nreturn time.time()"))
BLIND = RewardProgram(kind="code", code=inside("return {'total': 1.0, 'components': {}}"))
HYBRID = RewardProgram(
    code=inside("return {'total': judge['kind'] + len(response) / 1e6, 'components': {}}"),
    rubric=CRITERIA,
)
RUBRIC = RewardProgram(kind="rubric", rubric=CRITERIA)
ITEMS = [
    {
        "id": f"{prompt}-{place}",
        "messages": [{"role": "user", "content": f"Question {prompt}"}],
        "text": "word " * (prompt + place),
        "tokens": prompt + place,
    }
    for prompt in range(4)
    for place in range(3)
]


@pytest.fixture(autouse=True)
def bubble():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")


def written(folder, programs, items=ITEMS, **fields):
    folder.mkdir(exist_ok=True)
    jobs.write_json(folder / jobs.JOB, jobs.to_json(ProgramJob(**fields)))
    rows = [{"id": name, "program": to_json(one)} for name, one in programs.items()]
    jobs.write_rows(folder / PROGRAMS, rows)
    jobs.write_rows(folder / PROGRAM_ITEMS, items)
    return folder


def started(folder, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", jobs.MODULES["programs"], str(folder)],
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        text=True,
    )


def done(folder, **environment):
    """(exit status, result or None, what it said on stderr)."""
    process = started(folder, **environment)
    _, errors = process.communicate(timeout=200)
    path = folder / jobs.RESULT
    return process.returncode, json.loads(path.read_text()) if path.is_file() else None, errors


def checked(folder):
    return {row["program"]: row for row in jobs.read_rows(folder / PROGRAMS_CHECKED)}


def scores(folder):
    return {(row["program"], row["item"]): row for row in jobs.read_rows(folder / PROGRAM_SCORES)}


def test_a_bad_program_is_an_invalid_row_and_the_others_are_scored(tmp_path):
    programs = {"good": GOOD, "hanging": HANGING, "clock": CLOCK, "blind": BLIND}
    folder = written(tmp_path / "run", programs, seconds=0.5)
    status, result, errors = done(folder)
    assert status == 0, errors
    assert (result["programs"], result["valid"], result["items"]) == (4, 1, 12)
    assert (result["walls"], result["warnings"]) == ("bubblewrap", [])
    found = checked(folder)
    assert {name: row["rung"] for name, row in found.items()} == {
        "good": "",
        "hanging": "smoke",
        "clock": "static",
        "blind": "pool",
    }
    assert found["hanging"]["problems"] == ["The program computed for longer than 0.5 s."]
    assert found["good"]["milliseconds"] > 0
    rows = scores(folder)
    assert len(rows) == 4 * 12
    one = rows["good", "3-2"]
    assert one["total"] == pytest.approx(25 * 0.01 + 0.005 + 1 + 1e-5)
    assert (one["components"], one["error"], one["judge"]) == ({"length": 25.0}, "", {})
    assert rows["hanging", "0-0"]["total"] is None
    assert rows["hanging", "0-0"]["error"] == found["hanging"]["problems"][0]


def test_an_order_of_items_and_other_programs_change_no_score(tmp_path):
    done(written(tmp_path / "one", {"good": GOOD, "hanging": HANGING}, seconds=0.5))
    done(written(tmp_path / "two", {"good": GOOD}, ITEMS[::-1], check=False))
    one, two = scores(tmp_path / "one"), scores(tmp_path / "two")
    assert {key: row["total"] for key, row in two.items()} == {
        key: row["total"] for key, row in one.items() if key[0] == "good"
    }


def test_rubrics_are_asked_only_for_programs_that_run(tmp_path):
    def answer(body):
        words = len(re.findall("word", body["messages"][-1]["content"]))
        if words == 4:
            return "I would say five."
        return json.dumps({"kind": 1 + words % 5, "good": 2, "new": 3})

    broken = RewardProgram(code=inside("return 1 / 0"), rubric=CRITERIA)
    with Scripted(answer) as server:
        folder = written(
            tmp_path / "run",
            {"hybrid": HYBRID, "rubric": RUBRIC, "good": GOOD},
            asked=Asked(url=server.url, model="judge", price_in=1.0),
        )
        private = {"PLUMBLINE_PRIVATE_ENDPOINTS": server.place}
        status, result, errors = done(folder, **private)
        assert status == 0, errors
        asked = len(server.bodies)
        other = written(
            tmp_path / "other",
            {"broken": broken, "good": GOOD},
            asked=Asked(url=server.url, model="judge"),
        )
        done(other, **private)
        assert len(server.bodies) == asked, "a program that fell before is not paid for"
    assert checked(other)["broken"]["rung"] == "smoke"
    unread = sum(len(item["text"].split()) == 4 for item in ITEMS)
    assert (result["asked"], result["unread"]) == (12, unread)
    assert result["dollars"] > 0
    rows = scores(folder)
    assert rows["hybrid", "1-2"]["judge"] == {"kind": 4, "good": 2, "new": 3}
    assert rows["hybrid", "1-2"]["total"] == pytest.approx(4, abs=1e-3)
    assert rows["rubric", "1-2"]["total"] == pytest.approx((0.75 + 0.25 + 0.5) / 3)
    for name in ("hybrid", "rubric"):
        assert rows[name, "3-1"]["total"] is None
        assert "asked for twice" in rows[name, "3-1"]["error"]
    assert rows["good", "3-1"]["total"] is not None
    assert checked(folder)["hybrid"]["valid"]


def test_what_a_cap_leaves_unasked_is_told_apart(tmp_path):
    with Scripted(lambda body: json.dumps({"kind": 1, "good": 2, "new": 3})) as server:
        folder = written(
            tmp_path / "run",
            {"hybrid": HYBRID},
            asked=Asked(url=server.url, model="judge", max_tokens=1, concurrency=1),
            check=False,
        )
        status, result, errors = done(folder, PLUMBLINE_PRIVATE_ENDPOINTS=server.place)
    assert status == 0, errors
    assert (result["asked"], result["unasked"]) == (1, 11)
    errors = [row["error"] for row in scores(folder).values()]
    assert sorted(set(errors)) == ["", UNASKED]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bwrap": None}, "programs run inside bubblewrap, which is not there: install it"),
        ({"PLUMBLINE_SANDBOX": "off"}, "PLUMBLINE_SANDBOX is 'off'; it can be bubblewrap or"),
        ({"asked": None}, "a program has a rubric, and the job names nobody to ask"),
        ({"twice": True}, "two programs have the id a"),
        ({"fields": {"magic": 1}}, "program a is none:"),
    ],
)
def test_a_job_that_cannot_work_says_so_and_is_not_tried_again(tmp_path, change, said):
    folder = written(tmp_path / "run", {"a": GOOD})
    environment = {}
    if "bwrap" in change:
        environment["PATH"] = str(tmp_path)
    if "PLUMBLINE_SANDBOX" in change:
        environment |= change
    if "asked" in change:
        written(folder, {"a": HYBRID})
    if "twice" in change:
        jobs.write_rows(folder / PROGRAMS, [{"id": "a", "program": to_json(GOOD)}] * 2)
    if "fields" in change:
        jobs.write_rows(folder / PROGRAMS, [{"id": "a", "program": change["fields"]}])
    status, result, errors = done(folder, **environment)
    assert (status, result) == (2, None)
    assert said in errors


def test_the_explicit_wish_to_do_without_walls_is_in_log_and_result(tmp_path):
    folder = written(tmp_path / "run", {"good": GOOD})
    status, result, errors = done(folder, PLUMBLINE_SANDBOX="rlimits")
    assert status == 0, errors
    assert (result["walls"], result["valid"]) == ("limits only", 1)
    assert "without bubblewrap" in result["warnings"][0]
    events = list(jobs.read_rows(folder / jobs.EVENTS))
    assert any("without bubblewrap" in one.get("message", "") for one in events)


def test_a_job_that_is_told_to_stop_stops_while_a_program_hangs(tmp_path):
    folder = written(tmp_path / "run", {"hanging": HANGING, "good": GOOD}, seconds=100.0)
    process = started(folder)
    events = folder / jobs.EVENTS
    deadline = time.monotonic() + 60
    while not (events.is_file() and '"unit": "programs"' in events.read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75
