"""Whether what a vote says fits the answers that it is about, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plumbline.collect import asking
from plumbline.collect.models import Ballot
from plumbline.transfer import checks
from plumbline.transfer.checks import Problem
from plumbline.transfer.rows import MOST_ANSWERS

MOST_NOTE, LONGEST_FINISH = 300, 12  # characters of a reason to skip, and to have ended


def check_answers(record: Mapping[str, Any]) -> Iterator[Problem]:
    """A list of 1 to 9 answers in the order of their slots."""
    answers = record.get("answers")
    if not isinstance(answers, list) or not 1 <= len(answers) <= MOST_ANSWERS:
        yield Problem("answers", f"must be a list of 1 to {MOST_ANSWERS} answers")
        return
    for n, answer in enumerate(answers):
        path = f"answers[{n}]"
        if not isinstance(answer, Mapping):
            yield Problem(path, f"must be an object, not {checks.kind(answer)}")
            continue
        for name in ("id", "text", "origin", "finish_reason"):
            yield from checks.text(answer, name, path, empty=name != "id")
        if answer.get("slot") != n or answer.get("slot") is True:
            yield Problem(f"{path}.slot", f"must be {n}: answers are listed by their slots")
        if len(str(answer.get("finish_reason"))) > LONGEST_FINISH:
            yield Problem(f"{path}.finish_reason", f"has more than {LONGEST_FINISH} characters")
        if not isinstance(answer.get("sampling"), Mapping):
            yield Problem(f"{path}.sampling", "must be an object")
        if not isinstance(answer.get("policy", 0), str | None):
            yield Problem(f"{path}.policy", "must be a policy's name, or null")
    ids = [one.get("id") for one in answers if isinstance(one, Mapping)]
    if len({str(one) for one in ids}) < len(ids):
        yield Problem("answers", "two answers have the same id")


def check_slots(record: Mapping[str, Any], slots: Sequence[int]) -> Iterator[Problem]:
    """Orders of the slots: the one on the screen, and the one that was said."""
    if not _same(record.get("shown"), slots):
        yield Problem("shown", f"must name each of the slots {list(slots)} once")
    ranking, ranked = record.get("ranking"), record.get("outcome") == Ballot.Outcome.RANKED
    if not isinstance(ranking, list) or not all(isinstance(one, list) and one for one in ranking):
        yield Problem("ranking", "must be a list of groups of slots, best first")
    elif ranked and not _same([slot for group in ranking for slot in group], slots):
        yield Problem("ranking", f"must place each of the slots {list(slots)} once")
    elif ranking and not ranked:
        yield Problem("ranking", f"must be empty where the outcome is {record['outcome']}")
    yield from checks.one_of(record, "strength", (None, 1, 2, 3))
    yield from checks.one_of(record, "mark", (None, *asking.MARKS))
    p = record.get("probability")
    number = isinstance(p, int | float) and not isinstance(p, bool)
    if p is not None and not (number and 0 <= p <= 1):
        yield Problem("probability", f"must be a number from 0 to 1, or null, not {p!r}")
    if len(record["reason"]) > MOST_NOTE:
        yield Problem("reason", f"has more than {MOST_NOTE} characters")


def check_said(record: Mapping[str, Any]) -> Iterator[Problem]:
    """Ratings, corrections, marked places and reasons, of answers that are known to be well."""
    texts = {one["slot"]: one["text"] for one in record["answers"]}
    for name in ("ratings", "corrections"):
        value = record.get(name)
        if not isinstance(value, Mapping) or value.keys() - {str(slot) for slot in texts}:
            yield Problem(name, f"must be an object by slot ({', '.join(map(str, texts))})")
            return
    for slot, given in record["ratings"].items():
        if not isinstance(given, Mapping) or not all(type(one) is int for one in given.values()):
            yield Problem(f"ratings.{slot}", "must be whole numbers by criterion")
    for slot in record["corrections"]:
        yield from checks.text(record["corrections"], slot, "corrections")
    reasons = record.get("reasons")
    if not isinstance(reasons, list):
        yield Problem("reasons", f"must be a list, not {checks.kind(reasons)}")
    else:
        for n, reason in enumerate(reasons):
            yield from checks.string(reason, f"reasons[{n}]")
    spans = record.get("spans")
    if not isinstance(spans, list) or len(spans) > asking.MOST_SPANS:
        yield Problem("spans", f"must be a list of {asking.MOST_SPANS} places at most")
        return
    for n, span in enumerate(spans):
        try:
            asking.check_spans([asking.Span(**span)], texts)
            yield from checks.string(span.get("note", ""), f"spans[{n}].note")
        except TypeError:
            yield Problem(f"spans[{n}]", "must have slot, start, end and label, and a note if any")
        except ValueError as error:
            yield Problem(f"spans[{n}]", str(error))


def _same(value: object, slots: Sequence[int]) -> bool:
    """Each slot once, in any order."""
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        return False
    return sorted(value) == list(slots)
