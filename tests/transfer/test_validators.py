"""A file that a trainer would choke on is told by line and by field."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from plumbline.transfer import formats

ASKED = [{"role": "user", "content": "hi"}]
YES, NO = [{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no"}]
START = "\n\nHuman: hi\n\nAssistant:"
GOOD: dict[str, dict[str, Any]] = {
    "trl_preference": {"prompt": ASKED, "chosen": YES, "rejected": NO},
    "trl_implicit": {"chosen": ASKED + YES, "rejected": ASKED + NO},
    "trl_unpaired": {"prompt": ASKED, "completion": YES, "label": True},
    "hh_rlhf": {"chosen": f"{START} yes", "rejected": f"{START} no"},
    "openai_preference": {
        "input": {"messages": ASKED, "tools": [], "parallel_tool_calls": True},
        "preferred_output": YES,
        "non_preferred_output": NO,
    },
    "votes": {
        "schema": "plumbline-vote/1",
        "id": "v",
        "annotator": "a",
        "annotator_kind": "person",
        "comparison": 1,
        "kind": "ordinary",
        "strategy": "random",
        "p_select": 0.5,
        "why": {},
        "campaign": {"name": "c", "purpose": "train", "asks": ["compare"], "criteria": []},
        "prompt": {"messages": ASKED, "digest": "", "split": "train"},
        "answers": [
            {
                "slot": slot,
                "id": str(slot),
                "text": text,
                "policy": None,
                "origin": "",
                "sampling": {},
                "finish_reason": "stop",
            }
            for slot, text in enumerate(("yes", "no"))
        ],
        "outcome": "ranked",
        "ranking": [[1], [0]],
        "strength": 2,
        "probability": None,
        "mark": None,
        "ratings": {},
        "corrections": {},
        "spans": [],
        "reasons": [],
        "reason": "",
        "comment": "",
        "shown": [1, 0],
        "settings_version": 1,
        "active_ms": 10,
        "revision": 1,
        "revises": None,
        "standing": True,
        "claimed_at": "2026-11-21T09:00:00+00:00",
        "cast_at": "2026-11-21T09:00:30+00:00",
        "rounds": [],
    },
    "alpaca_eval": {
        "instruction": "hi",
        "generator_1": "a",
        "output_1": "yes",
        "generator_2": "b",
        "output_2": "no",
        "preference": 1.5,
    },
    "prompts_jsonl": {"prompt": "hi"},
}


def found(name: str, record: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in formats.problems(formats.find(name), record)]


def changed(name: str, field: str, value: object) -> dict[str, Any]:
    """A good line with one field of it changed; a dotted path goes down."""
    record = json.loads(json.dumps(GOOD[name]))
    place: Any = record
    *way, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    for part in way:
        place = place[part]
    place[last] = value
    return record


@pytest.mark.parametrize("name", formats.names())
def test_a_good_line_has_no_problem(name: str) -> None:
    assert found(name, GOOD[name]) == []


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in sorted(formats.exporters())
        for field in GOOD[name]
        if field not in ("rounds", "annotator_kind")  # what an import does not read
    ],
)
def test_every_field_is_named_when_it_is_missing(name: str, field: str) -> None:
    record = {key: value for key, value in GOOD[name].items() if key != field}
    assert any(problem.startswith(field) for problem in found(name, record))


JUNK = [None, True, 0, -1, 1.5, 2**70, "", "x", "\0", [], [[]], {}, {"": {}}, [{"role": 1}], [None]]


@pytest.mark.parametrize("name", formats.names())
def test_whatever_stands_in_a_field_is_a_problem_or_is_read(name: str) -> None:
    """No junk in any place, however deep, breaks the validator or the importer behind it."""
    refused = 0
    for path in paths(GOOD[name]):
        for junk in JUNK:
            record = changed(name, path, junk)
            problems = found(name, record)
            refused += bool(problems)
            if not problems:
                formats.find(name).parse(record)
    assert refused > 10


def paths(value: Any, before: str = "") -> list[str]:
    """Where in a record something stands, as dotted paths."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    kept = []
    for name, one in parts:
        kept.append(f"{before}{name}")
        if isinstance(one, dict | list):
            kept += paths(one, f"{before}{name}.")
    return kept


