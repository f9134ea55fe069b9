"""Feedback and comparisons as they come over the wire: checked field by field, made into columns.

Like a request for an answer, whatever is not known is refused by name. Texts that could train a
model are refused without `consent_train`, not taken and dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.gateway import ids
from plumbline.gateway.wire import ApiError, bad, messages_of, object_of

LONGEST_ID, LONGEST_USER, LONGEST_KEY, LONGEST_VALUE = 100, 256, 40, 256
LONGEST_COMMENT, LONGEST_TEXT = 4_000, 100_000
MOST_RESPONSES, MOST_CHOICES = 9, 32
HIGHEST_SCORE = 1e6
LONGEST_LINK = 30 * 24 * 3600  # seconds
SHORTEST_LINK, USUAL_LINK = 60, 24 * 3600
REGENERATED = "regenerated"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")

SAID = {"key", "score", "value", "comment", "correction", "text", "consent_train"}
FEEDBACK = SAID | {"completion_id", "choice", "end_user", "feedback_id"}
COMPARISON = {
    *("comparison_id", "prompt", "messages", "responses", "ranking", "chosen", "tie_groups"),
    *("comment", "consent_train", "end_user"),
}
LINK = {"completion_id", "choice", "end_user", "expires_in"}


@dataclass(frozen=True)
class Wish:
    """A link that was asked for."""

    completion_id: str
    choice: int
    end_user: str
    seconds: int


def feedback(raw: bytes, project: int) -> tuple[str, dict[str, Any]]:
    """The name that the client gave it, or "", and the columns of a Feedback. Raises ApiError."""
    given = _known(raw, FEEDBACK)
    name = _name(given, "feedback_id")
    about = {
        "completion_id": _completion(given),
        "choice": _choice(given.get("choice"), "choice"),
        "end_user": _end_user(given, project),
    }
    return name, {**about, **_said(given)}


def by_link(raw: bytes) -> dict[str, Any]:
    """Columns of a Feedback that a link's holder decides. Raises ApiError."""
    return _said(_known(raw, SAID))


def link(raw: bytes, project: int) -> Wish:
    given = _known(raw, LINK)
    seconds = _whole(given.get("expires_in", USUAL_LINK), "expires_in", SHORTEST_LINK, LONGEST_LINK)
    choice = _choice(given.get("choice"), "choice")
    return Wish(_completion(given), choice, _end_user(given, project), seconds)


def forgotten(raw: bytes, project: int) -> str:
    """The hash of the end user who is to be forgotten."""
    given = _known(raw, {"end_user"})
    return _end_user({"end_user": _required(given, "end_user")}, project)


def comparison(raw: bytes, project: int) -> tuple[str, dict[str, Any]]:
    """The name that the client gave it, or "", and the columns of a ClientComparison."""
    given = _known(raw, COMPARISON)
    responses = _responses(_required(given, "responses"))
    messages = _asked(given)
    consent = _consent(given)
    texts = messages or any("text" in one for one in responses)
    if texts and not consent:
        raise _without_consent("Texts are")
    if not messages and not any("completion_id" in one for one in responses):
        raise bad("prompt", "must be given where no response is a completion of ours")
    columns = {
        "messages": messages,
        "responses": responses,
        "ranking": _ranking(given, len(responses)),
        "comment": _text(given.get("comment", ""), "comment", LONGEST_COMMENT, least=0),
        "consent_train": consent,
        "end_user": _end_user(given, project),
    }
    return _name(given, "comparison_id"), columns


def _known(raw: bytes, names: set[str]) -> dict[str, Any]:
    given = object_of(raw)
    for name in given:
        if name not in names:
            raise ApiError(
                400, f"Unknown parameter: {name!r}.", param=name, code="unknown_parameter"
            )
    return {name: value for name, value in given.items() if value is not None}


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    key = _text(_required(given, "key"), "key", LONGEST_KEY)
    correction, consent = _correction(given), _consent(given)
    if correction and not consent:
        raise _without_consent("A correction is")
    value = _value(given["value"]) if "value" in given else None
    return {
        "key": key,
        "score": _score(given["score"]) if "score" in given else None,
        "value": value,
        "other": _regenerated(value) if key == REGENERATED else "",
        "comment": _text(given.get("comment", ""), "comment", LONGEST_COMMENT, least=0),
        "correction": correction,
        "consent_train": consent,
    }


def _regenerated(value: object) -> str:
    """The answer that was written instead; "" where nothing is known of it."""
    if value is None or value is True:
        return ""
    return _text(value, "value", 80)


def _correction(given: Mapping[str, Any]) -> str:
    """`text`, or `correction` as a string, {"text"} or {"messages"}, whose last is the answer."""
    if "text" in given and "correction" in given:
        raise bad("text", "may not be given together with correction")
    if "text" in given:
        return _text(given["text"], "text", LONGEST_TEXT)
    found = given.get("correction", "")
    if isinstance(found, dict):
        if set(found) == {"messages"}:
            turns = messages_of("correction.messages", found["messages"])
            if turns[-1]["role"] != "assistant":
                raise bad("correction.messages", "must end with the assistant's message")
            found = turns[-1]["content"]
        elif set(found) == {"text"}:
            found = found["text"]
        else:
            raise bad("correction", "must be a string, or an object with text or with messages")
    return _text(found, "correction", LONGEST_TEXT, least=0 if "correction" not in given else 1)


