"""What a person may say of a comparison, and the sentences that refuse it."""

from __future__ import annotations

from dataclasses import dataclass, field

from plumbline.collect import asking
from plumbline.collect.models import Ballot

Outcome = Ballot.Outcome


class Refused(ValueError):
    """A ballot that cannot be taken; the sentence is for the person who sent it."""


class TooLate(Refused):
    """The lease ended and somebody else has the seat."""


class Capped(Refused):
    """The campaign takes no more votes from this person for now."""


class AlreadyCast(Refused):
    """This ballot holds another answer."""


class Frozen(Refused):
    """A round has trained on this vote."""


class ForeignKeyUsed(Refused):
    """The idempotency key belongs to another ballot."""


@dataclass(frozen=True)
class Verdict:
    """What a person says of a comparison. `ranking` lists tie groups of slots, best first. What is
    said by slot has the slot's number as a string, as JSON does."""

    outcome: str
    ranking: list[list[int]] = field(default_factory=list)
    strength: int | None = None
    mark: int | None = None
    ratings: dict[str, dict[str, int]] = field(default_factory=dict)
    corrections: dict[str, str] = field(default_factory=dict)
    spans: list[asking.Span] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reason: str = ""
    comment: str = ""
    active_ms: int | None = None


def check(verdict: Verdict, ballot: Ballot) -> None:
    """Raises ValueError for a verdict that does not fit the comparison or its campaign."""
    slots = [slot for group in verdict.ranking for slot in group]
    if verdict.outcome == Outcome.ALL_BAD:
        if slots:
            raise ValueError("When all answers are bad there is nothing to rank.")
    elif verdict.outcome == Outcome.RANKED:
        if sorted(slots) != sorted(ballot.shown) or not all(verdict.ranking):
            raise ValueError("A ranking must place each answer exactly once.")
    elif verdict.outcome == Outcome.ABSOLUTE:
        if slots or asking.COMPARE in ballot.comparison.campaign.asks:
            raise ValueError("This campaign asks which answer is better; say that as well.")
    else:
        raise ValueError("Say which answer is better, that they tie, or that all are bad.")
    if verdict.strength not in (None, 1, 2, 3):
        raise ValueError("Strength is 1 (slightly), 2 (clearly) or 3 (much better).")
    _check_asked(verdict, ballot)


def _check_asked(verdict: Verdict, ballot: Ballot) -> None:
    """What is said beside the order is what the campaign asks for, and fits the answers."""
    campaign = ballot.comparison.campaign
    asks, criteria = set(campaign.asks), asking.criteria(campaign.criteria)
    if verdict.mark is not None and (asking.MARK not in asks or verdict.mark not in asking.MARKS):
        raise ValueError("The best answer is good, ok or bad, where a campaign asks for it.")
    if asking.RATE in asks and verdict.outcome != Outcome.ALL_BAD:
        asking.check_ratings(verdict.ratings, ballot.shown, criteria)
    elif verdict.ratings:
        raise ValueError("This campaign asks for no ratings.")
    slots = {str(slot) for slot in ballot.shown}
    if verdict.corrections and (asking.CORRECT not in asks or verdict.corrections.keys() - slots):
        raise ValueError("This campaign asks for no such correction.")
    if verdict.outcome == Outcome.ABSOLUTE and not (verdict.ratings or verdict.corrections):
        raise ValueError("Rate the answers or correct one.")
    if verdict.spans:
        if asking.SPANS not in asks:
            raise ValueError("This campaign asks for no marks on answers.")
        answers = ballot.comparison.replies
        asking.check_spans(verdict.spans, {one.slot: one.completion.text for one in answers})
