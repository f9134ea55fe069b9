"""From a policy to the votes behind it, and from a vote to all that it shaped."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render

from plumbline.collect.comparisons import plainly
from plumbline.collect.models import Ballot
from plumbline.loop import difference, holdout, lineage, retractions
from plumbline.loop.models import Round
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy

A_PAGE = 50


@dataclass(frozen=True)
class Vote:
    """A vote in a round. `weight`: how much it counts where the round weighed its raters, 1 where
    it did not; `apart`: why it trained nothing there."""

    ballot: Ballot
    said: str
    round: Round
    weight: float
    apart: str
    retracted: bool


def policy_votes(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Every vote that went into a policy, by the round that froze it, the latest round first."""
    policy = get_object_or_404(Policy, project=request.project, pk=pk)
    whole = lineage.graph(request.project)
    rounds = difference.made_from(policy, whole)
    chosen = request.GET.get("round", "")
    shown = [one for one in rounds if str(one.pk) == chosen] or rounds
    through = Round.ballots.through.objects.filter(round__in=[one.pk for one in shown])
    through = through.order_by("-round_id", "ballot__comparison_id", "ballot_id")
    page = Paginator(through, A_PAGE).get_page(request.GET.get("page"))
    context = {
        "policy": policy,
        "rounds": rounds,
        "chosen": chosen if len(shown) == 1 and len(rounds) > 1 else "",
        "page": page,
        "query": f"round={chosen}" if len(shown) == 1 else "",
        "votes": _votes(request, [(one.round_id, one.ballot_id) for one in page.object_list]),
        "voters": through.order_by().values("ballot__annotator").distinct().count(),
        "count": difference.votes(shown),
    }
    return render(request, "lab/policy_votes.html", context)


def vote(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """Where a vote went. For researchers: a vote that no round takes up may be a hidden test."""
    here = Ballot.objects.filter(comparison__campaign__project=request.project)
    ballot = get_object_or_404(
        here.select_related("annotator", "comparison__prompt", "comparison__campaign"), pk=pk
    )
    whole = lineage.graph(request.project)
    direct = [whole.rounds[one.pk] for one in ballot.rounds.order_by("pk")]
    reached = whole.downstream([one.pk for one in direct])
    deployed = Deployment.objects.filter(project=request.project, alias=serving.CURRENT).first()
    shaped = [one for one in reached if one.policy_out_id is not None]
    retracted = retractions.among(
        Ballot.objects.filter(pk=ballot.pk), retractions.standing(request.project)
    )
    context = {
        "ballot": ballot,
        "said": plainly(ballot) if ballot.outcome else "",
        "direct": _votes(request, [(one.pk, ballot.pk) for one in direct]),
        "shaped": [(one, one in direct) for one in shaped],
        "current": deployed.policy_id if deployed else None,
        "retracted": retracted.exists(),
    }
    return render(request, "lab/vote.html", context)


def _votes(request: PlumblineRequest, wanted: list[tuple[int, UUID]]) -> list[Vote]:
    """Votes in rounds with what they weighed there."""
    about = Ballot.objects.filter(pk__in={ballot for _, ballot in wanted})
    ballots = about.select_related("annotator", "comparison__prompt", "comparison__campaign")
    by_id = {one.pk: one for one in ballots}
    retracted = set(
        retractions.among(about, retractions.standing(request.project)).values_list("pk", flat=True)
    )
    found = Round.objects.select_related("experiment", "reward_model")
    rounds = found.in_bulk({round for round, _ in wanted})
    return [_vote(by_id[ballot], rounds[round], ballot in retracted) for round, ballot in wanted]


def _vote(ballot: Ballot, round: Round, retracted: bool) -> Vote:
    model = round.reward_model
    raters = model.metrics.get("labels", {}).get("raters", {}) if model else {}
    rater = raters.get(str(ballot.annotator_id), {})
    part = holdout.of_prompt(ballot.comparison.prompt) if model else ""
    return Vote(
        ballot=ballot,
        said=plainly(ballot),
        round=round,
        weight=rater.get("weight", 1.0),
        apart="measures the reward model" if part else "",
        retracted=retracted,
    )
