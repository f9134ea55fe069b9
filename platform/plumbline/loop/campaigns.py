"""The campaigns a round opens, and the imported comparisons an offline round learns from."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from django.db.models import QuerySet

from plumbline.collect import queue, votes
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison
from plumbline.collect.strategy import Picked
from plumbline.judges.revising import left_out
from plumbline.loop import retractions
from plumbline.loop.models import Experiment, Retraction, Round


def open_campaign(round: Round, purpose: Campaign.Purpose) -> Campaign:
    """A campaign of the round's own. What people read, are paid and are tested by carries over from
    the experiment's last one, at first from the one it was launched with; so does what they are
    asked, except by an evaluation, which compares."""
    experiment = round.experiment
    carried = ["guidelines", "examples", "reasons", "warning", "word_counts", "review"]
    carried += ["hourly_rate", "quality"]
    if purpose == Campaign.Purpose.TRAIN:
        carried += ["asks", "criteria"]
    last = Campaign.objects.filter(round__experiment=experiment).order_by("-pk").first()
    earlier = last or experiment.asked_as
    what = "" if purpose == Campaign.Purpose.TRAIN else ", evaluation"
    return Campaign.objects.create(
        project=experiment.project,
        name=f"{experiment.name}, round {round.number}{what}",
        purpose=purpose,
        overlap=experiment.overlap,
        stale_days=experiment.stale_days if purpose == Campaign.Purpose.TRAIN else 0,
        **({name: getattr(earlier, name) for name in carried} if earlier else {}),
    )


def in_turn(round: Round, prompts: Iterable[int]) -> list[int]:
    """Prompts in the order in which people should be asked about them: those that the experiment
    asked about least often so far first; its seed decides among equals."""
    experiment, found = round.experiment, sorted(prompts)
    asked = votes.counted(
        Comparison.objects.filter(
            campaign__round__experiment=experiment, campaign__purpose=Campaign.Purpose.TRAIN
        )
    )
    times = Counter(asked.values_list("prompt_id", flat=True))
    random.Random(f"{experiment.seed}:{round.number}:asked").shuffle(found)
    return sorted(found, key=lambda prompt: times[prompt])


def compare(campaign: Campaign, prompt_id: int, picked: Picked, strategy: str) -> Comparison:
    """Put what a strategy picked before people, for as long as the campaign asks."""
    comparison = Comparison.objects.create(
        campaign=campaign,
        prompt_id=prompt_id,
        strategy=strategy,
        p_select=picked.p_select,
        why=dict(picked.why),
        expires_at=queue.goes_stale_at(campaign),
    )
    Candidate.objects.bulk_create(
        Candidate(comparison=comparison, completion=answer, slot=slot)
        for slot, answer in enumerate(picked.answers)
    )
    return comparison


def offline(experiment: Experiment) -> QuerySet[Comparison]:
    """Training comparisons the experiment's prompt set came with or gathered before."""
    return Comparison.objects.filter(
        prompt__set=experiment.prompt_set, campaign__purpose=Campaign.Purpose.TRAIN
    )


def evidence(comparisons: QuerySet[Comparison]) -> QuerySet[Ballot]:
    """The votes that may train a policy or judge one: they stand, on comparisons asked in earnest,
    neither their voter is excluded nor they are retracted, and they are not of answers that a
    judge revised, unless somebody included those."""
    said = votes.kept(queue.standing(votes.counted(comparisons)))
    said = said.filter(~left_out())
    return retractions.without(said, Retraction.objects.filter(undone_at=None))
