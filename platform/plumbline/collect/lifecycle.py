"""Whether a campaign takes votes: open, paused, past its deadline, closed. Each step is a version.

What people have in hand when a campaign is paused or closed still counts when they send it.
"""

from __future__ import annotations

from typing import Any, Literal

from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect import versions
from plumbline.collect.models import Campaign

State = Literal["active", "paused", "overdue", "closed"]
WORDS = {
    "active": "Open",
    "paused": "Paused",
    "overdue": "Past its deadline",
    "closed": "Closed",
}
# Each step, and what the audit calls it.
DONE = {
    "pause": "campaign.paused",
    "resume": "campaign.resumed",
    "close": "campaign.closed",
    "reopen": "campaign.reopened",
}
STEPS = tuple(DONE)


def state(campaign: Campaign) -> State:
    if campaign.closed_at is not None:
        return "closed"
    if campaign.paused_at is not None:
        return "paused"
    if campaign.deadline is not None and campaign.deadline <= timezone.now():
        return "overdue"
    return "active"


def step(campaign: Campaign, what: str, author: User) -> str:
    """Pause, resume, close or reopen; a sentence of what that means. Raises ValueError."""
    now = timezone.now()
    here = state(campaign)
    values: dict[str, Any]
    match what:
        case "pause" if here in ("active", "overdue"):
            values = {"paused_at": now}
            said = "Paused. Nobody gets another comparison; what is in hand still counts."
        case "resume" if here == "paused":
            values, said = {"paused_at": None}, "Resumed. People get comparisons again."
        case "close" if here != "closed":
            values = {"closed_at": now}
            said = "Closed. It takes no more votes; those it has stay."
        case "reopen" if here == "closed":
            values, said = {"closed_at": None}, "Open again."
        case _:
            raise ValueError(f"The campaign is {WORDS[here].lower()}; that cannot be done now.")
    versions.change(campaign, values, author, DONE[what])
    return said
