"""A file dropped in its folder is found by its name, and trained with."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from align import algorithms, discovery, jobs, objectives
from align.algorithm import Algorithm
from align.gpu import checkpoint, train
from tests.align.conftest import do, metrics, pair, response, result, train_job

SOURCE = '''"""Nothing (arXiv:0000.00000)."""
from dataclasses import dataclass
from align.algorithm import Algorithm

@dataclass(frozen=True, kw_only=True)
class {name}(Algorithm):
    title = "{name}"
'''

# A third answer, a figure, a knob: more than any file that ships needs together.
WHOLE = '''"""Lifts the chosen answer, and lowers a calm one by a figure (arXiv:0000.00000)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from align.algorithm import Algorithm, Labels, LogProbs, Loss, knob


@dataclass(frozen=True, kw_only=True)
class Lift(Algorithm):
    title: ClassVar[str] = "Lift"
    references: ClassVar[tuple[str, ...]] = ("reference", "initial")
    facts: ClassVar[tuple[str, ...]] = ("calm",)

    push: float = knob(1.0, "How far the chosen answer is to rise, in nats.", above=0)

    @property
    def roles(self) -> tuple[str, ...]:
        return ("chosen", "rejected", "serene")

    def loss(self, logps: LogProbs, labels: Labels) -> Loss:
        risen = logps.ratio("chosen", "reference") - logps.ratio("rejected", "reference")
        lowered = labels.of("calm") * logps.ratio("serene", "initial")
        return Loss((risen - self.push) ** 2 + lowered, {"risen": risen, "lowered": lowered})
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


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of algorithms with one more file in it."""
    (tmp_path / "lift.py").write_text(WHOLE)
    monkeypatch.setattr(algorithms, "__path__", [*algorithms.__path__, str(tmp_path)])
    discovery._discover.cache_clear()
    yield
    sys.modules.pop("align.algorithms.lift", None)
    discovery._discover.cache_clear()


def lift_job(base: Path) -> jobs.TrainJob:
    plain = train_job(base, epochs=4, batch_size=12, learning_rate=1e-2)
    return dataclasses.replace(
        plain,
        algorithm="lift",
        knobs={"push": 2.0},
        references={"reference": plain.start, "initial": plain.start},
    )


def lift_rows() -> list[dict[str, object]]:
    rows = []
    for n in range(6):
        row = pair(f"question {n}", "yes" + "!" * n, "no" + "." * n, facts={"calm": n / 10})
        row["responses"]["serene"] = response("hm" * (n + 1))
        rows.append(row)
    return rows


@pytest.mark.usefixtures("dropped")
def test_a_new_file_is_all_that_a_round_of_training_needs(
    rundir: Callable[..., Path], tiny_base: Path
) -> None:
    assert algorithms.get("lift").title == "Lift"
    folder = rundir(lift_job(tiny_base), examples=lift_rows())
    do(train.work, folder)
    found = result(folder)
    assert (found["steps"], found["examples"], found["dropped"]) == (4, 6, 0)
    first, last = metrics(folder)[0], metrics(folder)[-1]
    assert first["loss"] == pytest.approx(4.0)  # nothing has risen yet: push squared
    assert first["risen"] == first["lowered"] == 0
    assert last["risen"] > 0.1
    assert last["drift/chosen"] > last["drift/rejected"]
    assert {"logps/serene", "drift/serene", "tokens/serene"} <= last.keys()
    assert found["loss"] == pytest.approx(last["loss"])
    assert found["loss"] < 4.0
    manifest = checkpoint.verify(folder / found["weights"], found["sha256"])
    assert manifest.metadata["job"] == json.loads((folder / jobs.JOB).read_text())
    assert manifest.metadata["job"]["algorithm"] == "lift"


@pytest.mark.usefixtures("dropped")
@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"facts": {}}, "no figure calm"),
        ({"responses": pair("q", "yes", "no")["responses"]}, "no serene response"),
    ],
)
def test_what_a_new_file_asks_for_is_demanded_of_the_data(
    broken: dict[str, object],
    sentence: str,
    rundir: Callable[..., Path],
    tiny_base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = lift_rows()
    rows[3] |= broken
    with pytest.raises(SystemExit) as stop:
        do(train.work, rundir(lift_job(tiny_base), examples=rows))
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
