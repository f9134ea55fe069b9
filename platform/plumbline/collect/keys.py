"""The keys of the ballot page, as one table: the page's overlay, its script and the settings page
are all made from it. A person's own keys are in `User.preferences["keys"]`, by action.

A key is written as browsers name it (`KeyboardEvent.key`, in lower case), with `alt+` or `shift+`
before it. Enter, Escape and digits that choose among open reasons are not remapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from plumbline.accounts.models import User

PAIR, RANK, ANY = "pair", "rank", "any"
FIXED = {"escape", "tab", "shift+tab", " "}
SHOWN = {
    "arrowleft": "←",
    "arrowright": "→",
    "arrowup": "↑",
    "arrowdown": "↓",
    "enter": "Enter",
    "alt": "Alt",
    "shift": "Shift",
}


@dataclass(frozen=True)
class Action:
    name: str
    does: str
    keys: tuple[str, ...]
    where: str = ANY  # with a pair, with a ranking, or everywhere


ACTIONS = (
    Action("pick-a", "A is better; again: much, slightly", ("a", "1"), PAIR),
    Action("pick-b", "B is better; again: much, slightly", ("b", "2"), PAIR),
    Action("much-a", "A is much better at once", ("shift+a",), PAIR),
    Action("much-b", "B is much better at once", ("shift+b",), PAIR),
    Action("left", "Towards A on the scale", ("arrowleft",), PAIR),
    Action("right", "Towards B on the scale", ("arrowright",), PAIR),
    Action("tie", "They tie", ("t", "0"), PAIR),
    Action("move-up", "Move the picked answer up", ("alt+arrowup",), RANK),
    Action("move-down", "Move the picked answer down", ("alt+arrowdown",), RANK),
    Action("stack", "Tie the picked answer with the one above", ("t", "0"), RANK),
    Action("best", "The picked answer is the best", ("b",), RANK),
    Action("worst", "The picked answer is the worst", ("w",), RANK),
    Action("bad", "All are bad", ("x",)),
    Action("mark-good", "The best one is good", ("j",)),
    Action("mark-ok", "The best one is ok", ("k",)),
    Action("mark-bad", "The best one is bad", ("l",)),
    Action("mark", "Mark a place in an answer", ("m",)),
    Action("edit", "Correct an answer", ("e",)),
    Action("note", "Write a note", ("n",)),
    Action("submit", "Save, and on to the next", ("enter",)),
    Action("undo", "Undo the last answer", ("u",)),
    Action("previous", "The one before, in your history", ("p",)),
    Action("skip", "Skip; then a number for the reason", ("s",)),
    Action("flag", "Flag; then a number for the reason", ("f",)),
    Action("guidelines", "Guidelines", ("g",)),
    Action("raw", "Raw text", ("r",)),
    Action("diff", "What differs between the answers", ("d",)),
    Action("scroll", "Scroll answers together", ("y",)),
    Action("stacked", "Answers one under the other", ("o",)),
    Action("help", "This list", ("?",)),
)
BY_NAME = {action.name: action for action in ACTIONS}


@dataclass(frozen=True)
class Bound:
    """An action with the keys a person has for it."""

    action: Action
    keys: tuple[str, ...]
    caps: list[list[str]] = field(default_factory=list)  # each key as the words on its caps


def bound(user: User) -> list[Bound]:
    """Every action with this person's keys."""
    own = user.preferences.get("keys", {})
    found = []
    for action in ACTIONS:
        keys = tuple(own.get(action.name, action.keys))
        found.append(Bound(action, keys, [caps(key) for key in keys]))
    return found


def listing(user: User, project: str) -> SafeString:
    """Every action with this person's keys, as the page's help. It is on every ballot and the same
    for nearly everybody, so it is rendered once for each way keys are set."""
    own = user.preferences.get("keys", {})
    return _listing(tuple((name, tuple(keys)) for name, keys in sorted(own.items())), project)


@lru_cache(maxsize=256)
def _listing(own: tuple[tuple[str, tuple[str, ...]], ...], project: str) -> SafeString:
    rows = bound(User(preferences={"keys": dict(own)}))
    return render_to_string("collect/key_list.html", {"keys": rows, "project": project})


def caps(key: str) -> list[str]:
    """ "alt+arrowup" as ["Alt", "↑"]."""
    parts = ["+"] if key == "+" else key.split("+")
    return [SHOWN.get(part, part.upper() if len(part) == 1 else part) for part in parts]


def read(sent: Mapping[str, str]) -> dict[str, list[str]]:
    """The keys of a settings form, by action; only what differs from the table.

    Raises ValueError for a key that cannot be had, or that does two things at once.
    """
    keys = {action.name: _split(sent.get(action.name, "")) for action in ACTIONS}
    for action in ACTIONS:
        for key in keys[action.name]:
            if key in FIXED:
                raise ValueError(f"{' '.join(caps(key))} cannot be changed.")
            _check_free(action, key, keys)
    return {name: own for name, own in keys.items() if tuple(own) != BY_NAME[name].keys}


def _split(text: str) -> list[str]:
    return list(dict.fromkeys(text.lower().split()))[:4]


def _check_free(action: Action, key: str, keys: Mapping[str, Iterable[str]]) -> None:
    for other in ACTIONS:
        together = ANY in (action.where, other.where) or action.where == other.where
        if other is not action and together and key in keys[other.name]:
            raise ValueError(
                f"{' '.join(caps(key))} would mean two things: “{action.does}” and “{other.does}”."
            )
