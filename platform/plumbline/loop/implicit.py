"""The policy as its own reward model: does log(policy / start) order answers as people do?

A policy trained on pairs carries an implicit reward. It fits what it trained on as well as an
explicit model and is reported to fall behind elsewhere (arXiv:2409.03650), so rounds keep an
explicit one; this measures both on the same votes, none of which trained either. In distribution:
held-out votes of earlier rounds. Out of it: this round's votes, on answers of a newer policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings

from align import jobs
from align.measure import intervals, pairs
from plumbline.collect.models import Completion
from plumbline.loop import history, quality, roundjobs, rows
from plumbline.loop.models import Example, Experiment, Round
from plumbline.loop.unseen import Vote

PURPOSE = "measure:implicit"
POLICY, START = "policy", "start"


def applies(round: Round) -> bool:
    """Only a policy that was trained has an implicit reward."""
    return round.policy_in != round.experiment.start


def rewards(round: Round, answers: Sequence[Completion]) -> dict[str, dict[UUID, float]] | None:
    """The round's first policy's implicit rewards, in all and per token; None while they are being
    computed. The scale of beta changes no order, so there is none."""
    spec = jobs.ScoreJob(
        policies={POLICY: round.policy_in.ref, START: round.experiment.start.ref},
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, PURPOSE, spec, {jobs.ITEMS: lambda: rows.item_rows(answers)})
    if roundjobs.finished(job) is None:
        return None
    whole: dict[UUID, float] = {}
    per_token: dict[UUID, float] = {}
    for key, row in rows.read_scores(job).items():
        if row["logps"]:
            whole[UUID(key)] = row["logps"][POLICY] - row["logps"][START]
            per_token[UUID(key)] = whole[UUID(key)] / max(1, row["tokens"])
    return {"implicit": whole, "implicit, per token": per_token}


def never_trained(round: Round, votes: Sequence[Vote]) -> list[Vote]:
    """People's votes of earlier rounds that trained neither the reward model nor the policy."""
    old = [vote for vote in votes if vote.part and vote.people and not vote.fresh]
    if round.experiment.pairs_from != Experiment.Pairs.VOTES:
        return old  # the reward model labelled the policy's pairs
    earlier = Example.objects.filter(round__in=history.before(round))
    trained = set(earlier.values_list("prompt_id", flat=True))
    return [vote for vote in old if vote.prompt not in trained]


def compared(
    inside: Sequence[Vote], fresh: Sequence[Vote], scorers: Mapping[str, quality.Scores]
) -> list[dict[str, Any]]:
    """Accuracy of each scorer on both kinds of votes; the first scorer is what others are compared
    with, vote by vote. Votes that a scorer could not score are left out for all."""
    first, *_ = scorers
    found = []
    for name, title, votes in (
        ("inside", "In distribution: held-out votes of earlier rounds", inside),
        ("outside", "Out of distribution: newest votes, before they trained", fresh),
    ):
        known = [
            vote
            for vote in votes
            if all(key in one for one in scorers.values() for key in (vote.first, vote.second))
        ]
        seen = {scorer: quality.as_pairs(known, scores) for scorer, scores in scorers.items()}
        for scorer, one in seen.items():
            accuracy = intervals.interval(one, pairs.accuracy, quality.RESAMPLES)
            gap = intervals.difference(one, seen[first], pairs.accuracy, quality.RESAMPLES)
            found.append(
                {
                    "votes": name,
                    "title": title,
                    "scorer": scorer,
                    "count": sum(pair.weight for pair in one),
                    "accuracy": quality.as_json(accuracy),
                    "less_explicit": None if scorer == first else quality.as_json(gap),
                }
            )
    return found
