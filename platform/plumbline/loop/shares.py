"""How large a share of a round's votes one person may have.

Where one account gave more, so many of its votes are left out of the round's frozen list that no
person has more than the share of what remains: everybody keeps at most the same number of votes.
Which ones stay is drawn by the experiment's seed. The rest remain votes; this round does not learn
from them. Imported votes and AI judges' are no person's, and are neither counted nor left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot
from plumbline.loop.holdout import ARTIFICIAL
from plumbline.loop.models import Round

WHOLE = 100  # percent: no cap


def capped(round: Round, ballots: Iterable[Ballot]) -> tuple[list[Ballot], dict[str, Any]]:
    """The votes that the round keeps, in their order; and what the cap did, {} for nothing."""
    listed, percent = list(ballots), round.experiment.annotator_percent
    if percent >= WHOLE:
        return listed, {}
    people = set(
        User.objects.filter(pk__in={one.annotator_id for one in listed})
        .exclude(kind__in=ARTIFICIAL)
        .values_list("pk", flat=True)
    )
    given = Counter(one.annotator_id for one in listed if one.annotator_id in people)
    if not given:
        return listed, {}
    most = most_each(list(given.values()), percent)
    out: set[Any] = set()
    for person, count in given.items():
        if count > most:
            theirs = (one.pk for one in listed if one.annotator_id == person)
            out.update(sorted(theirs, key=lambda pk: _drawn(round, pk))[most:])
    if not out:
        return listed, {}
    said = {
        "percent": percent,
        "most": most,
        "voters": len(given),
        "above": sum(count > most for count in given.values()),
        "left_out": len(out),
        "of": len(listed),
    }
    return [one for one in listed if one.pk not in out], said


def most_each(counts: Sequence[int], percent: int) -> int:
    """The largest number of votes that everybody may keep so that nobody has more than the share of
    all that are kept. Where too few people voted for the share, they count alike."""
    for most in range(max(counts), 0, -1):
        total = sum(min(count, most) for count in counts)
        if WHOLE * most <= percent * total or len(counts) * most <= total:
            return most
    raise AssertionError("one vote of each is always alike")


def _drawn(round: Round, ballot: Any) -> str:
    seed = f"{round.experiment.seed}:{round.number}:{ballot}"
    return hashlib.sha256(seed.encode()).hexdigest()
