"""Who compares what next, and what they said: claim, cast, skip, flag, undo, reopen.

Overlap is kept by seats (0..overlap-1) that the database holds unique, never by counters. A claim
is a lease that ends by the database's clock, so no sweeper is needed. Nothing said is ever edited.
Locks are taken in the order person, comparison, ballot, enrolment. This is the front; a file for
each part lies behind it.
"""

from __future__ import annotations

from plumbline.collect.queue.caps import reached as cap_reached
from plumbline.collect.queue.casting import cast, flag, skip
from plumbline.collect.queue.claims import Claim, claim, claim_next
from plumbline.collect.queue.drafts import draft, save_draft
from plumbline.collect.queue.figures import Progress, Seen, complete, progress, seen
from plumbline.collect.queue.gate import why_not
from plumbline.collect.queue.history import (
    following,
    frozen,
    is_live,
    last_said,
    previous,
    reopen,
    resolve,
    standing,
    undo,
)
from plumbline.collect.queue.seats import set_overlap
from plumbline.collect.queue.stale import bring_back, expired, goes_stale_at
from plumbline.collect.queue.tally import Tally, tally, wanted
from plumbline.collect.queue.training import Feedback, feedback, let_in
from plumbline.collect.queue.verdicts import (
    AlreadyCast,
    Capped,
    ForeignKeyUsed,
    Frozen,
    Refused,
    TooLate,
    Verdict,
)

__all__ = [
    "AlreadyCast",
    "Capped",
    "Claim",
    "Feedback",
    "ForeignKeyUsed",
    "Frozen",
    "Progress",
    "Refused",
    "Seen",
    "Tally",
    "TooLate",
    "Verdict",
    "bring_back",
    "cap_reached",
    "cast",
    "claim",
    "claim_next",
    "complete",
    "draft",
    "expired",
    "feedback",
    "flag",
    "following",
    "frozen",
    "goes_stale_at",
    "is_live",
    "last_said",
    "let_in",
    "previous",
    "progress",
    "reopen",
    "resolve",
    "save_draft",
    "seen",
    "set_overlap",
    "skip",
    "standing",
    "tally",
    "undo",
    "wanted",
    "why_not",
]