@pytest.mark.parametrize(
    ("name", "field", "value", "problem"),
    [
        ("trl_preference", "chosen", "yes", "chosen: must be a list of messages as 'prompt' is"),
        (
            "trl_preference",
            "chosen.0.role",
            "user",
            "chosen[0].role: must be assistant, not 'user'",
        ),
        ("trl_preference", "chosen.0.content", 3, "chosen[0].content: must be a string, not a num"),
        ("trl_preference", "chosen", YES + YES, "chosen: must be one assistant message, not 2"),
        ("trl_preference", "rejected", YES, "rejected: is the same as 'chosen'"),
        ("trl_preference", "prompt", [], "prompt: has no messages"),
        ("trl_preference", "prompt", ASKED + YES, "prompt[1].role: must be user, not 'assistant'"),
        ("trl_preference", "prompt.0.role", "robot", "prompt[0].role: must be one of system, user"),
        ("trl_preference", "prompt.0.content", " ", "prompt[0].content: is empty"),
        ("trl_preference", "prompt.0.content", "\0", "prompt[0].content: it holds a NUL"),
        ("trl_preference", "prompt", 7, "prompt: must be a list of messages, not a number"),
        ("trl_preference", "prompt", "hi", "chosen: must be a string, not a list"),
        ("trl_preference", "weight", 0, "weight: must be a number above 0, not 0"),
        ("trl_preference", "tools", [{}], "tools: calls of tools are not taken"),
        ("trl_implicit", "prompt", ASKED, "prompt: the prompt is implicit here"),
        ("trl_implicit", "chosen.0.content", "ho", "rejected: must be the same conversation as"),
        ("trl_implicit", "chosen", YES, "chosen: the user must ask before the last answer"),
        ("trl_implicit", "chosen", f"{START} yes", "rejected: must be a string, not a list"),
        ("trl_unpaired", "label", 1, "label: must be true or false, not a number"),
        ("trl_unpaired", "completion", [], "completion: has no messages"),
        ("hh_rlhf", "chosen", "yes", r"chosen: must begin with '\n\nHuman:'"),
        ("hh_rlhf", "rejected", "\n\nHuman: ho\n\nAssistant: no", "rejected: the two transcripts"),
        ("hh_rlhf", "rejected", f"{START} yes", "rejected: is the same as 'chosen'"),
        ("hh_rlhf", "weight", 1, "weight: the format has no such field; it has chosen, rejected"),
        ("openai_preference", "input", [], "input: must be an object, not a list"),
        ("openai_preference", "input.messages", [], "input.messages: has no messages"),
        ("openai_preference", "input.tools", [{}], "input.tools: calls of tools"),
        ("openai_preference", "preferred_output", YES + NO, "preferred_output: must be one assis"),
        ("openai_preference", "preferred_output.0.content", "", "preferred_output[0].content: is "),
        ("openai_preference", "weight", 1, "weight: the format has no such field"),
        ("votes", "schema", "other/1", "schema: must be 'plumbline-vote/1'"),
        ("votes", "kind", "silver", "kind: must be one of ordinary, live, gold"),
        ("votes", "kind", "gold", "kind: a gold comparison is not imported as training data"),
        ("votes", "ranking", [[1]], "ranking: must place each of the slots [0, 1] once"),
        ("votes", "ranking", [[1], []], "ranking: must be a list of groups"),
        ("votes", "outcome", "all_bad", "ranking: must be empty where the outcome is all_bad"),
        ("votes", "outcome", "liked", "outcome: must be one of ranked, all_bad"),
        ("votes", "shown", [0, 0], "shown: must name each of the slots"),
        ("votes", "shown", [False, True], "shown: must name each of the slots"),
        ("votes", "strength", 4, "strength: must be one of null, 1, 2, 3, not 4"),
        ("votes", "mark", True, "mark: must be one of null, 3, 2, 1, not True"),
        ("votes", "probability", 1.5, "probability: must be a number from 0 to 1"),
        ("votes", "revision", 0, "revision: must be a whole number from 1 on, not 0"),
        ("votes", "revision", 2**40, "revision: must be a whole number"),
        ("votes", "cast_at", "yesterday", "cast_at: must be a time with its zone in ISO format"),
        ("votes", "cast_at", "2026-11-21T09:00:00", "cast_at: must be a time with its zone"),
        ("votes", "claimed_at", "0001-01-01T00:00:00+23:00", "claimed_at: must be a time"),
        ("votes", "answers", [], "answers: must be a list of 1 to 9 answers"),
        ("votes", "answers.1.id", "0", "answers: two answers have the same id"),
        ("votes", "answers.1.slot", 0, "answers[1].slot: must be 1"),
        ("votes", "answers.0.finish_reason", "x" * 13, "answers[0].finish_reason: has more than"),
        ("votes", "answers.0.sampling", None, "answers[0].sampling: must be an object"),
        ("votes", "ratings", {"7": {}}, "ratings: must be an object by slot (0, 1)"),
        ("votes", "ratings", {"0": {"kind": "5"}}, "ratings.0: must be whole numbers"),
        ("votes", "corrections", {"0": 5}, "corrections.0: must be a string"),
        ("votes", "reasons", ["ok", 5], "reasons[1]: must be a string, not a number"),
        ("votes", "spans", [{"slot": 0}], "spans[0]: must have slot, start, end and label"),
        (
            "votes",
            "spans",
            [{"slot": 0, "start": 0, "end": 9, "label": "wrong"}],
            "spans[0]: A mark lies outside of its answer.",
        ),
        ("votes", "why", {"a": ["x", {"b\0": 1}]}, "why.a[1], a name in it: it holds a NUL"),
        ("votes", "campaign.asks", ["sing"], "campaign: There is no question called sing"),
        ("votes", "campaign.criteria", [{"x": 1}], "campaign: must have asks and criteria"),
        ("votes", "prompt.split", "test", "prompt.split: must be train or heldout, not 'test'"),
        ("alpaca_eval", "preference", 7, "'preference' must be from 1 to 2, not 7"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(
    name: str, field: str, value: object, problem: str
) -> None:
    problems = found(name, changed(name, field, value))
    assert any(one.startswith(problem) for one in problems), problems


def validate(name: str, path: Path, *more: str) -> str:
    out = StringIO()
    try:
        call_command("validate", name, str(path), *more, stdout=out)
    except CommandError as error:
        return f"{out.getvalue()}FAILED {error}"
    return out.getvalue()


def test_the_command_names_line_and_field(tmp_path: Path) -> None:
    good = json.dumps(GOOD["trl_unpaired"])
    bad = json.dumps(changed("trl_unpaired", "label", "yes"))
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([good, bad, "{", good]))
    assert validate("trl_unpaired", path) == (
        "line 2: label: must be true or false, not a string\n"
        "line 3: not JSON: Expecting property name enclosed in double quotes at character 3\n"
        "FAILED 2 of 4 lines are not trl_unpaired"
    )
    path.write_text(good)
    assert validate("trl_unpaired", path) == "1 lines, all of them trl_unpaired\n"
    path.write_text("")
    assert "FAILED 0 of 0 lines" in validate("trl_unpaired", path)


def test_the_command_stops_showing_and_goes_on_counting(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("{}\n" * 500)
    said = validate("hh_rlhf", path, "--most", "3")
    assert said.count("line ") == 3
    assert said.endswith("500 of 500 lines are not hh_rlhf")
