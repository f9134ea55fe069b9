"""How many of a person's votes reward models were trained on turned around, and how many at most.

What a job turned around it tells by rater; the votes themselves are as they were cast. Many are a
sign of slips, or of a taste that few share: a reward model that is a mixture says which.
"""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.accounts.models import Project, User
from plumbline.policies.models import RewardModel

MODELS = 5  # the newest


@dataclass(frozen=True)
class Turned:
    """share: of the person's votes; cap: what no rater's share may exceed; capped: it is met."""

    model: RewardModel
    turned: int
    votes: int
    share: float
    cap: float
    capped: bool


def of(project: Project, person: User) -> list[Turned]:
    """By reward model, the newest first; only those that may have turned votes around and were
    trained on some of this person's."""
    found = []
    for model in RewardModel.objects.filter(project=project).order_by("-created_at")[:MODELS]:
        labels = model.metrics.get("labels", {})
        votes = labels.get("asked_by_rater", {}).get(str(person.pk), 0)
        cap = labels.get("cap")
        if not votes or cap is None or not labels.get("turned_by_rater"):
            continue
        turned = labels["turned_by_rater"].get(str(person.pk), 0)
        # A preference more would exceed the cap: the job asks so before it turns one around.
        capped = turned >= cap * votes
        found.append(Turned(model, turned, votes, turned / votes, cap, capped))
    return found
