"""Simulated raters at work: they claim and cast through the same functions as people.

What a rater says of a comparison depends only on who they are and which comparison it is, so a
demo that is killed and started again hears the same votes.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping

from align.demo import raters
from plumbline.accounts.models import User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign

BY_NAME: Mapping[str, raters.Voter] = {
    rater.name.lower(): rater for rater in (*raters.PANEL, raters.CYCLIC)
}


def vote_once() -> int:
    """Each simulated rater answers one comparison of each open campaign they are a member of, live
    ones apart, which people begin; how many votes that were."""
    cast = 0
    people = User.objects.filter(kind=User.Kind.SIMULATED, username__in=BY_NAME)
    for user in people.order_by("pk"):
        for campaign in Campaign.objects.filter(closed_at=None, live={}, project__members=user):
            ballot = queue.claim_next(user, campaign)
            if ballot is not None:
                _cast(ballot, user)
                cast += 1
    return cast


def _cast(ballot: Ballot, user: User) -> None:
    comparison = ballot.comparison
    texts = [slot.completion.text for slot in comparison.slots.select_related("completion")]
    rng = random.Random(f"{user.username}:{comparison.pk}")
    said = BY_NAME[user.username].vote(comparison.prompt.messages, texts, rng)
    verdict = queue.Verdict(
        outcome=Ballot.Outcome.RANKED if said.verdict == "ok" else Ballot.Outcome.ALL_BAD,
        ranking=said.ranking,
        strength=said.strength,
    )
    queue.cast(ballot, verdict, uuid.uuid5(ballot.pk, "vote"))
