"""Votes in, in a real Chromium: a file is given, read by the loop's process, imported, undone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from plumbline.collect.models import Ballot
from plumbline.transfer.porter import Porter

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
URL = "/p/alpha/data/import/"


def pair(number: int) -> dict[str, object]:
    answer = (
        f"Because of **{number}** reasons:\n\n1. one\n2. two\n\n```python\nprint({number})\n```"
    )
    return {
        "prompt": [{"role": "user", "content": f"Why does water boil at {number} degrees?"}],
        "chosen": [{"role": "assistant", "content": answer}],
        "rejected": [{"role": "assistant", "content": f"It does not, said the {number}th of us."}],
    }


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A good file, one with bad rows, and one that no format reads."""
    good, bad, odd = (tmp_path / name for name in ("good.jsonl.gz", "bad.jsonl", "odd.jsonl"))
    rows = [json.dumps(pair(n)) + "\n" for n in range(120)]
    good.write_bytes(gzip.compress("".join(rows).encode()))
    broken = json.dumps({**pair(500), "chosen": "just words"}) + "\n"
    bad.write_text("".join([*rows[:3], broken, "not json\n", *rows[3:6]]))
    odd.write_text(json.dumps({"question": "a", "better": "b"}) + "\n")
    return [good, bad, odd]


@pytest.fixture
def porter(shared_db, monkeypatch) -> Iterator[Porter]:
    """The loop's part in it, with processes on the test's database."""
    url = f"sqlite:///{shared_db}"
    if shared_db is None:
        url = f"postgresql://postgres@/{connection.settings_dict['NAME']}"
    monkeypatch.setenv("DATABASE_URL", url)
    found = Porter()
    yield found
    found.stop()


def work(page, porter: Porter, text: str) -> None:
    """Let the loop look until the page says so."""
    for _ in range(240):
        porter.look()
        if page.get_by_text(text).count():
            return
        page.wait_for_timeout(250)
    pytest.fail(f"{text!r} never came: {page.inner_text('main')}")


def test_a_file_is_given_looked_at_imported_and_undone(browse, porter, project, alice, files):
    page = browse(alice)
    page.goto(URL)
    page.get_by_label("Files").set_input_files(str(files[0]))
    page.get_by_label("Prompt set").fill("boiling")
    page.get_by_role("button", name="Look at them").click()
    work(page, porter, "120 rows, all well")
    page.get_by_text("TRL preference, explicit prompt reads 50 of its first 50 lines.").wait_for()
    page.get_by_role("button", name="Import 120 rows").click()
    work(page, porter, "New votes")
    assert Ballot.objects.count() == 120
    page.goto(URL)
    page.locator("summary", has_text="Undo").click()
    page.get_by_role("button", name="Take it back").click()
    work(page, porter, "120 votes, 240 answers and 120 prompts were taken back.")
    assert not Ballot.objects.exists()


def test_the_keyboard_alone_leaves_bad_rows_out(browse, porter, project, alice, files):
    page = browse(alice)
    page.goto(URL)
    page.get_by_label("Files").set_input_files(str(files[1]))
    page.get_by_label("Prompt set").fill("some")
    page.keyboard.press("Enter")
    work(page, porter, "2 bad rows")
    page.get_by_role("cell", name="must be a list of messages").wait_for()
    button = page.get_by_role("button", name="Leave 2 out, import 6 rows")
    page.get_by_label("Licence").focus()
    page.keyboard.press("Tab")
    assert button.evaluate("(one) => one === document.activeElement")
    page.keyboard.press("Enter")
    work(page, porter, "2 left out")
    assert Ballot.objects.count() == 6


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_the_pages_fit_and_have_no_serious_fault(
    browse, porter, project, alice, files, faults, width, dark
):
    page = browse(alice, width=width, dark=dark)
    page.goto(URL)
    assert not faults(page)
    page.get_by_label("Files").set_input_files([str(one) for one in files])
    page.get_by_label("Prompt set").fill("some")
    page.get_by_role("button", name="Look at them").click()
    for name, text in (("odd", "What is it?"), ("bad", "2 bad rows"), ("good", "all well")):
        page.goto(URL)
        page.get_by_role("link", name=f"{name}.jsonl").click()
        work(page, porter, text)
        assert not faults(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Import 120 rows").click()
    work(page, porter, "New votes")
    assert not faults(page)
    page.goto(URL)
    assert not faults(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
