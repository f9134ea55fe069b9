"""A round learns from at most a share of one person's votes, and says what it left out."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.collect.models import Campaign
from plumbline.loop import labelling, rebuilding, rows, shares
from plumbline.loop.models import Rebuild, Round, Stage
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

PLAIN = {"gold_start": 0.0, "gold_end": 0.0, "repeat_share": 0.0}


@pytest.mark.parametrize(
    ("counts", "percent", "most"),
    [
        ([20, 4, 4, 4, 4, 4, 4], 25, 8),  # 8 of 24 + 8
        ([20, 20, 20, 20, 20], 20, 20),  # nobody has more than a fifth
        ([100, 3, 3], 50, 6),
        ([30, 10], 50, 10),
        ([30, 10], 30, 10),  # two people cannot both have less than a half
        ([7], 20, 7),  # nor one person less than all
        ([5, 1, 1, 1], 10, 1),
    ],
)
def test_everybody_keeps_as_many_as_the_share_allows(counts, percent, most):
    assert shares.most_each(counts, percent) == most
    kept = [min(count, most) for count in counts]
    assert max(kept) <= max(percent / 100 * sum(kept), sum(kept) / len(kept))


@pytest.fixture
def voted(project, experiment_of):
    """`voted(percent)`: a round that waits for its freeze: one person gave 20 votes, six four."""

    def make(percent: int, **fields) -> Round:
        campaign = open_campaign(project, comparisons=20, overlap=3, quality=PLAIN)
        people = [User.objects.create_user(username=f"{campaign.pk}-{n}") for n in range(7)]
        for n, person in enumerate(people):
            Membership.objects.create(project=project, user=person, role="annotator")
            _vote(person, campaign, 20 if n == 0 else 4)
        Campaign.objects.filter(pk=campaign.pk).update(closed_at=timezone.now())
        experiment = experiment_of(annotator_percent=percent, name=f"Try {campaign.pk}", **fields)
        return Round.objects.create(
            experiment=experiment, number=1, stage=Stage.LABEL, policy_in=experiment.start,
            campaign=Campaign.objects.get(pk=campaign.pk),
        )  # fmt: skip

    return make


def _vote(person, campaign, many: int) -> None:
    for _ in range(many):
        ballot = queue.claim_next(person, campaign)
        queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid4())


def by_person(round: Round) -> list[int]:
    return sorted(Counter(round.ballots.values_list("annotator", flat=True)).values())


@pytest.mark.django_db
def test_a_round_leaves_out_what_one_person_gave_beyond_the_share(voted):
    round = voted(25)
    assert labelling.label(round) == Stage.REWARD
    round.refresh_from_db()
    assert by_person(round) == [4] * 6 + [8]
    assert round.ballots_sha256 == rows.ballots_digest(round.ballots.all())
    assert round.figures["annotator_share"] == {
        "percent": 25, "most": 8, "voters": 7, "above": 1, "left_out": 12, "of": 44,
    }  # fmt: skip
    left = queue.standing(round.campaign.comparisons.all()).exclude(rounds=round)
    assert left.count() == 12, "what is left out stays a vote"


@pytest.mark.django_db
def test_which_votes_stay_is_drawn_by_the_seed(voted):
    round = voted(25)
    evidence = list(queue.standing(round.campaign.comparisons.all()))
    first, _ = shares.capped(round, evidence)
    assert shares.capped(round, evidence)[0] == first
    round.experiment.seed += 1
    assert {one.pk for one in shares.capped(round, evidence)[0]} != {one.pk for one in first}


@pytest.mark.django_db
def test_without_a_cap_a_round_takes_all(voted):
    round = voted(100)
    labelling.label(round)
    round.refresh_from_db()
    assert by_person(round) == [4] * 6 + [20]
    assert "annotator_share" not in round.figures


@pytest.mark.django_db
def test_judges_and_imports_are_no_person(voted):
    round = voted(25)
    User.objects.filter(username__endswith="-0").update(kind="import")
    labelling.label(round)
    assert by_person(round) == [4] * 6 + [20]


@pytest.mark.django_db
def test_a_rebuild_takes_over_the_same_votes(voted, alice):
    round = voted(25)
    labelling.label(round)
    made = lab.policy(round.experiment.project, "alpha-made", parent=round.policy_in)
    Round.objects.filter(pk=round.pk).update(stage=Stage.DONE, policy_out=made)
    rebuilt = rebuilding.begin(round.experiment, actor=alice, reason="to see", also=1)
    rebuild = Rebuild.objects.get(experiment=rebuilt)
    again = Round.objects.create(experiment=rebuilt, **rebuilding.following(rebuild, None))
    assert rebuilding.replay(again) == Stage.REWARD
    round.refresh_from_db()
    assert again.ballots_sha256 == round.ballots_sha256
    assert again.figures["annotator_share"] == round.figures["annotator_share"]


@pytest.mark.django_db
def test_the_rounds_page_says_what_was_left_out(voted, project, alice, client_for):
    round = voted(25)
    labelling.label(round)
    page = client_for(alice).get(f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/1/")
    told = " ".join(page.content.decode().split())
    assert "of 1 person who gave more than 25 % of the votes" in told
    assert "everybody counts with at most 8" in told
