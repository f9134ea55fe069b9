"""The addresses on a ballot's page. There are ten on each, alike but for the ballot: what `reverse`
says is asked once for each project and campaign."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from django.urls import reverse

_ANY = UUID(int=0)
OF_BALLOT = {  # by the name that templates know it by
    "ballot": "ballot",
    "skip": "ballot-skip",
    "flag": "ballot-flag",
    "draft": "ballot-draft",
    "difference": "ballot-difference",
    "changes": "ballot-changes",
}
OF_CAMPAIGN = {"campaign": "campaign", "undo": "ballot-undo", "claim": "claim"}


def page(project: str, campaign: int, ballot: UUID) -> dict[str, str]:
    """Where the page of an open ballot leads and sends what is said."""
    pk = str(ballot)
    of_ballot = {name: f"{before}{pk}{after}" for name, before, after in _around(project)}
    return of_ballot | _of_campaign(project, campaign)


def ballot(project: str, pk: UUID) -> str:
    _, before, after = _around(project)[0]
    return f"{before}{pk}{after}"


@lru_cache(maxsize=1024)
def _around(project: str) -> list[tuple[str, str, str]]:
    """Of each address of a ballot what stands before and after its id."""
    found = []
    for name, view in OF_BALLOT.items():
        before, _, after = reverse(view, args=[project, _ANY]).partition(str(_ANY))
        found.append((name, before, after))
    return found


@lru_cache(maxsize=4096)
def _of_campaign(project: str, campaign: int) -> dict[str, str]:
    return {name: reverse(view, args=[project, campaign]) for name, view in OF_CAMPAIGN.items()}
