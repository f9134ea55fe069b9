"""What is kept of one end user of a client, deleted when the client asks.

Everything goes that nobody has voted on. A comparison that has votes stays, because a vote is never
edited and may have trained a policy; it is asked no more, and the reply says how many there are.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from plumbline.accounts.models import Project
from plumbline.collect.models import Ballot, Candidate, Comparison, Completion, Prompt
from plumbline.gateway.models import (
    ClientComparison,
    Feedback,
    ServedAnswer,
    ShadowPair,
    StoredCompletion,
)


@transaction.atomic
def forget(project: int, end_user: str) -> dict[str, int]:
    """By kind, how many rows are deleted; then what stays: comparisons with votes, and prompts that
    these or an experiment's round need."""
    # Nothing is put before people meanwhile.
    Project.objects.select_for_update(no_key=True).get(pk=project)
    mine = {"project": project, "end_user": end_user}
    feedback, compared = Feedback.objects.filter(**mine), ClientComparison.objects.filter(**mine)
    about = Q(end_user=end_user) | Q(completion_id__in=feedback.values("completion_id"))
    about |= Q(completion_id__in=_shadows(project, end_user, feedback).values("shadow"))
    stored = StoredCompletion.objects.filter(about, project=project)
    shown = _shown(project, end_user, feedback, compared)
    shadows = list(_shadows(project, end_user, feedback).values_list("pk", flat=True))
    voted = set(
        Ballot.objects.filter(comparison__in=shown)
        .exclude(outcome="")
        .values_list("comparison", flat=True)
    )
    answers = set(Completion.objects.filter(comparison__in=shown).values_list("pk", flat=True))
    prompts = {one.prompt_id for one in shown}
    gone = {
        "stored_completions": stored.delete()[0],
        "shadow_answers": ShadowPair.objects.filter(pk__in=shadows).delete()[0],
        "feedback": feedback.delete()[0],
        "comparisons": compared.delete()[0],
        "put_before_people": len(shown) - len(voted),
    }
    Comparison.objects.filter(pk__in=[one.pk for one in shown if one.pk not in voted]).delete()
    Comparison.objects.filter(pk__in=voted, retired_at=None).update(retired_at=timezone.now())
    Completion.objects.filter(pk__in=answers, comparison=None).delete()
    unused = Prompt.objects.filter(pk__in=prompts, comparisons=None, completions=None, rounds=None)
    unused.delete()
    kept = Prompt.objects.filter(pk__in=prompts).count()
    return {**gone, "kept_with_votes": len(voted), "kept_prompts": kept}


def _shadows(project: int, end_user: str, feedback: QuerySet[Feedback]) -> QuerySet[ShadowPair]:
    """Pairs with a shadow's answer to a request of this user, or to one they spoke of."""
    theirs = Q(end_user=end_user) | Q(served__in=feedback.values("completion_id"))
    return ShadowPair.objects.filter(theirs, project=project)


def _shown(
    project: int, end_user: str, feedback: QuerySet[Feedback], compared: QuerySet[ClientComparison]
) -> list[Comparison]:
    """What was put before people of this user's words; locked, so that no vote comes meanwhile."""
    served = ServedAnswer.objects.filter(end_user=end_user)
    pairs = _shadows(project, end_user, feedback)
    found = Comparison.objects.filter(campaign__project=project).filter(
        Q(pk__in=feedback.exclude(comparison=None).values("comparison"))
        | Q(pk__in=compared.exclude(comparison=None).values("comparison"))
        | Q(pk__in=pairs.exclude(comparison=None).values("comparison"))
        | Q(pk__in=Candidate.objects.filter(completion__served__in=served).values("comparison"))
    )
    return list(found.select_for_update().order_by("pk"))
