"""Accounts that always vote for one model, as in a public arena: what they move, with caps and
without.

Three models meet in pairs; honest people agree who is better. Three riggers come first, as fast as
the queue lets them, and vote for whatever they take for their model's answer. Whoever cannot tell
the answers apart moves nothing but towards a half; whoever can, by a manner of writing that no page
can hide, moves at most their share of the votes, and a cap bounds that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Completion
from plumbline.collect.queue import history
from plumbline.loop.meetings import PEOPLE, meetings
from plumbline.loop.standings import standings
from plumbline.policies.models import Policy
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db

PAIRS, OVERLAP = 30, 3
TARGETS = 20  # of the pairs have an answer of the riggers' model
RIGGERS, CAP = 3, 3
BOUND = RIGGERS * CAP / (TARGETS * OVERLAP)  # what they may move of its win rate at most: 0.15
HONEST = 0.3  # its win rate by honest people
HONEST_PEOPLE = 30  # a cap holds for them, too
MANNER = "indeed"


@dataclass
class Arena:
    campaign: Campaign
    policies: list[Policy]  # the first is the one that riggers vote for
    riggers: list[User]
    honest: list[User]

    def rate(self) -> float:
        """The first one's share of the votes in its meetings."""
        mine, target = [], self.policies[0].pk
        for one in meetings(self.policies, PEOPLE):
            if target in (one.first, one.second):
                mine.append((one.p if one.first == target else 1 - one.p, one.weight))
        assert sum(weight for _, weight in mine) == TARGETS * OVERLAP
        return sum(p * weight for p, weight in mine) / sum(weight for _, weight in mine)

    def order(self) -> list[Policy]:
        """Best first, by the ratings that the page of policies shows."""
        found = standings(self.policies, meetings(self.policies, PEOPLE), self.policies[1])
        return [row.policy for row in found.rows]

    def honest_votes(self) -> None:
        for person in self.honest:
            while ballot := queue.claim_next(person, self.campaign):
                cast(ballot, next(slot for slot, text in texts(ballot) if "good" in text))


def texts(ballot: Ballot) -> list[tuple[int, str]]:
    """All that somebody reads of a ballot: (slot, answer), from left to right."""
    answers = {one.slot: one.completion.text for one in ballot.comparison.replies}
    return [(slot, answers[slot]) for slot in ballot.shown]


def cast(ballot: Ballot, best: int) -> None:
    queue.cast(ballot, queue.Verdict("ranked", ranking=[[best], [1 - best]]), uuid4())


@pytest.fixture
def arena(project, monkeypatch) -> Callable[..., Arena]:
    monkeypatch.setattr(
        history, "_shuffle", random.Random(16)
    )  # sides by chance, the same each run

    def make(*, manner: str = "", **caps: int) -> Arena:
        target = lab.policy(project, f"target-{uuid4().hex[:6]}")
        others = [lab.policy(project, f"{target.name}-{n}", parent=target) for n in (1, 2)]
        quality = {"gold_start": 0.0, "gold_end": 0.0, "repeat_share": 0.0, **caps}
        campaign = open_campaign(project, comparisons=PAIRS, overlap=OVERLAP, quality=quality)
        met = [(target, others[0]), (others[1], target), tuple(others)]
        meeting = 0
        for n, comparison in enumerate(campaign.comparisons.order_by("pk")):
            better = n // 3 % 2
            if target in met[n % 3]:
                best = (
                    target if meeting % 8 in (0, 3) else next(o for o in others if o in met[n % 3])
                )
                better, meeting = met[n % 3].index(best), meeting + 1
            for slot, policy in zip(comparison.slots.all(), met[n % 3], strict=True):
                words = "good" if slot.slot == better else "plain"
                words += f" {manner}" if policy == target else ""
                Completion.objects.filter(pk=slot.completion_id).update(
                    policy=policy, text=f"Answer {words}."
                )
        people = [
            User.objects.create_user(username=f"{target.name}-person-{n}")
            for n in range(RIGGERS + HONEST_PEOPLE)
        ]
        Membership.objects.bulk_create(
            Membership(project=project, user=one, role="annotator") for one in people
        )
        return Arena(campaign, [target, *others], people[:RIGGERS], people[RIGGERS:])

    return make


def rig(arena: Arena, choose: Callable[[Ballot], int | None]) -> int:
    """Vote with all accounts until the queue gives them nothing more; how many votes that were."""
    given = 0
    for account in arena.riggers:
        while ballot := queue.claim_next(account, arena.campaign):
            best = choose(ballot)
            if best is None:
                queue.skip(ballot, "I cannot decide", uuid4())
                continue
            cast(ballot, best)
            given += 1
    return given


def by_manner(ballot: Ballot) -> int | None:
    """The answer written in the manner of their model; a pair without one is left alone."""
    return next((slot for slot, text in texts(ballot) if MANNER in text), None)


def test_honest_people_put_it_last(arena):
    found = arena(manner=MANNER)
    found.honest_votes()
    assert found.rate() == pytest.approx(HONEST)
    assert found.order()[-1] == found.policies[0]


def test_capped_riggers_move_it_by_less_than_their_share_through_the_pages(arena, client_for):
    found = arena(manner=MANNER, daily_cap=CAP)
    given = sum(_on_the_pages(found, account, client_for(account)) for account in found.riggers)
    assert given == RIGGERS * CAP
    found.honest_votes()
    assert HONEST < found.rate() <= HONEST + BOUND
    assert found.order()[-1] == found.policies[0], "and no place is gained"


def test_without_a_cap_they_would_make_it_the_first(arena):
    found = arena(manner=MANNER)
    assert rig(found, by_manner) == TARGETS * OVERLAP
    found.honest_votes()
    assert found.rate() - HONEST > 4 * BOUND
    assert found.order()[0] == found.policies[0]


def test_who_cannot_tell_the_answers_apart_only_throws_coins(arena):
    """Nothing says whose an answer is, so what is left is a side, and sides are random."""
    found = arena()
    assert rig(found, lambda ballot: ballot.shown[0]) == PAIRS * OVERLAP
    assert abs(found.rate() - 0.5) < 0.15, "a half, however many accounts"


def _on_the_pages(arena: Arena, account: User, browser: Any) -> int:
    """Vote as a program does that reads pages, until they give it nothing more."""
    claim = f"/p/alpha/campaigns/{arena.campaign.pk}/claim/"
    given = 0
    for _ in range(2 * PAIRS):
        page = browser.post(claim, follow=True)
        where = page.redirect_chain[-1][0]
        if "/ballots/" not in where:
            assert "You have reached today’s number of votes" in page.content.decode()
            return given
        answers = re.findall(r"Answer (?:good|plain)( indeed)?\.", page.content.decode())
        left, right = answers[0], answers[-1]  # each text may stand on the page more than once
        key = str(uuid4())
        if not left and not right:
            browser.post(f"{where}skip/", {"reason": "I cannot decide", "key": key})
            continue
        choice = "A2" if left else "B2"
        assert browser.post(where, {"choice": choice, "key": key}).status_code == 303
        given += 1
    raise AssertionError("no end of pages")
