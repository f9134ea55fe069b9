"""What became of a person's votes: the rounds they went into, and what those rounds made.

For everybody who votes. It tells of one's own agreement and consistency in the large, and neither
which comparisons were known ones nor what anybody else said.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, Prefetch, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Comparison
from plumbline.collect.quality import reading, report
from plumbline.collect.quality.intervals import Estimate
from plumbline.collect.quality.report import Material
from plumbline.collect.quality.settings import Quality
from plumbline.loop import lineage
from plumbline.loop.models import Evaluation, Round, Stage
from plumbline.permissions import PlumblineRequest
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy

ROUNDS, CAMPAIGNS = 30, 50  # the latest
TRAINING = Comparison.Kind.TRAINING
SHARED_FROM = 10  # shared comparisons below which agreement would tell what one other person said
FEW = f"It takes {SHARED_FROM} comparisons that somebody else has judged as well."


@dataclass(frozen=True)
class Part:
    """One's votes in a round, and what came of it."""

    round: Round
    mine: int
    all: int
    evaluation: Evaluation | None  # its policy against the one it would replace
    outcome: str  # in words
    state: str  # of the badge
    models: list[str]  # that the round went into, its own first


def my_work(request: PlumblineRequest) -> HttpResponse:
    """My progress, my agreement with others and with myself, and what my votes did."""
    user, project = request.user, request.project
    asked = Comparison.objects.filter(campaign__project=project).exclude(kind=TRAINING)
    votes = queue.standing(asked).filter(annotator=user)  # hidden tests count like any other
    ids = list(project.campaigns.values_list("pk", flat=True)[:CAMPAIGNS])
    mine = reading.said_by(user.pk, ids)
    material = Material(mine, {}, {}, Quality())
    # As of yesterday, so that no vote shows at once as a hidden test.
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    before = Material([one for one in mine if one.at < today], {}, {}, Quality())
    beside = [one for one in reading.beside(user.pk, ids) if one.at < today]
    agreed = report.with_others(Material(beside, {}, {}, Quality()).labels, user.pk)
    context = {
        "figures": report.figures(material, mine, None, agreed),
        "repeats": report.figures(before, before.said, None, agreed).repeats,
        "agreement": agreed if agreed.n >= SHARED_FROM else Estimate(None, n=agreed.n, why=FEW),
        "votes": votes.count(),
        "judged": votes.filter(comparison__campaign__purpose=Campaign.Purpose.EVALUATE).count(),
        "campaigns": _campaigns(votes, user),
        "parts": _parts(user, project),
    }
    return render(request, "lab/my_work.html", context)


def _campaigns(votes: QuerySet[Ballot], user: User) -> list[tuple[Campaign, queue.Seen]]:
    """The campaigns one has voted in, latest first, as one may see them."""
    mine = votes.order_by().values("comparison__campaign")
    found = Campaign.objects.filter(pk__in=mine)[:CAMPAIGNS]
    return [(campaign, queue.seen(user, campaign)) for campaign in found]


def _parts(user: User, project: Project) -> list[Part]:
    """The rounds that froze a vote of this person, latest first."""
    rounds = list(
        Round.objects.filter(experiment__project=project, ballots__annotator=user)
        .annotate(mine=Count("ballots"))
        .select_related("experiment", "policy_out")
        .prefetch_related(Prefetch("evaluations", Evaluation.objects.select_related("opponent")))
        .order_by("-started_at")[:ROUNDS]
    )
    frozen = Round.ballots.through.objects.filter(round__in=rounds).order_by()
    totals = dict(frozen.values_list("round").annotate(all=Count("pk")))
    served, ancestors = _served(project)
    whole = lineage.graph(project)
    parts = []
    for one in rounds:
        against = {side.against: side for side in one.evaluations.all()}
        outcome, state = _outcome(one, served, ancestors)
        parts.append(
            Part(
                round=one,
                mine=one.mine,
                all=totals[one.pk],
                evaluation=against.get(Evaluation.Against.CURRENT),
                outcome=outcome,
                state=state,
                models=[
                    later.policy_out.name
                    for later in whole.downstream([one.pk])
                    if later.policy_out is not None
                ],
            )
        )
    return parts


def _outcome(one: Round, served: UUID | None, ancestors: set[UUID]) -> tuple[str, str]:
    """What came of a round, in words, and the state its badge shows."""
    made = one.policy_out
    if one.stage in (Stage.FAILED, Stage.CANCELLED):
        return "The round ended without a new model.", one.stage
    if made is None:
        return f"Under way: {one.get_stage_display().lower()}.", "now"
    if made.pk == served:
        return "Its model is the one people use now.", "current"
    if made.pk in ancestors:
        return "The model people use now was made from its model.", "promoted"
    if made.state == Policy.State.REJECTED:
        return "Its model was not better, and is not used.", "rejected"
    if one.over:
        return "Its model is kept, and not the one in use.", "done"
    return "Its model is waiting for a decision.", "candidate"


def _served(project: Project) -> tuple[UUID | None, set[UUID]]:
    """The policy served as current, and all that it descends from."""
    deployment = Deployment.objects.filter(project=project, alias=serving.CURRENT).first()
    if deployment is None:
        return None, set()
    parents = dict(Policy.objects.filter(project=project).values_list("pk", "parent"))
    above: set[UUID] = set()
    at = parents.get(deployment.policy_id)
    while at is not None and at not in above:
        above.add(at)
        at = parents.get(at)
    return deployment.policy_id, above
