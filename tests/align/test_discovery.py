"""A file dropped in its folder is found by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from align import algorithms, discovery, objectives
from align.algorithm import Algorithm

SOURCE = '''"""Nothing (arXiv:0000.00000)."""
from dataclasses import dataclass
from align.algorithm import Algorithm

@dataclass(frozen=True, kw_only=True)
class {name}(Algorithm):
    title = "{name}"
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "plugged"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "plugged"]:
        del sys.modules[name]
    discovery._discover.cache_clear()


def test_what_ships_is_there() -> None:
    assert algorithms.get("dpo").title == "DPO"
    assert objectives.get("bradley_terry").title == "Bradley-Terry"


def test_a_new_file_is_found_by_its_name(package: Path) -> None:
    (package / "fresh.py").write_text(SOURCE.format(name="Fresh"))
    assert discovery.find("plugged", Algorithm, "fresh").title == "Fresh"


def test_files_come_in_alphabetical_order(package: Path) -> None:
    for name in ("zeta", "alpha"):
        (package / f"{name}.py").write_text(SOURCE.format(name=name.title()))
    assert list(discovery.discover("plugged", Algorithm)) == ["alpha", "zeta"]


def test_an_unknown_name_gets_the_list_of_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no algorithm 'ppo'; there are .*dpo"):
        algorithms.get("ppo")


def test_a_file_without_its_class_is_its_authors_mistake(package: Path) -> None:
    (package / "empty.py").write_text("")
    with pytest.raises(ImportError, match="plugged.empty must define one Algorithm"):
        discovery.discover("plugged", Algorithm)
