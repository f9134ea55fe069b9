"""The page about security names a test for each threat and each advisory, and the tests exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


THREATS, ADVISORIES, COVERED = map(rows, ("Threats", "What went wrong elsewhere", "ASVS"))


def test_the_lists_are_whole():
    assert [row[0] for row in THREATS] == [str(n) for n in range(1, 28)]
    assert len(ADVISORIES) >= 17
    named = " ".join(row[0] for row in ADVISORIES)
    for one in (
        *("CVE-2023-43791", "CVE-2023-47117", "CVE-2025-64459", "CVE-2023-47116", "CVE-2023-47115"),
        *("CVE-2024-23633", "CVE-2024-26152", "CVE-2025-25296", "CVE-2025-47783", "CVE-2026-22033"),
        *("CVE-2022-36551", "GHSA-cpmr-mw4j-99r7", "CVE-2025-5173", "CVE-2026-116555"),
        *("CVE-2026-2635", "CVE-2025-11200", "CVE-2026-2652", "CVE-2026-0545", "CVE-2023-1177"),
        *("CVE-2026-53995", "CVE-2024-37052", "CVE-2025-32434", "CVE-2026-22807", "CVE-2025-62164"),
        *("CVE-2026-34756", "CVE-2025-62426", "CVE-2026-5760", "CVE-2023-48022", "CVE-2021-23727"),
        *("CVE-2025-49844", "GHSA-wqqw-r8c5-j67c", "CVE-2026-34590"),
    ):
        assert one in named, one


@pytest.mark.parametrize("row", [*THREATS, *ADVISORIES, *COVERED], ids=lambda row: row[0][:40])
def test_every_row_has_a_test_that_exists(row):
    found = TEST.findall(row[-1])
    assert found, "a row without a test is a promise without proof"
    for file, name in found:
        assert (ROOT / file).is_file(), file
        if name:
            assert re.search(rf"^def {name}\b", (ROOT / file).read_text(), re.MULTILINE), name
