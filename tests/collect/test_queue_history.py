"""Leafing through one's answers, revising them, flags and drafts."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.collect import queue, versions
from plumbline.collect.models import Draft, Flag
from tests.collect import crowd
from tests.collect.test_queue_settings import enrol
from tests.comparisons import open_campaign


def test_reopening_a_vote_leaves_it_standing_until_the_revision_is_cast(campaign, bob, prefer):
    vote = prefer(queue.claim_next(bob, campaign), 0)
    prefer(queue.claim_next(bob, campaign), 0)
    reopened = queue.reopen(vote)
    assert (reopened.comparison, reopened.revises, reopened.shown) == (
        vote.comparison,
        vote,
        vote.shown,
    )
    assert vote in queue.standing(campaign.comparisons.all())
    revision = prefer(reopened, 1)
    standing = queue.standing(campaign.comparisons.filter(pk=vote.comparison_id))
    assert list(standing) == [revision]
    assert revision.seat == 0
    vote.refresh_from_db()
    assert (vote.ranking, vote.seat) == ([[0], [1]], None)
    assert queue.progress(bob, campaign).mine == 2


def test_a_reopened_vote_takes_no_second_seat_and_frees_none(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    reopened = queue.reopen(prefer(queue.claim_next(bob, campaign)))
    assert queue.claim_next(carol, campaign) is None
    assert queue.complete(campaign)
    assert prefer(reopened, 1).seat == 0
    assert queue.claim_next(carol, campaign) is None


def test_a_revision_left_lying_changes_nothing(project, bob, carol, prefer, let_expire):
    campaign = open_campaign(project, comparisons=1)
    vote = prefer(queue.claim_next(bob, campaign))
    let_expire(queue.reopen(vote))
    assert queue.claim_next(carol, campaign) is None
    assert queue.claim_next(bob, campaign) is None
    assert list(queue.standing(campaign.comparisons.all())) == [vote]
    assert queue.last_said(bob, campaign) == vote
    again = queue.reopen(vote)
    assert again.revision == 3
    assert prefer(again, 1).ranking == [[1], [0]]


def test_reopening_twice_gives_one_claim(campaign, bob, prefer):
    vote = prefer(queue.claim_next(bob, campaign))
    assert queue.reopen(vote) == queue.reopen(vote)


def test_only_the_latest_word_is_reopened(campaign, bob, prefer):
    vote = prefer(queue.claim_next(bob, campaign))
    prefer(queue.reopen(vote), 1)
    with pytest.raises(queue.Refused, match="something else"):
        queue.reopen(vote)


def test_a_vote_turned_into_a_skip_gives_its_seat_to_others(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    vote = prefer(queue.claim_next(bob, campaign))
    queue.skip(queue.reopen(vote), "I should not judge this", uuid4())
    assert queue.progress(bob, campaign).mine == 0
    assert queue.claim_next(carol, campaign).comparison == vote.comparison


def test_a_skip_is_reopened_while_its_seat_is_free(project, bob, carol, prefer):
    campaign = open_campaign(project, comparisons=1)
    skipped = queue.skip(queue.claim_next(bob, campaign), "by mistake", uuid4())
    reopened = queue.reopen(skipped)
    assert reopened.seat == 0
    assert queue.claim_next(carol, campaign) is None
    prefer(reopened)
    with pytest.raises(queue.TooLate):
        queue.reopen(_skipped(open_campaign(project, comparisons=1), bob, carol, prefer))


def _skipped(campaign, skipper, voter, prefer):
    skipped = queue.skip(queue.claim_next(skipper, campaign), "by mistake", uuid4())
    prefer(queue.claim_next(voter, campaign))
    return skipped


def test_an_undo_goes_past_an_open_revision(campaign, bob, prefer):
    vote = prefer(queue.claim_next(bob, campaign))
    stale = queue.reopen(vote)
    reopened = queue.undo(bob, campaign)
    assert (reopened.revision, reopened.seat) == (4, 0)
    with pytest.raises(queue.AlreadyCast, match="opened this comparison again"):
        prefer(stale)
    assert queue.progress(bob, campaign).mine == 0
    prefer(reopened, 1)
    assert queue.progress(bob, campaign).mine == 1


def test_leafing_back_and_forth(campaign, bob, prefer):
    first, second = (prefer(queue.claim_next(bob, campaign)) for _ in range(2))
    waiting = queue.claim_next(bob, campaign)
    assert queue.previous(waiting) == second
    assert queue.previous(second) == first
    assert queue.previous(first) is None
    assert queue.following(first) == second
    assert queue.following(second) == waiting
    assert queue.following(waiting) is None
    reopened = queue.reopen(first)
    assert queue.following(reopened) == second, "an open revision is where its vote is"
    assert queue.previous(reopened) is None


def test_history_is_one_s_own(campaign, bob, carol, prefer):
    prefer(queue.claim_next(carol, campaign))
    assert queue.previous(queue.claim_next(bob, campaign)) is None


def test_a_paused_person_reopens_nothing(campaign, bob, prefer):
    from django.utils import timezone

    vote = prefer(queue.claim_next(bob, campaign))
    enrol(campaign, bob, paused_at=timezone.now())
    with pytest.raises(queue.Refused, match="paused"):
        queue.reopen(vote)


def test_a_flag_is_a_skip_that_a_researcher_looks_into(campaign, bob, carol):
    key, ballot = uuid4(), queue.claim_next(bob, campaign)
    flagged = queue.flag(ballot, "Harmful", "It tells how to hurt people.", key)
    assert queue.flag(ballot, "Broken", "", key) == flagged
    flag = Flag.objects.get()
    assert (flag.ballot, flag.reason, flag.resolved_at) == (flagged, "Harmful", None)
    assert (flagged.outcome, flagged.seat) == ("flagged", None)
    assert queue.claim_next(bob, campaign).comparison != ballot.comparison


def test_what_somebody_flagged_is_asked_of_nobody_until_a_researcher_has_looked(
    campaign, bob, carol, alice
):
    flagged = queue.flag(queue.claim_next(bob, campaign), "Harmful", "", uuid4())
    assert queue.claim_next(carol, campaign).comparison != flagged.comparison
    assert queue.resolve(Flag.objects.get(), alice, "It is harmless.", retire=False)
    assert queue.claim_next(alice, campaign).comparison == flagged.comparison
    assert not queue.resolve(Flag.objects.get(), alice, "Twice.", retire=True)


def test_what_a_researcher_retires_is_asked_no_more(project, bob, carol, alice):
    campaign = open_campaign(project, comparisons=1, overlap=2)
    queue.flag(queue.claim_next(bob, campaign), "Harmful", "", uuid4())
    assert queue.complete(campaign), "a flag holds no round up"
    queue.resolve(Flag.objects.get(), alice, "It is.", retire=True)
    assert queue.claim_next(carol, campaign) is None


def test_a_campaign_may_go_on_asking_what_was_flagged(project, bob, carol, alice):
    campaign = open_campaign(project, comparisons=1, overlap=2)
    flagged = queue.flag(queue.claim_next(bob, campaign), "Harmful", "", uuid4())
    assert queue.claim_next(carol, campaign) is None
    versions.change(campaign, {"quality": {"ask_flagged": True}}, alice)
    assert queue.claim_next(carol, campaign).comparison == flagged.comparison


def test_a_flagged_hidden_test_is_asked_of_nobody_else(project, bob, carol, prefer):
    often = {"gold_start": 0.5, "gold_end": 0.5, "repeat_share": 0}
    campaign = open_campaign(project, comparisons=15, quality=often)
    known = crowd.gold(campaign)
    flagged = crowd.vote(bob, known, outcome="flagged", seat=None, reason="Harmful")
    Flag.objects.create(ballot=flagged, reason="Harmful")
    asked = [prefer(queue.claim_next(carol, campaign)).comparison for _ in range(15)]
    assert known not in asked


def test_a_skip_taken_back_finds_what_was_typed(campaign, bob):
    ballot = queue.claim_next(bob, campaign)
    queue.save_draft(ballot, {"comment": "Half a thought"})
    skipped = queue.skip(ballot, "I cannot decide", uuid4())
    queue.undo(bob, campaign)
    assert queue.draft(skipped) == {"comment": "Half a thought"}


def test_taking_a_flag_back_settles_it(campaign, bob):
    queue.flag(queue.claim_next(bob, campaign), "Harmful", "", uuid4())
    queue.undo(bob, campaign)
    assert Flag.objects.get().resolution == "Taken back"


def test_a_draft_is_kept_until_the_ballot_is_cast(campaign, bob, prefer):
    ballot = queue.claim_next(bob, campaign)
    assert queue.draft(ballot) == {}
    queue.save_draft(ballot, {"comment": "so far"})
    queue.save_draft(ballot, {"comment": "so far, so good", "choice": "A2"})
    assert queue.draft(ballot) == {"comment": "so far, so good", "choice": "A2"}
    prefer(ballot)
    assert not Draft.objects.exists()
    with pytest.raises(queue.AlreadyCast):
        queue.save_draft(ballot, {"comment": "late"})


def test_a_draft_of_any_length_is_not_kept(campaign, bob):
    with pytest.raises(ValueError, match="too long"):
        queue.save_draft(queue.claim_next(bob, campaign), {"comment": "x" * 600_000})
