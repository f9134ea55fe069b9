"""Which votes never train a reward model, so that it can be measured by them.

By prompt: one in ten, chosen by its digest, half of them the test set that nothing is tuned by
either. By annotator: one in ten where an experiment has enough of them, so that a model is also
measured on people it has not learned from. The rules look at nothing that changes, so what is kept
from one round's model is kept from the next one's (an annotator may have trained earlier models
while there were fewer than `ENOUGH`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Prompt

SHARE = 10  # one prompt, and one annotator, in so many
ENOUGH = 5  # annotators: of fewer nobody can be spared
TEST, PROMPTS, ANNOTATORS = "test", "prompts", "annotators"
ARTIFICIAL = {User.Kind.AI, User.Kind.IMPORT}  # their votes are never counted among people's


def of_prompt(prompt: Prompt) -> str:
    """The part of the held-out votes that a prompt's votes belong to; "" where they train."""
    bucket = int(prompt.digest[:8], 16) % (2 * SHARE)
    return {0: TEST, SHARE: PROMPTS}.get(bucket, "")


def annotators(ballots: Iterable[Ballot]) -> frozenset[int]:
    """The annotators whose votes train no reward model, of those who cast these ballots."""
    voted = {ballot.annotator_id for ballot in ballots}
    if len(voted) < ENOUGH:
        return frozenset()
    return frozenset(pk for pk in voted if _bucket(pk) == 0)


def part(prompt: Prompt, ballot: Ballot, apart: frozenset[int]) -> str:
    """The part a vote belongs to; "" where it trains. `apart` are the held-out annotators."""
    return of_prompt(prompt) or (ANNOTATORS if ballot.annotator_id in apart else "")


def _bucket(annotator: int) -> int:
    return int(hashlib.sha256(f"annotator:{annotator}".encode()).hexdigest()[:8], 16) % SHARE