def _responses(given: object) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not 2 <= len(given) <= MOST_RESPONSES:
        raise bad("responses", f"must be a list of 2 to {MOST_RESPONSES} responses")
    return [_response(f"responses[{i}]", one) for i, one in enumerate(given)]


def _response(name: str, given: object) -> dict[str, Any]:
    if isinstance(given, str):
        return {"text": _text(given, name, LONGEST_TEXT)}
    if not isinstance(given, dict) or ("text" in given) == ("completion_id" in given):
        raise bad(name, "must be a text, or an object with either text or completion_id")
    if unknown := sorted(set(given) - {"text", "completion_id", "choice"}):
        said = f"Unknown parameter: '{name}.{unknown[0]}'."
        raise ApiError(400, said, param=name, code="unknown_parameter")
    if "text" in given:
        return {"text": _text(given["text"], f"{name}.text", LONGEST_TEXT)}
    return {
        "completion_id": _text(given["completion_id"], f"{name}.completion_id", 80),
        "choice": _choice(given.get("choice"), f"{name}.choice"),
    }


def _asked(given: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that was answered; [] where it is that of a stored completion."""
    if "prompt" in given and "messages" in given:
        raise bad("prompt", "may not be given together with messages")
    if "prompt" in given:
        return [{"role": "user", "content": _text(given["prompt"], "prompt", LONGEST_TEXT)}]
    if "messages" not in given:
        return []
    found = messages_of("messages", given["messages"])
    for i, one in enumerate(found):
        _text(one["content"], f"messages[{i}].content", LONGEST_TEXT, least=0)
    return found


def _ranking(given: Mapping[str, Any], count: int) -> list[list[int]]:
    """Groups of indices, best first, each index in one of them."""
    ways = [name for name in ("ranking", "tie_groups", "chosen") if name in given]
    if len(ways) != 1:
        raise bad("ranking", "or one of chosen and tie_groups must be given, and only one of them")
    way = ways[0]
    if way == "chosen":
        best = _whole(given["chosen"], "chosen", 0, count - 1)
        return [[best], [i for i in range(count) if i != best]]
    found = given[way]
    if not isinstance(found, list):
        raise bad(way, "must be a list, the best first")
    groups = [one if isinstance(one, list) else [one] for one in found]
    every = [i for group in groups for i in group]
    whole = all(isinstance(i, int) and not isinstance(i, bool) for i in every)
    if not whole or sorted(every) != list(range(count)) or not all(groups):
        raise bad(way, f"must name each of the responses 0 to {count - 1} once")
    return groups


def _completion(given: Mapping[str, Any]) -> str:
    return _text(_required(given, "completion_id"), "completion_id", 80)


def _choice(given: object, name: str) -> int:
    return _whole(0 if given is None else given, name, 0, MOST_CHOICES - 1)


def _end_user(given: Mapping[str, Any], project: int) -> str:
    if "end_user" not in given:
        return ""
    return ids.end_user(project, _text(given["end_user"], "end_user", LONGEST_USER))


def _consent(given: Mapping[str, Any]) -> bool:
    found = given.get("consent_train", False)
    if not isinstance(found, bool):
        raise bad("consent_train", "must be true or false")
    return found


def _name(given: Mapping[str, Any], field: str) -> str:
    return name(given[field], field) if field in given else ""


def name(given: object, field: str) -> str:
    """An id that a client chose. Raises ApiError naming `field`."""
    if not isinstance(given, str) or len(given) > LONGEST_ID or not ID.fullmatch(given):
        raise bad(
            field, f"must be at most {LONGEST_ID} letters, digits, '_', '.', ':' and '-', as a UUID"
        )
    return given


def _score(given: object) -> float:
    if isinstance(given, bool):
        return float(given)
    if not isinstance(given, int | float):
        raise bad("score", "must be a number")
    if abs(given) > HIGHEST_SCORE:  # of any size, as JSON's integers are
        raise bad("score", f"must be from {-HIGHEST_SCORE:g} to {HIGHEST_SCORE:g}")
    return float(given)


def _value(given: object) -> str | float | bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, int | float) and abs(given) <= HIGHEST_SCORE:
        return given
    if isinstance(given, str):
        return _text(given, "value", LONGEST_VALUE)
    raise bad("value", "must be a string, a number, true or false")


def _whole(given: object, name: str, least: int, most: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise bad(name, "must be an integer")
    if not least <= given <= most:
        raise bad(name, f"must be from {least} to {most}")
    return given


def _text(given: object, name: str, most: int, *, least: int = 1) -> str:
    if not isinstance(given, str) or not least <= len(given) <= most:
        raise bad(name, f"must be a string of {least} to {most} characters")
    if "\0" in given:
        raise bad(name, "may not hold the character NUL")
    return given


def _required(given: Mapping[str, Any], name: str) -> object:
    if name not in given:
        raise ApiError(400, f"Missing required parameter: {name!r}.", param=name)
    return given[name]


def _without_consent(what: str) -> ApiError:
    said = f"{what} taken only with consent_train: true."
    return ApiError(400, said, param="consent_train", code="consent_required")
