"""What waits for votes is put in order again by a new reward model, best question first.

In an experiment's campaigns that are open, a round's reopened by a researcher among them, pairs
that an informed strategy picked and nobody has answered trade places by what a vote on them is
worth now. Whatever was picked by chance, or has answers, keeps its place, so that figures which no
model chose stay so. Why a pair was picked and how likely that was is history and not rewritten; the
new figures stand beside. All are of the one model's scores: another version's are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import transaction

from plumbline.collect import selection
from plumbline.collect.models import Ballot, Campaign, Comparison, Enrolment
from plumbline.collect.queue import order
from plumbline.collect.shares import says
from plumbline.collect.strategy import Known, Strategy
from plumbline.judges.models import Score
from plumbline.loop import replacing, rows
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import RewardModel

PURPOSE = "rescore"
PART = "informed"  # the way of picking, in a comparison's `why`, that a model's word decided
RERANKED = "reranked by"  # in `why`: the model


def done(round: Round) -> bool:
    """Has what waits been put in order by the round's reward model? False while a job scores it.
    A model that judged before has done so already."""
    model = round.reward_model
    if model is None or model == replacing.incumbent(round):
        return True
    campaigns = open_campaigns(round.experiment)
    answers = {answer for one in campaigns for pair in movable(one) for answer in _answers(pair)}
    if not replacing.scored(round, PURPOSE, model, answers):
        return False
    for one in campaigns:
        rerank(one, model)
    return True


def open_campaigns(experiment: Experiment) -> list[Campaign]:
    """Those of its rounds in which people may still be asked for training data."""
    training = Campaign.objects.filter(purpose=Campaign.Purpose.TRAIN, closed_at__isnull=True)
    return list(training.filter(round__experiment=experiment).order_by("pk"))


def movable(campaign: Campaign) -> list[Comparison]:
    """Pairs that a model's word picked and nobody has had before them."""
    seen = Ballot.objects.filter(comparison__campaign=campaign).values("comparison")
    found = order.wanting(campaign).exclude(pk__in=seen).filter(why__part=PART)
    return list(found.prefetch_related("slots__completion"))


@transaction.atomic
def rerank(campaign: Campaign, model: RewardModel) -> int:
    """Order what waits anew; how many pairs the model has an opinion of."""
    fresh = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    candidates = movable(fresh)
    scores = _members(model, (answer for one in candidates for answer in _answers(one)))
    worth: dict[int, float] = {}
    why: dict[int, dict[str, object]] = {}
    for one in candidates:
        pair = [slot.completion for slot in one.slots.all()]
        known = Known(members=scores, temperature=model.temperature)
        told = _strategy(one.strategy).worth(known, pair) if len(pair) == 2 else None
        if told is None:
            continue
        worth[one.pk] = told
        now = {f"{name} now": value for name, value in says(known, pair, (0, 1)).items()}
        why[one.pk] = {**one.why, RERANKED: model.name, **now}
    if worth:
        _write(fresh, worth, why)
    return len(worth)


def _write(campaign: Campaign, worth: dict[int, float], why: dict[int, dict[str, object]]) -> None:
    """The places that candidates hold are theirs again, the best in front; the first of all keeps
    its priority and the others follow below it."""
    waiting = list(order.wanting(campaign).order_by("-priority", "pk"))
    best = iter(sorted(worth, key=lambda pk: (-worth[pk], pk)))
    by_id = {one.pk: one for one in waiting}
    highest = waiting[0].priority
    for place, held in enumerate([one.pk for one in waiting]):
        moved = by_id[next(best)] if held in worth else by_id[held]
        moved.priority = highest - place
        moved.why = why.get(moved.pk, moved.why)
    Comparison.objects.bulk_update(waiting, ["priority", "why"], batch_size=rows.BATCH)
    # Where people were in the old order says nothing of the new one.
    Enrolment.objects.filter(campaign=campaign).update(cursor_at=None)


def _strategy(name: str) -> Strategy:
    return selection.find(name) if name in selection.discover() else Strategy()


def _answers(comparison: Comparison) -> Sequence[UUID]:
    return [slot.completion_id for slot in comparison.slots.all()]


def _members(model: RewardModel, answers: Iterable[UUID]) -> dict[UUID, Sequence[float]]:
    """What each member of the model said; a single model is its own one."""
    found: dict[UUID, Sequence[float]] = {}
    ids = sorted(set(answers))
    for at in range(0, len(ids), rows.BATCH):
        page = Score.objects.filter(reward_model=model, completion__in=ids[at : at + rows.BATCH])
        for answer, value, members in page.values_list("completion_id", "value", "members"):
            found[answer] = members or [value]
    return found
