"""Live comparisons: what an early verdict keeps, and what nobody may see or get before it."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.collect import live, queue
from plumbline.collect.models import Ballot, Comparison, Completion, LiveAnswer, Prompt
from plumbline.collect.queue import Refused, Verdict
from plumbline.collect.votes import counted
from plumbline.policies.models import Deployment
from tests.collect.live_ground import grow, live_campaign
from tests.comparisons import compare

pytestmark = pytest.mark.django_db
FIRST_BETTER = Verdict(outcome="ranked", ranking=[[0], [1]], strength=2)


def seen(first: int, second: int) -> dict[int, tuple[int, int]]:
    """So much of slots 0 and 1, of their first attempts."""
    return {0: (1, first), 1: (1, second)}


def test_a_person_gets_two_samples_of_the_policy_that_is_served(project, bob):
    campaign = live_campaign(project, temperature=0.7, max_tokens=40)
    ballot = live.begin(bob, campaign)
    sides = ballot.comparison.live_answers.all()
    current = Deployment.objects.get(alias="current").policy
    assert [(one.slot, one.policy, one.state) for one in sides] == [
        (0, current, "waiting"),
        (1, current, "waiting"),
    ]
    assert sides[0].sampling == {"temperature": 0.7, "max_tokens": 40}
    assert sorted(ballot.shown) == [0, 1]
    assert ballot.comparison.kind == "live"


def test_an_early_verdict_keeps_what_was_seen_and_stops_both(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Paris is the capital of France.")
    grow(ballot, 1, "Lyon, I th")
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen(8, 4))
    kept = [slot.completion for slot in vote.comparison.slots.all()]
    assert [(one.text, one.finish_reason, one.token_ids) for one in kept] == [
        ("Paris is", "cut", None),
        ("Lyon", "cut", None),
    ]
    assert all(one.cut_off for one in kept)
    assert {one.state for one in LiveAnswer.objects.all()} == {"kept"}


def test_an_answer_read_to_its_end_is_kept_whole_with_its_tokens(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Paris.", "done", finish_reason="stop", token_ids=[5, 6, 2])
    grow(ballot, 1, "Lyon.", "done", finish_reason="stop", token_ids=[7, 2])
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen(7, 5))
    whole, unended = (slot.completion for slot in vote.comparison.slots.all())
    assert (whole.text, whole.finish_reason, whole.token_ids) == ("Paris.", "stop", [5, 6, 2])
    # The person had read the words of the other, but not that they end there.
    assert (unended.text, unended.finish_reason, unended.token_ids) == ("Lyon.", "cut", None)
    assert whole.policy == Deployment.objects.get().policy
    assert whole.sampling == {"temperature": 1.0, "max_tokens": 256}


def test_nobody_can_claim_to_have_seen_more_than_was_written(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Paris")
    grow(ballot, 1, "Lyon")
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen(5000, 4))
    assert vote.comparison.slots.get(slot=0).completion.text == "Paris"
    assert vote.comparison.slots.get(slot=0).completion.finish_reason == "cut"


def test_an_answer_that_has_not_begun_cannot_be_judged(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Paris")
    with pytest.raises(ValueError, match="has not begun yet"):
        live.cast(ballot, FIRST_BETTER, uuid4(), seen(5, 0))
    assert not Completion.objects.exists(), "a refused vote stops nothing"
    assert LiveAnswer.objects.get(slot=0).state == "writing"
    ballot.refresh_from_db()
    assert not ballot.outcome


def test_an_answer_that_ends_at_once_is_an_answer(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Paris")
    grow(ballot, 1, "", "done", finish_reason="stop", token_ids=[2])
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen(5, 1))
    assert vote.comparison.slots.get(slot=1).completion.finish_reason == "stop"


def test_a_vote_sent_twice_is_one_vote_on_what_the_first_had_seen(project, bob):
    ballot, key = live.begin(bob, live_campaign(project)), uuid4()
    grow(ballot, 0, "Paris is")
    grow(ballot, 1, "Lyon is")
    live.cast(ballot, FIRST_BETTER, key, seen(5, 4))
    again = live.cast(ballot, FIRST_BETTER, key, seen(8, 7))
    assert again.pk == ballot.pk
    assert [one.text for one in Completion.objects.order_by("draw")] == ["Paris", "Lyon"]


def test_nobody_else_gets_a_comparison_before_it_was_judged(project, bob, carol):
    campaign = live_campaign(project, prompts=1, overlap=2)
    ballot = live.begin(bob, campaign)
    grow(ballot, 0, "Paris", "done", finish_reason="stop")
    grow(ballot, 1, "Lyon", "done", finish_reason="stop")
    assert queue.claim_next(carol, campaign) is None
    assert live.begin(carol, campaign) is None, "its prompt is in bob's hands"
    live.cast(ballot, FIRST_BETTER, uuid4(), seen(6, 5))
    theirs = queue.claim_next(carol, campaign)
    assert theirs.comparison_id == ballot.comparison_id
    queue.cast(theirs, FIRST_BETTER, uuid4())
    votes = queue.standing(counted(campaign.comparisons.all()))
    assert votes.count() == 2, "judged live and read later, they count alike"


def test_a_closed_tab_leaves_nothing_that_trains_and_is_found_again(project, bob, carol):
    campaign = live_campaign(project, prompts=1)
    ballot = live.begin(bob, campaign)
    grow(ballot, 0, "Paris")
    Ballot.objects.update(
        expires_at=timezone.now() - timedelta(seconds=1),
        claimed_at=timezone.now() - timedelta(hours=1),
    )
    assert not Completion.objects.exists()
    assert not queue.standing(counted(campaign.comparisons.all())).exists()
    again = live.begin(bob, campaign)
    assert again.comparison_id == ballot.comparison_id
    assert [side.text for side in live.sides(again)][again.shown.index(0)] == "Paris"
    assert again.shown == ballot.shown
    Ballot.objects.filter(outcome="").update(
        expires_at=timezone.now() - timedelta(seconds=1),
        claimed_at=timezone.now() - timedelta(hours=1),
    )
    assert live.begin(carol, campaign).comparison.prompt_id == ballot.comparison.prompt_id
    assert live.begin(carol, campaign).comparison_id != ballot.comparison_id


def test_two_tabs_begin_one_comparison(project, bob):
    campaign = live_campaign(project)
    assert live.begin(bob, campaign).pk == live.begin(bob, campaign).pk
    assert Comparison.objects.count() == 1


def test_a_skip_stops_both_and_is_asked_of_nobody(project, bob, carol):
    campaign = live_campaign(project, prompts=1)
    ballot = live.begin(bob, campaign)
    grow(ballot, 0, "Paris")
    live.skip(ballot, "I cannot decide", uuid4())
    assert {one.state for one in LiveAnswer.objects.all()} == {"kept"}
    comparison = Comparison.objects.get()
    assert comparison.retired_at is not None
    assert queue.claim_next(carol, campaign) is None
    undone = queue.undo(bob, campaign)
    with pytest.raises(ValueError, match="has not begun yet"):
        live.cast(undone, FIRST_BETTER, uuid4(), seen(5, 0))


def test_a_flag_shows_a_researcher_all_that_was_written(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Something awful")
    flagged = live.flag(ballot, "Upsetting or unsafe", "", uuid4())
    assert flagged.comparison.slots.get(slot=0).completion.text == "Something awful"


def test_a_side_that_broke_off_is_written_again_once(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Par", "failed", trouble="broken")
    grow(ballot, 1, "Lyon")
    place = ballot.shown.index(0)
    live.again(ballot, place, 1)
    live.again(ballot, place, 1)
    failed, other = LiveAnswer.objects.order_by("slot")
    assert (failed.state, failed.attempt, failed.text) == ("waiting", 2, "")
    assert (other.state, other.attempt, other.text) == ("writing", 1, "Lyon")


def test_one_side_never_runs_far_ahead_of_the_other(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "x" * 1000, grown_at=timezone.now())
    grow(ballot, 1, "y" * 10, grown_at=timezone.now())
    place = ballot.shown.index(0)
    assert live.sides(ballot)[place].upto == 170
    have = [(1, 400), (1, 400)]
    assert live.sides(ballot, have)[place].upto == 400, "what is on the screen stays there"
    LiveAnswer.objects.filter(slot=1).update(grown_at=timezone.now() - timedelta(seconds=5))
    assert live.sides(ballot)[place].upto == 1000, "nobody waits for a side that hangs"


def test_people_write_and_go_on_with_the_better_answer(project, bob):
    campaign = live_campaign(project, prompts=0)
    assert live.begin(bob, campaign) is None
    ballot = live.write(bob, campaign, "  Hello?\r\n")
    assert ballot.comparison.prompt.messages == [{"role": "user", "content": "Hello?"}]
    assert live.write(bob, campaign, "Hello?").pk == ballot.pk, "a double click"
    with pytest.raises(Refused, match="comparison open"):
        live.write(bob, campaign, "Something else")
    grow(ballot, 0, "Good day")
    grow(ballot, 1, "Go away")
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen(4, 2))
    further = live.write(bob, campaign, "And now?", after=vote)
    assert [turn["content"] for turn in further.comparison.prompt.messages] == [
        "Hello?",
        "Good",
        "And now?",
    ]
    assert Prompt.objects.filter(set=ballot.comparison.prompt.set).count() == 2


def test_what_people_write_for_an_evaluation_is_held_out(project, bob):
    campaign = live_campaign(project, prompts=0, purpose="evaluate")
    assert live.write(bob, campaign, "Hello?").comparison.prompt.split == "heldout"


@pytest.mark.parametrize(
    ("words", "sentence"), [(" \n", "Write something first"), ("x" * 8001, "too long")]
)
def test_a_message_is_refused_in_a_sentence(project, bob, words, sentence):
    with pytest.raises(Refused, match=sentence):
        live.write(bob, live_campaign(project, prompts=0), words)


def test_each_prompt_is_asked_once_and_then_nothing_is_left(project, bob, carol):
    campaign = live_campaign(project, prompts=2)
    assert live.prompts_left(campaign) == 2
    first, second = live.begin(bob, campaign), live.begin(carol, campaign)
    assert first.comparison.prompt_id != second.comparison.prompt_id
    assert live.prompts_left(campaign) == 0
    grow(first, 0, "a")
    grow(first, 1, "b")
    live.cast(first, FIRST_BETTER, uuid4(), seen(1, 1))
    assert live.begin(bob, campaign) is None


def test_a_person_cannot_begin_without_end(project, bob):
    campaign = live_campaign(project, prompts=30)
    for _ in range(20):
        live.skip(live.begin(bob, campaign), "I cannot decide", uuid4())
    with pytest.raises(Refused, match="a lot at once"):
        live.begin(bob, campaign)


def test_without_a_served_policy_nothing_begins(project, bob):
    campaign = live_campaign(project)
    Deployment.objects.all().delete()
    with pytest.raises(Refused, match="not served"):
        live.begin(bob, campaign)
    assert not Comparison.objects.exists()


def test_a_paused_campaign_begins_nothing(project, bob):
    campaign = live_campaign(project, paused_at=timezone.now())
    assert live.begin(bob, campaign) is None
    assert not live.writes(bob, campaign)


def test_a_tab_that_shows_an_earlier_attempt_cannot_judge_the_next_one(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Quite another answer", attempt=2)
    grow(ballot, 1, "Lyon")
    with pytest.raises(ValueError, match="written anew since"):
        live.cast(ballot, FIRST_BETTER, uuid4(), seen(5, 4))
    assert not Completion.objects.exists()


def test_an_answer_is_not_written_again_for_ever(project, bob):
    ballot = live.begin(bob, live_campaign(project))
    grow(ballot, 0, "Par", "failed", trouble="broken", attempt=10)
    assert not live.again(ballot, ballot.shown.index(0), 10)


def test_nobody_writes_before_the_training(project, bob):
    campaign = live_campaign(project, prompts=0)
    source = campaign.project.prompt_sets.get()
    compare(
        campaign, source, "Known?", ["a", "b"], kind="training", expected={"outcome": "all_bad"}
    )
    with pytest.raises(Refused, match="training comes first"):
        live.write(bob, campaign, "Hello?")
    assert not Comparison.objects.filter(kind="live").exists()
