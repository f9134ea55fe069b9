"""Votes out in a real Chromium: choosing updates the preview, and the download is a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.comparisons import open_campaign
from tests.transfer.said import say

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
URL = "/p/alpha/data/export/"


@pytest.fixture
def said(project, bob):
    campaign = open_campaign(project, comparisons=6)
    *pairs, tie = campaign.comparisons.order_by("pk")
    for pair in pairs:
        say(pair, bob, [[1], [0]], mark=3)
    say(tie, bob, [[0, 1]])
    return campaign


def test_choosing_a_format_changes_the_preview_and_the_address(browse, said, alice):
    page = browse(alice)
    page.goto(URL)
    page.get_by_text("votes that are ties").wait_for()
    page.get_by_label("Format").first.select_option("trl_unpaired")
    page.get_by_text('"label": true').first.wait_for()
    assert "format=trl_unpaired" in page.url
    page.get_by_label("Ties").select_option("both")
    page.get_by_text("Nothing is left out.").wait_for()
    page.reload()  # the address says it all
    page.get_by_text("Nothing is left out.").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    rows = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert sum(row["label"] for row in rows) == 7
    assert download.value.suggested_filename.startswith("alpha-trl_unpaired-")


def test_a_file_is_checked_on_the_page(browse, said, alice, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"chosen": "a"}\n')
    page = browse(alice)
    page.goto(URL)
    section = page.locator("#check")
    section.get_by_label("Format").select_option("hh_rlhf")
    section.get_by_label("File").set_input_files(str(path))
    section.get_by_role("button", name="Check").click()
    page.get_by_text("1 of 1 line is wrong").wait_for()
    page.get_by_role("cell", name="rejected").wait_for()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen(browse, said, alice, width):
    page = browse(alice, width=width)
    page.goto(URL + "?format=votes")
    page.get_by_text('"schema": "plumbline-vote/1"').first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
