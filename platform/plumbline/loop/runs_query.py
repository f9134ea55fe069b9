"""Which rounds somebody asks for: words, conditions on columns, an order; all in one line of text.

    warmer beta=0.1 kl<20 win>0.55 stage=done

A word must be in a name or a setting's value; a condition compares a column or a setting. What it
does not understand is said in a sentence, never guessed.
"""

from __future__ import annotations

import operator
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.loop.runs import Run

CONDITION = re.compile(r"^([A-Za-z][\w.]*)(<=|>=|!=|=|<|>)(.*)$")
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}
NAMED = "set:"  # begins the key of a column that shows a setting


@dataclass(frozen=True)
class Column:
    """A figure of a round: `form` says how it is written, `better` where a change is for the good
    (1 up, -1 down, 0 neither)."""

    key: str
    title: str
    value: Callable[[Run], Any]
    form: str = "text"
    better: int = 0


def _of(side: str, name: str) -> Callable[[Run], Any]:
    return lambda run: getattr(run, side).get(name)


COLUMNS = [
    Column("stage", "Stage", lambda run: run.stage, "stage"),
    Column("algorithm", "Algorithm", lambda run: run.settings["algorithm"]),
    Column("policy", "Policy", lambda run: run.policy, "mono"),
    Column("state", "Policy is", lambda run: run.state, "state"),
    Column("gate", "Gate", lambda run: run.gate, "gate"),
    Column("win", "Against current", _of("current", "rate"), "rate", 1),
    Column("base", "Against base", _of("base", "rate"), "rate", 1),
    Column("kl", "KL to base", _of("current", "kl"), "figure", -1),
    Column("kl3", "KL to base, k3", _of("current", "kl_k3"), "figure", -1),
    Column("kl_start", "KL to start", _of("current", "kl_start"), "figure", -1),
    Column("length", "Length", _of("current", "tokens"), "figure"),
    Column("before", "Length before", _of("current", "opponent_tokens"), "figure"),
    Column("loss", "Loss", lambda run: number(run.metrics.get("loss")), "figure", -1),
    Column(
        "accuracy", "Training accuracy", lambda run: number(run.metrics.get("accuracy")), "share", 1
    ),
    Column("reward", "Reward model's accuracy", lambda run: run.reward_accuracy, "share", 1),
    Column("ballots", "Ballots", lambda run: run.ballots, "count"),
    Column("took", "Took", lambda run: run.seconds, "seconds", -1),
    Column("started", "Started", lambda run: run.started_at, "time"),
]
BY_KEY = {column.key: column for column in COLUMNS}
USUAL = ("stage", "algorithm", "win", "base", "kl", "length", "took")
NUMBERS = ("rate", "figure", "share", "count", "seconds")


def number(value: Any) -> float | None:
    """A finite number, None of anything else: metrics are whatever a trainer wrote."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value == value and abs(value) != float("inf") else None


def column(key: str) -> Column | None:
    """A column by its key: one of COLUMNS, or a setting behind "set:"."""
    if not key.startswith(NAMED):
        return BY_KEY.get(key)
    name = key.removeprefix(NAMED)
    return Column(key, name, lambda run: run.settings.get(name), "setting")


@dataclass
class Search:
    """What one line of text asks for; `faults` are sentences about what it could not read."""

    words: list[str] = field(default_factory=list)
    conditions: list[tuple[Callable[[Run], Any], str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def keeps(self, run: Run) -> bool:
        if self.words:
            text = words_of(run)
            if not all(word in text for word in self.words):
                return False
        return all(_holds(value(run), test, wanted) for value, test, wanted in self.conditions)


def search(text: str, settings: set[str]) -> Search:
    """Read a line. `settings` are the names that settings have, in full; their last part will do
    where it names one alone."""
    found = Search()
    try:
        parts = shlex.split(text)
    except ValueError:
        parts = text.replace('"', " ").replace("'", " ").split()
    for part in parts:
        match = CONDITION.match(part)
        if match is None:
            found.words.append(part.lower())
            continue
        name, test, wanted = match.groups()
        value = _named(name, settings, found.faults)
        if value is None:
            continue
        if test in ("<", "<=", ">", ">=") and _number(wanted) is None:
            found.faults.append(f"“{part}” compares with “{wanted}”, which is not a number.")
            continue
        found.conditions.append((value, test, wanted))
    return found


def words_of(run: Run) -> str:
    """All that a word may be found in, in lower case."""
    settings = (value for value in run.settings.values() if isinstance(value, str))
    return " ".join([run.name, run.policy, run.stage, run.state, *settings]).lower()


def ordered(found: Sequence[Run], by: Column, down: bool) -> list[Run]:
    """By a column; rounds without the figure come last either way."""

    def place(run: Run) -> tuple[int, float, str]:
        value = by.value(run)
        if isinstance(value, bool | int | float):
            return (0, float(value), "")
        if hasattr(value, "timestamp"):
            return (0, value.timestamp(), "")
        return (1, 0.0, str(value))

    known = [run for run in found if by.value(run) not in (None, "")]
    missing = [run for run in found if by.value(run) in (None, "")]
    return sorted(known, key=place, reverse=down) + missing


def _named(name: str, settings: set[str], faults: list[str]) -> Callable[[Run], Any] | None:
    if name in BY_KEY:
        return BY_KEY[name].value
    if name in ("name", "experiment"):
        return lambda run: run.name
    if name in ("round", "number"):
        return lambda run: run.number
    if name in settings:
        return lambda run: run.settings.get(name)
    like = sorted(one for one in settings if one.rpartition(".")[2] == name)
    if len(like) == 1:
        return lambda run: run.settings.get(like[0])
    if like:
        faults.append(f"“{name}” may be {' or '.join(like)}: write it in full.")
    else:
        faults.append(f"There is no column and no setting called “{name}”.")
    return None


def _holds(value: Any, test: str, wanted: str) -> bool:
    if value is None or value == "":
        return test == "!="
    asked, own = _number(wanted), number(value)
    if asked is not None and own is not None:
        return TESTS[test](own, asked)
    if test in ("<", "<=", ">", ">="):
        return False
    text = {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else value
    same = str(text).lower() == wanted.lower()
    return same if test == "=" else not same


def _number(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return number(value)
