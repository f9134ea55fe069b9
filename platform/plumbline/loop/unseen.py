"""Out of the database: the votes that a reward model has not seen, and the answers by which models
are compared over rounds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from plumbline.collect import votes as ballots_to_votes
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt
from plumbline.loop import history, holdout, rows
from plumbline.loop.models import Round

PROBE_PROMPTS, PROBE_ANSWERS = 300, 8


@dataclass(frozen=True)
class Vote:
    """What some voters said of two answers, the share `p` of them for the first."""

    first: UUID
    second: UUID
    p: float
    weight: float
    prompt: int
    longer: float  # tokens that the first answer is longer
    part: str  # of the held-out votes; "" where it trains
    people: bool  # not AI judges' nor imported
    fresh: bool  # cast in this round


def votes(round: Round) -> list[Vote]:
    """Votes of the experiment so far that train no reward model, and all new ones of this round."""
    ballots = list(history.aged_ballots(round))
    apart = holdout.annotators(ballots)
    kinds = dict(history.ballots(round).values_list("annotator_id", "annotator__kind"))
    earlier = history.before(round)
    old = set(Ballot.objects.filter(rounds__in=earlier).values_list("pk", flat=True))
    found: list[Vote] = []
    for comparison, cast in rows.by_comparison(ballots):
        groups: dict[tuple[str, bool, bool], list[Ballot]] = {}
        for ballot in cast:
            people = kinds[ballot.annotator_id] not in holdout.ARTIFICIAL
            part = holdout.part(comparison.prompt, ballot, apart)
            fresh = ballot.pk not in old
            if part or fresh:
                groups.setdefault((part, people, fresh), []).append(ballot)
        for (part, people, fresh), some in sorted(groups.items(), key=lambda one: one[0]):
            found += _votes(comparison, some, part, people, fresh)
    return found


def probe(round: Round) -> list[Completion]:
    """The fixed answers models are compared on: those of the experiment's first round, at most
    300 prompts with 8 answers each."""
    first = history.of(round)[0]
    prompts = first.prompts.order_by("digest").values_list("pk", flat=True)
    sampled = rows.sampled(first)
    found: list[Completion] = []
    for prompt in prompts[:PROBE_PROMPTS]:
        answers = sampled.get(prompt) or list(
            Completion.objects.filter(prompt=prompt, comparison__ballots__rounds=first)
            .order_by("pk")
            .distinct()
        )
        if len(answers) > 1:
            found += answers[:PROBE_ANSWERS]
    return found


def fingerprint(probe: list[Completion]) -> dict[str, Any]:
    """Which answers these are, in one line of hash."""
    ids = "\n".join(sorted(str(one.pk) for one in probe))
    return {
        "answers": len(probe),
        "prompts": len({one.prompt_id for one in probe}),
        "sha256": hashlib.sha256(ids.encode()).hexdigest(),
    }


def length(answer: Completion) -> float:
    """In tokens; in words where text was imported."""
    return float(len(answer.token_ids or answer.text.split()))


def _votes(
    comparison: Comparison, ballots: list[Ballot], part: str, people: bool, fresh: bool
) -> list[Vote]:
    answers: list[Completion] = [slot.completion for slot in comparison.slots.all()]
    prompt: Prompt = comparison.prompt
    return [
        Vote(
            first=answers[i].pk,
            second=answers[j].pk,
            p=p,
            weight=weight,
            prompt=prompt.pk,
            longer=length(answers[i]) - length(answers[j]),
            part=part,
            people=people,
            fresh=fresh,
        )
        for i, j, p, weight in ballots_to_votes.preferences(ballots)
    ]
