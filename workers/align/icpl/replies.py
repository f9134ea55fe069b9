"""A reward program out of what a model wrote: the first fenced block that holds one.

Nothing is run here, and what comes out is a draft that the ladder has still to let through.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from align.programs import Criterion, RewardProgram, to_json

FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.S | re.M)
STARTS = re.compile(r"^(?:def|import|from)\s", re.M)
FIELDS = {"kind", "code", "rubric", "params"}


def program(reply: str) -> RewardProgram:
    """Raises ValueError with a sentence for the writer, who may repair it."""
    blocks = [(name.lower(), body) for name, body in FENCE.findall(reply)]
    whole = _objects(blocks, reply)
    code = next((body for name, body in blocks if "def compute_reward" in body), "")
    for found in whole:
        if {"code", "rubric"} & found.keys():
            return _built({**({"code": code} if code and not found.get("code") else {}), **found})
    if code:
        params = next((found for found in whole if found), {})
        return _built({"code": code, "params": params.get("params", params)})
    if "def compute_reward" in reply:
        return _built({"code": reply})
    raise ValueError(
        "The reply holds no program: no fenced block with a JSON object or with compute_reward."
    )


def sentence(reply: str) -> str:
    """The first line that is one, without marks around it and at most 300 characters long."""
    for line in reply.splitlines():
        words = line.strip().strip("`*_\"'# ").strip()
        if words:
            return words[:300]
    return ""


def _objects(blocks: list[tuple[str, str]], reply: str) -> list[dict[str, Any]]:
    found = []
    for text in [*(body for name, body in blocks if name in ("json", "")), reply]:
        try:
            data = json.loads(text.strip(), strict=False)
        except ValueError:
            continue
        if isinstance(data, dict):
            found.append(data)
    return found


def _built(data: Mapping[str, Any]) -> RewardProgram:
    if unknown := data.keys() - FIELDS:
        raise ValueError(f"A program has no field {', '.join(sorted(map(str, unknown)))}.")
    code = data.get("code") or ""
    if not isinstance(code, str):
        raise ValueError("The code of a program is a text.")
    rubric = tuple(_criterion(one) for one in _list(data.get("rubric")))
    code = _from_first_statement(code)
    kind: Any = data.get("kind") or ("hybrid" if code and rubric else "code" if code else "rubric")
    if kind not in ("code", "rubric", "hybrid"):
        raise ValueError(f"The kind of a program is code, rubric or hybrid, not {kind!r}.")
    if kind != "rubric" and not code:
        raise ValueError(f"A program of kind {kind} needs code that defines compute_reward.")
    if kind == "rubric":
        code = ""
    if kind != "code" and not rubric:
        raise ValueError(f"A program of kind {kind} needs a rubric.")
    made = RewardProgram(kind=kind, code=code, rubric=rubric, params=_params(data.get("params")))
    _check_text(made)
    return made


def _check_text(made: RewardProgram) -> None:
    told = json.dumps(to_json(made), ensure_ascii=False)
    if "\\u0000" in told or any("\ud800" <= sign <= "\udfff" for sign in told):
        raise ValueError("The program holds signs that are no text: a null or half a character.")


def _from_first_statement(code: str) -> str:
    """Without words before the program, as ICPL does it."""
    start = STARTS.search(code)
    return code[start.start() :].rstrip() + "\n" if start else code


def _criterion(given: Any) -> Criterion:
    if not isinstance(given, dict) or not given.get("question"):
        raise ValueError('A criterion is {"id": ..., "question": ..., "anchors": {...}}.')
    weight = given.get("weight", given.get("weight_hint", 1.0))
    return Criterion(
        id=str(given.get("id") or "").strip(),
        question=str(given["question"]).strip(),
        anchors={str(key): str(value) for key, value in dict(given.get("anchors") or {}).items()},
        weight=_figure(weight, "A criterion's weight"),
    )


def _params(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError("The params of a program are an object of names and numbers.")
    return {str(name): _figure(value, f"The param {name}") for name, value in given.items()}


def _figure(given: Any, what: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"{what} must be a finite number, not {given!r}.")
    return float(given)


def _list(given: Any) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise ValueError("The rubric of a program is a list of criteria.")
    return given
