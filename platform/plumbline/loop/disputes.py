"""Pairs of answers about which a reward model's members disagree, or the model and people.

Found from what is stored alone: the model's scores, each member's, and the votes that stand. Of
each prompt only the most disputed pair is shown, so that one hard prompt does not fill a page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from uuid import UUID

from align import ensemble
from align.measure.pairs import sigmoid
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Candidate, Comparison, Completion, Prompt
from plumbline.judges.models import Score
from plumbline.loop import campaigns, holdout, rows
from plumbline.policies.models import RewardModel

MEMBERS, PEOPLE = "members", "people"
KINDS = {PEOPLE: "The model and people", MEMBERS: "Members of the ensemble"}
EVERY, HELDOUT, WRONG = "all", "heldout", "wrong"
FILTERS = {
    EVERY: "All pairs",
    HELDOUT: "Prompts that train no reward model",
    WRONG: "Opposite favourites",
}


@dataclass(frozen=True)
class Dispute:
    """Two answers to a prompt. `chance` is the model's P(first is better); of members, `agree` is
    the share that put the first before the second, of people the share of their votes. `size` is
    what disputes are ordered by."""

    prompt: int
    first: UUID
    second: UUID
    chance: float
    agree: float
    votes: float  # people's, on this pair; 0 where none
    members: tuple[tuple[float, ...], tuple[float, ...]]
    scores: tuple[float, float]
    size: float
    heldout: bool

    @property
    def opposite(self) -> bool:
        return (self.chance - 0.5) * (self.agree - 0.5) < 0


@dataclass(frozen=True)
class Told:
    """A dispute with what was asked and answered, for a page."""

    dispute: Dispute
    prompt: Prompt
    first: Completion
    second: Completion


def disputes(model: RewardModel, kind: str, only: str = EVERY) -> list[Dispute]:
    """The most disputed first. `kind` is MEMBERS or PEOPLE; `only` a key of FILTERS."""
    scores = {
        answer: (prompt, value, tuple(members))
        for answer, prompt, value, members in Score.objects.filter(reward_model=model).values_list(
            "completion_id", "completion__prompt_id", "value", "members"
        )
    }
    found = _by_members(model, scores) if kind == MEMBERS else _by_people(model, scores)
    worst: dict[int, Dispute] = {}
    for one in found:
        held = worst.get(one.prompt)
        if _kept(one, only) and (held is None or one.size > held.size):
            worst[one.prompt] = one
    return sorted(worst.values(), key=lambda one: (-one.size, one.prompt))


def told(found: Sequence[Dispute]) -> list[Told]:
    """With their texts, in two queries."""
    answers = Completion.objects.in_bulk([pk for one in found for pk in (one.first, one.second)])
    prompts = Prompt.objects.in_bulk([one.prompt for one in found])
    return [
        Told(one, prompts[one.prompt], answers[one.first], answers[one.second]) for one in found
    ]


Scores = Mapping[UUID, tuple[int, float, tuple[float, ...]]]


def _by_members(model: RewardModel, scores: Scores) -> Iterator[Dispute]:
    """By how much a vote would tell of which member is right (BALD)."""
    by_prompt: dict[int, list[UUID]] = defaultdict(list)
    for answer, (prompt, _, members) in scores.items():
        if len(members) > 1:
            by_prompt[prompt].append(answer)
    apart = _apart(by_prompt)
    for prompt, answers in by_prompt.items():
        for first, second in combinations(sorted(answers), 2):
            mine, theirs = scores[first][2], scores[second][2]
            if len(mine) == len(theirs):
                size = ensemble.information(mine, theirs, model.temperature)
                agree = ensemble.share(mine, theirs)
                yield _dispute(model, scores, first, second, agree, 0.0, size, prompt in apart)


def _by_people(model: RewardModel, scores: Scores) -> Iterator[Dispute]:
    """By how far the model's chance is from the share of people's votes."""
    slots: dict[int, dict[int, UUID]] = defaultdict(dict)
    candidates = Candidate.objects.filter(
        completion__scores__reward_model=model, comparison__kind__in=votes.COUNTED
    )
    for comparison, slot, answer in candidates.values_list(
        "comparison_id", "slot", "completion_id"
    ):
        slots[comparison][slot] = answer
    met = sorted(pk for pk, of in slots.items() if len(of) > 1)
    apart = _apart({prompt for prompt, _, _ in scores.values()})
    for at in range(0, len(met), rows.BATCH):
        page = met[at : at + rows.BATCH]
        cast: dict[int, list[Ballot]] = defaultdict(list)
        standing = campaigns.evidence(Comparison.objects.filter(pk__in=page))
        people = standing.exclude(annotator__kind__in=holdout.ARTIFICIAL).order_by("pk")
        for ballot in people:
            cast[ballot.comparison_id].append(ballot)
        for comparison, ballots in sorted(cast.items()):
            of = slots[comparison]
            for i, j, p, weight in votes.preferences(ballots):
                if i in of and j in of:
                    first, second = of[i], of[j]
                    chance = sigmoid((scores[first][1] - scores[second][1]) / model.temperature)
                    prompt = scores[first][0]
                    yield _dispute(
                        model, scores, first, second, p, weight, abs(chance - p), prompt in apart
                    )


def _dispute(
    model: RewardModel,
    scores: Scores,
    first: UUID,
    second: UUID,
    agree: float,
    weight: float,
    size: float,
    heldout: bool,
) -> Dispute:
    prompt, mine, members = scores[first]
    _, theirs, others = scores[second]
    chance = sigmoid((mine - theirs) / model.temperature)
    return Dispute(
        prompt=prompt,
        first=first,
        second=second,
        chance=chance,
        agree=agree,
        votes=weight,
        members=(members, others),
        scores=(mine, theirs),
        size=size,
        heldout=heldout,
    )


def _apart(prompts: Iterable[int]) -> set[int]:
    """Those of these prompts whose votes train no reward model."""
    wanted = sorted(prompts)
    found: set[int] = set()
    for at in range(0, len(wanted), rows.BATCH):
        some = Prompt.objects.filter(pk__in=wanted[at : at + rows.BATCH]).only("pk", "digest")
        found |= {one.pk for one in some if holdout.of_prompt(one)}
    return found


def _kept(one: Dispute, only: str) -> bool:
    if only == HELDOUT:
        return one.heldout
    return one.opposite if only == WRONG else True
