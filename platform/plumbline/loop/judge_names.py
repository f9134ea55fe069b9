"""Judges in a settings file: by name and by the hash of the version that was newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plumbline.judges import judges
from plumbline.judges.models import Judge


def told(judge: Judge) -> dict[str, str]:
    return {"name": judge.name, "sha256": judges.current(judge).sha256}


def found(
    file: Mapping[str, Any], here: Mapping[str, Judge], anyway: bool, wrong: list[str]
) -> dict[str, Any]:
    """The ids of a file's judges, as the form has them; sentences about those that are not the
    same here go to `wrong`."""
    labellers = file.get("labellers") or []
    evaluator = file.get("evaluator")
    named = [_id(one, here, anyway, wrong) for one in labellers]
    return {
        "labellers": [pk for pk in named if pk],
        "evaluator": _id(evaluator, here, anyway, wrong) if evaluator else "",
    }


def _id(named: Mapping[str, str], here: Mapping[str, Judge], anyway: bool, wrong: list[str]) -> str:
    for pk, judge in here.items():
        if judge.name == named.get("name"):
            if judges.current(judge).sha256 != named.get("sha256") and not anyway:
                wrong.append(f"The judge {judge.name} is another version here.")
            return pk
    wrong.append(f"This project has no judge called {named.get('name')}.")
    return ""
