"""Blind spot checks: people judge a random sample of the pairs a researcher looked at.

They see two answers and not whose they are; slot 0 is the policy's, slot 1 the other's, in an order
that the ballot draws. The campaign is an evaluation, so its votes never train anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from plumbline.accounts.models import Project, User
from plumbline.collect import counts, votes
from plumbline.collect.models import Campaign, Completion, PromptSet
from plumbline.collect.strategy import Picked
from plumbline.judges.models import Score
from plumbline.loop import campaigns, rows
from plumbline.loop.models import SpotCheck
from plumbline.loop.side_by_side import Table
from plumbline.loop.winrate import WinRate
from plumbline.policies.models import RewardModel

STRATEGY = "spot check"
MOST = 200  # pairs
CARRIED = ("guidelines", "examples", "reasons", "warning", "word_counts", "hourly_rate", "quality")


@dataclass(frozen=True)
class Found:
    """What people said so far. `agree`: of the pairs that they and the reward model both decided,
    how many went the same way (wins) and the other way (losses)."""

    check: SpotCheck
    won: WinRate  # seen from the policy's side; each pair once, by the majority of its votes
    pairs: int
    votes: int
    wanted: int
    agree: WinRate

    @property
    def interval(self) -> tuple[float, float]:
        return self.won.interval()

    @property
    def agreement(self) -> tuple[float, float]:
        return self.agree.interval()


def begin(
    project: Project,
    prompt_set: PromptSet,
    table: Table,
    prompts: Sequence[int],
    *,
    pairs: int,
    overlap: int,
    drawn_from: str,
    model: RewardModel | None,
    user: User | None,
) -> SpotCheck:
    """Open a campaign with `pairs` of the prompts, drawn at random, for `overlap` people each.
    The table's second policy is compared with its first. Raises ValueError in plain words."""
    if len(table.policies) < 2:
        raise ValueError("A blind check compares two policies: choose a second one.")
    if not 1 <= pairs <= MOST:
        raise ValueError(f"A blind check takes from 1 to {MOST} pairs, not {pairs}.")
    if not 1 <= overlap <= 9:
        raise ValueError(f"From 1 to 9 people may judge each pair, not {overlap}.")
    against, policy = table.policies[:2]
    both = {
        prompt: (table.answers[prompt, policy.pk], table.answers[prompt, against.pk])
        for prompt in prompts
        if (prompt, policy.pk) in table.answers and (prompt, against.pk) in table.answers
    }
    answers = _answers(pk for pair in both.values() for pk in pair)
    differ = [p for p, (a, b) in both.items() if answers[a].text != answers[b].text]
    if not differ:
        raise ValueError("No two answers differ here: there is nothing to judge.")
    drawn = sorted(random.SystemRandom().sample(differ, min(pairs, len(differ))))
    with transaction.atomic():
        campaign = _campaign(project, overlap)
        for prompt in drawn:
            pair = tuple(answers[pk] for pk in both[prompt])
            picked = Picked(pair, len(drawn) / len(differ))
            campaigns.compare(campaign, prompt, picked, STRATEGY)
        return SpotCheck.objects.create(
            project=project,
            campaign=campaign,
            prompt_set=prompt_set,
            policy=policy,
            against=against,
            reward_model=model,
            drawn_from=drawn_from[:200],
            of=len(differ),
            asked_by=user,
        )


def results(checks: Sequence[SpotCheck]) -> list[Found]:
    return [_found(one) for one in checks]


def _found(check: SpotCheck) -> Found:
    wins = ties = losses = same = other = 0
    standing = campaigns.evidence(check.campaign.comparisons.all())
    for comparison, ballots in rows.by_comparison(standing):
        scores = _scores(check, [slot.completion_id for slot in comparison.slots.all()])
        for _, _, p, _ in votes.preferences(ballots):
            wins, ties, losses = wins + (p > 0.5), ties + (p == 0.5), losses + (p < 0.5)
            if scores is not None and p != 0.5 and scores[0] != scores[1]:
                agrees = (p > 0.5) == (scores[0] > scores[1])
                same, other = same + agrees, other + (not agrees)
    tally = counts.tally(check.campaign)
    pairs = check.campaign.comparisons.aggregate(n=Count("pk"))["n"]
    agree = WinRate(wins=same, ties=0, losses=other)
    won = WinRate(wins=wins, ties=ties, losses=losses)
    return Found(check, won, pairs, tally.votes, tally.wanted, agree)


def _scores(check: SpotCheck, pair: Sequence[UUID]) -> tuple[float, float] | None:
    if check.reward_model_id is None:
        return None
    found = dict(
        Score.objects.filter(reward_model=check.reward_model_id, completion__in=pair).values_list(
            "completion", "value"
        )
    )
    return (found[pair[0]], found[pair[1]]) if len(found) == 2 else None


def _answers(ids: Iterable[UUID]) -> dict[UUID, Completion]:
    wanted, found = sorted(set(ids)), {}
    for at in range(0, len(wanted), rows.BATCH):
        page = Completion.objects.filter(pk__in=wanted[at : at + rows.BATCH])
        found.update({one.pk: one for one in page})
    return found


def _campaign(project: Project, overlap: int) -> Campaign:
    """Guided as the project's last campaign was; it asks for nothing but which is better. Its name
    tells nobody whose answers these are."""
    last = Campaign.objects.filter(project=project).order_by("-pk").first()
    carried = {name: getattr(last, name) for name in CARRIED} if last else {}
    number = SpotCheck.objects.filter(project=project).count() + 1
    return Campaign.objects.create(
        project=project,
        name=f"Blind check {number}, {timezone.now():%Y-%m-%d %H:%M:%S}",
        purpose=Campaign.Purpose.EVALUATE,
        overlap=overlap,
        **carried,
    )
