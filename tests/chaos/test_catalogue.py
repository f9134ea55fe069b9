"""Every row of the catalogue in docs/reliability.md names tests, and there are all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = 40


def rows(page: str) -> dict[int, list[str]]:
    """The ids in the last cell of each numbered row."""
    found: dict[int, list[str]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0].isdigit():
            found[int(cells[0])] = re.findall(r"`(tests/[^`]+)`", cells[3])
    return found


def exists(test: str, root: Path = ROOT) -> bool:
    """A function of that name, perhaps in a class, in that file."""
    name, _, function = test.partition("::")
    path = root / name
    if not function or not path.is_file():
        return False
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(one, functions) and one.name == function for one in ast.walk(tree))


PAGE = rows((ROOT / "docs/reliability.md").read_text())


def test_the_catalogue_has_all_its_rows():
    assert sorted(PAGE) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("number", sorted(PAGE))
def test_a_row_names_tests_that_there_are(number):
    assert PAGE[number], f"row {number} names no test"
    assert [one for one in PAGE[number] if not exists(one)] == []


def test_a_row_without_a_test_and_a_test_that_is_not_there_are_found(tmp_path):
    page = "| 7 | Fire | Water | |\n| 8 | Flood | A boat | `tests/x.py::test_boat` |"
    assert rows(page) == {7: [], 8: ["tests/x.py::test_boat"]}
    assert not exists("tests/x.py::test_boat", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/x.py").write_text("class TestX:\n    def test_boat(self): ...\n")
    assert exists("tests/x.py::test_boat", tmp_path)
    assert not exists("tests/x.py", tmp_path)
