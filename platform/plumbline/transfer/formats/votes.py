"""Our own format: one JSON object a vote, with everything that the other formats drop.

What was shown in which order, who wrote each answer with which settings, the versions of settings
and guidelines, active time, strength, ties and "all bad" as they were said, marks, ratings,
corrections, marked places, reasons, what a vote revises, and which rounds trained on it. It comes
back by the same importer as every other format; only the rounds stay behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from plumbline.collect import asking
from plumbline.collect.models import Ballot, Comparison
from plumbline.transfer import checks
from plumbline.transfer.checks import Problem
from plumbline.transfer.outgoing import TRAINING_KINDS, Export, Item
from plumbline.transfer.rows import Answer, Asked, ImportedRow, Vote
from plumbline.transfer.voted import check_answers, check_said, check_slots

SOURCE = ""
LICENCE = ""
TITLE = "Plumbline votes"
ABOUT = "Everything that is known of each vote. The only format that loses nothing."
TAKES = ("revisions", "quality", "names")
TIES = ()
SCHEMA = "plumbline-vote/1"
SAID = (
    *("outcome", "ranking", "strength", "probability", "mark", "ratings", "corrections", "spans"),
    *("reasons", "reason", "comment", "shown", "settings_version", "active_ms", "revision"),
)
READ = (
    *(*SAID, "kind", "strategy", "p_select", "why", "claimed_at", "cast_at", "annotator"),
    *("id", "standing", "revises", "comparison", "campaign", "prompt", "answers"),
)
FIELDS = ("schema", *READ)
OUTCOMES = tuple(Ballot.Outcome.values)


def rows(item: Item, export: Export) -> Iterator[dict[str, Any]]:
    shared = _shared(item, export)
    for ballot in item.ballots:
        yield {
            "schema": SCHEMA,
            "id": str(ballot.pk),
            **shared,
            "answers": _answers(item, ballot, export),
            **{name: getattr(ballot, name) for name in SAID},
            "revises": str(ballot.revises_id) if ballot.revises_id else None,
            "standing": item.page.stands(ballot),
            "annotator": export.annotator(ballot.annotator_id),
            "annotator_kind": export.person(ballot.annotator_id).kind,
            "guidelines_version": export.guidelines_version(
                export.campaign(item.comparison), ballot.settings_version
            ),
            "claimed_at": ballot.claimed_at.isoformat(),
            "cast_at": ballot.cast_at.isoformat() if ballot.cast_at else None,
            "rounds": [export.round(pk) for pk in item.page.rounds.get(ballot.pk, [])],
        }


def _shared(item: Item, export: Export) -> dict[str, Any]:
    """What is the same in all votes on a comparison."""
    comparison, campaign = item.comparison, export.campaign(item.comparison)
    return {
        "comparison": comparison.pk,
        "kind": comparison.kind,
        "strategy": comparison.strategy,
        "p_select": comparison.p_select,
        "why": comparison.why,
        "campaign": {
            "id": campaign.pk,
            "name": campaign.name,
            "purpose": campaign.purpose,
            "asks": campaign.asks,
            "criteria": campaign.criteria,
        },
        "prompt": {
            "messages": comparison.prompt.messages,
            "digest": comparison.prompt.digest,
            "split": comparison.prompt.split,
        },
    }


def _answers(item: Item, ballot: Ballot, export: Export) -> list[dict[str, Any]]:
    found = []
    for slot, answer in sorted(item.answers.items()):
        policy = export.policies.get(answer.policy_id) if answer.policy_id else None
        position = ballot.shown.index(slot)
        found.append(
            {
                "slot": slot,
                "position": position,
                "side": ("left", "right")[position] if len(ballot.shown) == 2 else None,
                "id": str(answer.pk),
                "text": answer.text,
                "policy": policy.name if policy else None,
                "policy_sha256": policy.sha256 if policy else None,
                "origin": answer.origin,
                "sampling": answer.sampling,
                "finish_reason": answer.finish_reason,
            }
        )
    return found


def parse(record: Mapping[str, Any]) -> ImportedRow:
    checks.refuse(check(record))
    if record["kind"] not in TRAINING_KINDS:
        raise ValueError(f"kind: a {record['kind']} comparison is not imported as training data")
    prompt, campaign = record["prompt"], record["campaign"]
    answers = tuple(
        Answer(
            text=one["text"],
            origin=one["policy"] or one["origin"],
            key=one["id"],
            finish_reason=one["finish_reason"],
            sampling=one["sampling"],
        )
        for one in record["answers"]
    )
    vote = Vote(
        **{name: record[name] for name in SAID},
        **{name: record[name] for name in ("kind", "strategy", "p_select", "why")},
        **{name: record[name] for name in ("claimed_at", "cast_at", "annotator", "standing")},
        revises=record["revises"] is not None,
        comparison=f"{record['comparison']}/{answers[0].key}",
        asked=Asked(**{name: campaign[name] for name in ("name", "purpose", "asks", "criteria")}),
    )
    return ImportedRow(
        messages=tuple(
            {"role": one["role"], "content": one["content"]} for one in prompt["messages"]
        ),
        answers=answers,
        split=prompt["split"],
        vote=vote,
    )


def check(record: Mapping[str, Any]) -> Iterator[Problem]:
    if record.get("schema") != SCHEMA:
        yield Problem("schema", f"must be {SCHEMA!r}, not {record.get('schema')!r}")
        return
    found = [Problem(name, "is missing") for name in READ if name not in record]
    found = found or [*checks.storable(record)]
    found = found or [*_check_around(record), *check_answers(record)]
    yield from found
    if not found:
        slots = list(range(len(record["answers"])))
        found = list(check_slots(record, slots))
        yield from found
    if not found:
        yield from check_said(record)


def _check_around(record: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything but the answers and what was said of them."""
    for name in ("id", "annotator", "strategy", "reason", "comment"):
        yield from checks.text(record, name, empty=name in ("reason", "comment"))
    yield from checks.one_of(record, "outcome", OUTCOMES)
    yield from checks.one_of(record, "kind", tuple(Comparison.Kind.values))
    for name in ("comparison", "settings_version", "revision"):
        yield from checks.whole(record, name, 1)
    yield from checks.whole(record, "active_ms", optional=True)
    for name, types in {"p_select": (int, float), "why": dict, "standing": bool}.items():
        if not isinstance(record.get(name), types):  # type: ignore[arg-type]
            yield Problem(name, f"cannot be {checks.kind(record.get(name))}")
    if not isinstance(record.get("revises", 0), str | None):
        yield Problem("revises", "must be the id of the vote before, or null")
    for name in ("claimed_at", "cast_at"):
        yield from _check_time(record, name)
    prompt = record.get("prompt")
    if isinstance(prompt, Mapping):
        yield from checks.messages(prompt, "messages", "prompt")
        if prompt.get("split") not in ("train", "heldout"):
            yield Problem("prompt.split", f"must be train or heldout, not {prompt.get('split')!r}")
    else:
        yield Problem("prompt", f"must be an object, not {checks.kind(prompt)}")
    campaign = record.get("campaign")
    if isinstance(campaign, Mapping):
        yield from checks.text(campaign, "name", "campaign", empty=False)
        if campaign.get("purpose") not in ("train", "evaluate"):
            yield Problem("campaign.purpose", "must be train or evaluate")
        try:
            asking.check_asks(campaign["asks"], asking.criteria(campaign["criteria"]))
        except (KeyError, TypeError):
            yield Problem("campaign", "must have asks and criteria as lists")
        except ValueError as error:
            yield Problem("campaign", str(error))
    else:
        yield Problem("campaign", f"must be an object, not {checks.kind(campaign)}")


def _check_time(record: Mapping[str, Any], name: str) -> Iterator[Problem]:
    value = record.get(name)
    try:
        time = datetime.fromisoformat(value if isinstance(value, str) else "")
        if time.tzinfo is not None and 1970 < time.year < 9000:
            return
    except ValueError:
        pass
    yield Problem(name, f"must be a time with its zone in ISO format, not {value!r}")
