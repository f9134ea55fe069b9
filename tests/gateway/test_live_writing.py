"""The gateway writes live answers into their rows, from a real engine, and lets go when told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from plumbline.collect import live
from plumbline.collect.models import LiveAnswer
from plumbline.collect.queue import Verdict
from tests.collect.live_ground import live_campaign
from tests.faulty_engine import FaultyEngine

pytestmark = pytest.mark.sqlite
FIRST_BETTER = Verdict(outcome="ranked", ranking=[[0], [1]], strength=2)


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, list(LiveAnswer.objects.values())
        time.sleep(0.03)
    return found


def states() -> list[str]:
    return list(LiveAnswer.objects.order_by("slot").values_list("state", flat=True))


@pytest.fixture
def faulty(engine: Any) -> Iterator[FaultyEngine]:
    relay = FaultyEngine(engine.port)
    yield relay
    relay.close()


@pytest.fixture
def babbling(
    project: Any,
    settings: Any,
    engine: Any,
    transactional_db: None,
    make_adapter: Any,
    promote: Any,
) -> Any:
    """A live campaign on a policy that goes on to the length limit."""
    settings.ENGINE_URL = engine.url
    promote(make_adapter(3, scale=0.5))
    return live_campaign(project, max_tokens=64)


def test_both_sides_are_written_to_their_ends_with_their_tokens(
    project: Any, bob: Any, gateway: Any, current: Any
) -> None:
    ballot = live.begin(bob, live_campaign(project, max_tokens=24, temperature=1.0))
    until(lambda: states() == ["done", "done"])
    for side in LiveAnswer.objects.all():
        assert side.text
        assert side.finish_reason in ("stop", "length")
        assert 0 < len(side.token_ids) <= 24
    seen = {side.slot: (1, side.upto) for side in LiveAnswer.objects.all()}
    vote = live.cast(ballot, FIRST_BETTER, uuid4(), seen)
    for slot in vote.comparison.slots.all():
        assert slot.completion.policy == current
        assert slot.completion.finish_reason in ("stop", "length")
        assert slot.completion.token_ids


def test_a_policy_that_no_alias_points_at_is_loaded_when_it_is_asked(
    project: Any, bob: Any, gateway: Any, current: Any, make_adapter: Any
) -> None:
    other = make_adapter(7)
    ballot = live.begin(bob, live_campaign(project, second=other.name, max_tokens=8))
    until(lambda: states() == ["done", "done"])
    seen = {side.slot: (1, side.upto) for side in LiveAnswer.objects.all()}
    live.cast(ballot, FIRST_BETTER, uuid4(), seen)
    assert ballot.comparison.slots.get(slot=1).completion.policy == other


def test_text_grows_in_its_row_and_a_verdict_stops_the_engine(
    project: Any, bob: Any, faulty: FaultyEngine, start_gateway: Any, babbling: Any
) -> None:
    start_gateway(faulty.url)
    faulty.pause = 0.05
    ballot = live.begin(bob, babbling)
    until(lambda: all(len(one.text) > 5 for one in LiveAnswer.objects.all()))
    assert states() == ["writing", "writing"]
    lengths = {one.slot: len(one.text) for one in LiveAnswer.objects.all()}
    live.cast(ballot, FIRST_BETTER, uuid4(), {slot: (1, n) for slot, n in lengths.items()})
    until(lambda: faulty.left == [True, True])
    kept = {one.slot: len(one.completion.text) for one in ballot.comparison.slots.all()}
    assert kept == lengths


@pytest.mark.parametrize("garble", [False, True])
def test_one_side_breaks_off_alone_and_is_written_again(
    project: Any, bob: Any, faulty: FaultyEngine, start_gateway: Any, garble: bool
) -> None:
    start_gateway(faulty.url)
    faulty.break_off, faulty.garble = 1, garble
    ballot = live.begin(bob, live_campaign(project, max_tokens=32))
    until(lambda: sorted(states()) == ["done", "failed"])
    failed = LiveAnswer.objects.get(state="failed")
    assert failed.trouble == "broken"
    assert failed.token_ids is None
    live.again(ballot, ballot.shown.index(failed.slot), failed.attempt)
    until(lambda: states() == ["done", "done"])


def test_an_engine_that_is_away_breaks_off_both(project: Any, bob: Any, start_gateway: Any) -> None:
    start_gateway("http://127.0.0.1:9")
    live.begin(bob, live_campaign(project))
    until(lambda: states() == ["failed", "failed"])


def test_a_conversation_that_is_too_long_is_told_so(
    project: Any, bob: Any, gateway: Any, current: Any
) -> None:
    campaign = live_campaign(project, prompts=0)
    ballot = live.write(bob, campaign, "word " * 1500)
    until(lambda: states() == ["failed", "failed"])
    assert live.sides(ballot)[0].trouble == "The conversation is too long for this answer."


def test_what_a_dead_writer_left_is_told_to_have_broken_off(
    project: Any, bob: Any, gateway: Any, current: Any
) -> None:
    live.begin(bob, live_campaign(project))
    LiveAnswer.objects.update(
        state="writing",
        text="Half an",
        writer=uuid4(),
        beat_at=timezone.now() - timedelta(minutes=1),
    )
    until(lambda: states() == ["failed", "failed"])
    assert {one.text for one in LiveAnswer.objects.all()} == {"Half an"}


def test_a_gateway_that_stops_says_what_broke_off(
    project: Any, bob: Any, faulty: FaultyEngine, start_gateway: Any, babbling: Any
) -> None:
    faulty.pause = 0.1
    slow = start_gateway(faulty.url)
    live.begin(bob, babbling)
    until(lambda: any(one.text for one in LiveAnswer.objects.all()))
    slow.server.should_exit = True
    until(lambda: states() == ["failed", "failed"])
