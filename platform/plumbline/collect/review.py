"""A last look before a vote is kept, in campaigns that ask for one.

What was filled in comes back in words, from the same fields that would be stored; the form is taken
when it is sent again as it was seen. What was changed in between is shown again first.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from django.http import QueryDict

from plumbline.collect import screen
from plumbline.collect.forms import given
from plumbline.collect.models import Ballot
from plumbline.collect.queue import Verdict


def due(ballot: Ballot, sent: QueryDict) -> bool:
    """Whether the person has yet to see what this says."""
    return ballot.comparison.campaign.review and sent.get("reviewed") != _digest(sent)


def of(ballot: Ballot, verdict: Verdict, sent: QueryDict) -> dict[str, Any]:
    """The verdict as the page puts it before the person; nothing is stored."""
    said = asdict(verdict)
    del said["active_ms"]
    unsaved = Ballot(comparison=ballot.comparison, shown=ballot.shown, **said)
    return {
        "said": screen.sentence(unsaved),
        "corrected": screen.corrected(unsaved),
        "marked": screen.marked(unsaved),
        "comment": verdict.comment,
        "reasons": verdict.reasons,
        "digest": _digest(sent),
    }


def _digest(sent: QueryDict) -> str:
    """Of what a form says, whatever its order."""
    return hashlib.sha256(json.dumps(given(sent), sort_keys=True).encode()).hexdigest()
