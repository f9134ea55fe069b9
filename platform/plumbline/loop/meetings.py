"""Where policies met: answers of two of them to one prompt, and who was preferred by whom.

Three kinds of judges are never mixed: people, AI judges, and reward models. People's votes are
those that stand, on comparisons asked in earnest; pairs that a strategy picked by what models say
of their answers are left out, because such a pair does not show how often a policy wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from django.db.models.functions import Length

from align.measure.ratings import Meeting
from plumbline.accounts.models import User
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Candidate, Comparison, Prompt
from plumbline.judges.models import Score
from plumbline.loop import campaigns, rows
from plumbline.policies.models import Policy

PEOPLE, AI, REWARD = "people", "ai", "reward"
JUDGES = {PEOPLE: "People", AI: "AI judges", REWARD: "Reward models"}
BY_ANSWERS = ("informed", "thompson")  # parts of a pick that looked at what models say
MOST = 12  # policies looked at together


def meetings(policies: Sequence[Policy], judge: str) -> list[Meeting]:
    """Of these policies with each other, by one kind of judge. A meeting's `p` is the share of the
    votes for the first, of a reward model 1, 0 or 1/2; lengths are in characters."""
    chosen = {policy.pk for policy in policies}
    if len(chosen) < 2:
        return []
    return list(by_reward_models(chosen) if judge == REWARD else by_votes(chosen, judge))


def by_votes(chosen: set[UUID], judge: str) -> Iterator[Meeting]:
    """A meeting for each two answers that somebody ranked; of several voters' their share."""
    slots: dict[int, dict[int, tuple[UUID, int]]] = defaultdict(dict)
    found = (
        Candidate.objects.filter(completion__policy__in=chosen, comparison__kind__in=votes.COUNTED)
        .annotate(length=Length("completion__text"))
        .values_list("comparison_id", "slot", "completion__policy_id", "length", "comparison__why")
    )
    for comparison, slot, policy, length, why in found:
        if not (isinstance(why, dict) and why.get("part") in BY_ANSWERS):
            slots[comparison][slot] = (policy, length)
    met = sorted(pk for pk, of in slots.items() if len({policy for policy, _ in of.values()}) > 1)
    for page in _pages(met):
        prompts = dict(Comparison.objects.filter(pk__in=page).values_list("pk", "prompt_id"))
        cast: dict[int, list[Ballot]] = defaultdict(list)
        standing = campaigns.evidence(Comparison.objects.filter(pk__in=page))
        for ballot in standing.select_related("annotator").order_by("pk"):
            if _said_by(ballot) == judge:
                cast[ballot.comparison_id].append(ballot)
        for comparison in sorted(cast):
            of = slots[comparison]
            for i, j, p, weight in votes.preferences(cast[comparison]):
                if i in of and j in of and of[i][0] != of[j][0]:
                    longer = float(of[i][1] - of[j][1])
                    group = prompts[comparison]
                    yield Meeting(of[i][0], of[j][0], p, group, weight, longer)


def by_reward_models(chosen: set[UUID]) -> Iterator[Meeting]:
    """Of each reward model and held-out prompt, every two policies once: by its score of each
    one's newest answer. Scores of two models are never compared."""
    heard: dict[tuple[UUID, int], dict[UUID, tuple[float, int]]] = defaultdict(dict)
    for model, prompt, policy, value, length in _scores(chosen):
        heard[model, prompt][policy] = (value, length)
    for (_, prompt), said in heard.items():
        names = sorted(said)
        for at, first in enumerate(names):
            for second in names[at + 1 :]:
                (mine, length), (theirs, other) = said[first], said[second]
                p = 1.0 if mine > theirs else 0.0 if mine < theirs else 0.5
                yield Meeting(first, second, p, prompt, 1.0, float(length - other))


def _scores(chosen: set[UUID]) -> Iterable[tuple[UUID, int, UUID, float, int]]:
    found = Score.objects.filter(
        completion__policy__in=chosen, completion__prompt__split=Prompt.Split.HELDOUT
    )
    return (
        found.annotate(length=Length("completion__text"))
        .order_by("completion__created_at", "pk")
        .values_list(
            "reward_model_id", "completion__prompt_id", "completion__policy_id", "value", "length"
        )
    )


def _said_by(ballot: Ballot) -> str:
    """AI judges' votes say so, or state a probability, as imported judges do; other imported votes
    are nobody's that we know."""
    kind = ballot.annotator.kind
    if kind == User.Kind.AI or (kind == User.Kind.IMPORT and ballot.probability is not None):
        return AI
    return "" if kind == User.Kind.IMPORT else PEOPLE


def _pages(ids: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(ids), rows.BATCH):
        yield list(ids[start : start + rows.BATCH])
