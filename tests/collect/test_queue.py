"""Claiming, casting, skipping and undoing, one person at a time."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import queue
from plumbline.collect.models import Ballot
from plumbline.collect.queue import AlreadyCast, Frozen, TooLate, Verdict
from tests.comparisons import compare, open_campaign

TIE = Verdict("ranked", ranking=[[0, 1]])


def test_the_highest_priority_comes_first(project, bob, prefer):
    campaign = open_campaign(project, comparisons=2)
    prompts = campaign.comparisons.first().prompt.set
    urgent = compare(campaign, prompts, "Urgent?", ["yes", "no"], priority=5)
    assert queue.claim_next(bob, campaign).comparison == urgent


def test_claiming_twice_gives_the_same_ballot(campaign, bob):
    assert queue.claim_next(bob, campaign) == queue.claim_next(bob, campaign)
    assert Ballot.objects.count() == 1


def test_nobody_gets_a_comparison_twice(campaign, bob, prefer):
    seen = [prefer(queue.claim_next(bob, campaign)).comparison_id for _ in range(3)]
    assert len(set(seen)) == 3
    assert queue.claim_next(bob, campaign) is None


def test_overlap_asks_that_many_people(project, bob, carol, alice, prefer):
    campaign = open_campaign(project, comparisons=1, overlap=2)
    for person in (bob, carol):
        prefer(queue.claim_next(person, campaign))
    assert queue.claim_next(alice, campaign) is None
    assert sorted(Ballot.objects.values_list("seat", flat=True)) == [0, 1]


def test_a_closed_campaign_opens_no_claims_but_keeps_the_one_being_read(
    campaign, bob, carol, prefer, django_user_model
):
    from django.utils import timezone

    mine = queue.claim_next(bob, campaign)
    campaign.closed_at = timezone.now()
    campaign.save()
    assert queue.claim_next(carol, campaign) is None
    assert queue.claim_next(bob, campaign) == mine
    assert prefer(mine).outcome == "ranked"


def test_the_order_on_the_screen_is_shuffled_and_stored(project, bob, prefer):
    campaign = open_campaign(project, comparisons=60)
    shown = [tuple(prefer(queue.claim_next(bob, campaign)).shown) for _ in range(60)]
    assert set(shown) == {(0, 1), (1, 0)}
    assert 10 < shown.count((0, 1)) < 50


def test_an_expired_claim_frees_its_seat(campaign, bob, carol, let_expire):
    first = queue.claim_next(bob, campaign)
    let_expire(first)
    taken = queue.claim_next(carol, campaign)
    assert taken.comparison == first.comparison
    first.refresh_from_db()
    assert first.seat is None
    assert taken.seat == 0


def test_a_person_may_claim_again_what_they_let_expire(campaign, bob, let_expire):
    first = queue.claim_next(bob, campaign)
    let_expire(first)
    again = queue.claim_next(bob, campaign)
    assert (again.comparison, again.revision) == (first.comparison, 2)
    assert again.shown == first.shown, "the sides do not move under a person"


def test_a_late_vote_counts_while_its_seat_is_free(campaign, bob, prefer, let_expire):
    ballot = queue.claim_next(bob, campaign)
    let_expire(ballot)
    assert prefer(ballot).outcome == "ranked"


def test_a_late_vote_is_refused_once_the_seat_is_taken(campaign, bob, carol, prefer, let_expire):
    late = queue.claim_next(bob, campaign)
    let_expire(late)
    queue.claim_next(carol, campaign)
    with pytest.raises(TooLate, match="somebody else"):
        prefer(late)
    late.refresh_from_db()
    assert late.outcome == ""


def test_the_same_key_returns_the_stored_ballot(campaign, bob, prefer):
    ballot, key = queue.claim_next(bob, campaign), uuid4()
    stored = prefer(ballot, 0, key)
    again = prefer(ballot, 1, key)
    assert again == stored
    assert again.ranking == [[0], [1]]


def test_another_answer_after_casting_is_refused(campaign, bob, prefer):
    ballot = queue.claim_next(bob, campaign)
    prefer(ballot, 0)
    with pytest.raises(AlreadyCast, match="first answer stands"):
        prefer(ballot, 1)


def test_a_key_belongs_to_one_ballot(campaign, bob, prefer):
    key = uuid4()
    prefer(queue.claim_next(bob, campaign), key=key)
    with pytest.raises(queue.ForeignKeyUsed):
        prefer(queue.claim_next(bob, campaign), key=key)


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("ranked", ranking=[[0]]),
        Verdict("ranked", ranking=[[0], [1], [1]]),
        Verdict("ranked", ranking=[[0], [], [1]]),
        Verdict("ranked", ranking=[[0], [2]]),
        Verdict("all_bad", ranking=[[0], [1]]),
        Verdict("skipped"),
        Verdict("ranked", ranking=[[0], [1]], strength=4),
    ],
)
def test_a_verdict_must_fit_its_comparison(verdict, campaign, bob):
    ballot = queue.claim_next(bob, campaign)
    with pytest.raises(ValueError, match=r"\.$"):
        queue.cast(ballot, verdict, uuid4())
    ballot.refresh_from_db()
    assert ballot.outcome == ""


def test_a_skip_frees_the_seat_for_others_and_never_comes_back(campaign, bob, carol):
    ballot = queue.claim_next(bob, campaign)
    skipped = queue.skip(ballot, "A text is broken", uuid4())
    assert (skipped.outcome, skipped.reason, skipped.seat) == ("skipped", "A text is broken", None)
    assert queue.claim_next(carol, campaign).comparison == ballot.comparison
    assert queue.claim_next(bob, campaign).comparison != ballot.comparison


def test_undo_appends_a_withdrawal_and_opens_the_comparison_again(campaign, bob, prefer):
    vote = prefer(queue.claim_next(bob, campaign))
    reopened = queue.undo(bob, campaign)
    history = list(vote.comparison.ballots.order_by("revision").values_list("outcome", flat=True))
    assert history == ["ranked", "withdrawn", ""]
    assert (reopened.comparison, reopened.seat) == (vote.comparison, 0)
    assert reopened.revises.revises == vote
    vote.refresh_from_db()
    assert vote.ranking == [[0], [1]], "what was said is never edited"
    assert not queue.standing(campaign.comparisons.all()).exists()
    changed = prefer(reopened, 1)
    assert list(queue.standing(campaign.comparisons.all())) == [changed]


def test_after_an_undo_the_claim_that_was_open_comes_back(campaign, bob, prefer):
    prefer(queue.claim_next(bob, campaign))
    waiting = queue.claim_next(bob, campaign)
    prefer(queue.undo(bob, campaign), 1)
    assert queue.claim_next(bob, campaign) == waiting


def test_undo_goes_back_step_by_step(campaign, bob, prefer):
    votes = [prefer(queue.claim_next(bob, campaign)) for _ in range(3)]
    back = [queue.undo(bob, campaign).comparison for _ in range(3)]
    assert back == [vote.comparison for vote in reversed(votes)]
    assert queue.undo(bob, campaign) is None


def test_a_skip_can_be_undone_while_its_seat_is_free(campaign, bob, carol):
    ballot = queue.claim_next(bob, campaign)
    queue.skip(ballot, "by mistake", uuid4())
    assert queue.undo(bob, campaign).comparison == ballot.comparison


def test_a_skip_that_others_filled_stays(campaign, bob, carol, prefer):
    queue.skip(queue.claim_next(bob, campaign), "by mistake", uuid4())
    prefer(queue.claim_next(carol, campaign))
    with pytest.raises(TooLate, match="Others"):
        queue.undo(bob, campaign)


def test_a_vote_that_a_round_trained_on_cannot_be_undone(campaign, project, bob, prefer):
    from plumbline.loop.models import Experiment, Round
    from plumbline.policies.models import Policy

    vote = prefer(queue.claim_next(bob, campaign))
    base = Policy.objects.create(project=project, name="base", weights="base", base_model="x")
    experiment = Experiment.objects.create(
        project=project,
        name="e",
        algorithm="dpo",
        start=base,
        prompt_set=vote.comparison.prompt.set,
    )
    frozen = Round.objects.create(experiment=experiment, number=1, policy_in=base)
    frozen.ballots.add(vote)
    with pytest.raises(Frozen, match="training round"):
        queue.undo(bob, campaign)
    assert list(queue.standing(campaign.comparisons.all())) == [vote]


def test_a_campaign_is_complete_when_each_comparison_has_its_votes(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=2, overlap=2)
    for person in (bob, carol):
        for _ in range(2):
            assert not queue.complete(campaign)
            prefer(queue.claim_next(person, campaign))
    assert queue.complete(campaign)
    queue.undo(carol, campaign)
    assert not queue.complete(campaign)


def test_what_everybody_skipped_does_not_hold_a_campaign_up(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    queue.skip(queue.claim_next(bob, campaign), "broken", uuid4())
    assert not queue.complete(campaign), "carol may still vote"
    queue.skip(queue.claim_next(carol, campaign), "broken", uuid4())
    assert queue.complete(campaign)


def test_progress_counts_what_is_mine_and_what_is_left(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=3, overlap=2)
    prefer(queue.claim_next(bob, campaign))
    queue.claim_next(bob, campaign)
    prefer(queue.claim_next(carol, campaign))
    assert queue.progress(bob, campaign) == queue.Progress(mine=1, votes=2, wanted=6, left=2)


def test_all_bad_is_a_vote(campaign, bob):
    ballot = queue.cast(queue.claim_next(bob, campaign), Verdict("all_bad"), uuid4())
    assert list(queue.standing(campaign.comparisons.all())) == [ballot]
