"""Corrections and marked places in a live pair: they wait for an answer's end, each for its own."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import pytest

from plumbline.collect import live
from plumbline.collect.models import Ballot
from tests.collect.live_ground import grow, live_campaign

pytestmark = pytest.mark.django_db
ASKS = ["compare", "correct", "spans"]


@pytest.fixture
def ballot(project, bob):
    """The answer on the left has ended, the one on the right goes on."""
    found = live.begin(bob, live_campaign(project, asks=ASKS))
    grow(found, found.shown[0], "Paris is the capitol.", "done", finish_reason="stop")
    grow(found, found.shown[1], "Lyon is")
    return found


def url(ballot) -> str:
    return f"/p/alpha/ballots/{ballot.pk}/"


def vote(ballot, **more) -> dict[str, str]:
    seen = {"seen_0": f"1.{len('Paris is the capitol.') + 1}", "seen_1": "1.7"}
    return {"choice": "A2", "key": str(uuid4()), **seen, **more}


def areas(client, ballot) -> list[tuple[bool, str]]:
    """Of each answer's field for a correction: whether it is shut, and its text."""
    page = client.get(url(ballot)).content.decode()
    found = re.findall(r"<textarea class=\"in-place\"( disabled)?[^>]*>\n([^<]*)", page)
    return [(bool(shut), text) for shut, text in found]


def test_an_answer_that_has_ended_can_be_corrected_and_the_other_one_not_yet(
    client_for, bob, ballot
):
    assert areas(client_for(bob), ballot) == [(False, "Paris is the capitol."), (True, "")]


def test_what_is_corrected_and_marked_is_kept_with_the_answer_as_it_was_seen(
    client_for, bob, ballot
):
    place = [{"n": 0, "start": 13, "end": 20, "label": "wrong", "note": ""}]
    sent = vote(ballot, correct_0="Paris is the capital.", spans=json.dumps(place))
    client_for(bob).post(url(ballot), sent)
    stored = Ballot.objects.get(pk=ballot.pk)
    assert stored.corrections == {str(ballot.shown[0]): "Paris is the capital."}
    assert [stored.spans[0][name] for name in ("slot", "start", "end")] == [ballot.shown[0], 13, 20]
    assert stored.comparison.slots.get(slot=ballot.shown[1]).completion.finish_reason == "cut"


def test_an_early_verdict_needs_no_correction_and_takes_none_of_a_text_that_moves(
    client_for, bob, ballot
):
    client_for(bob).post(url(ballot), vote(ballot, correct_1="Lyon is not"))
    stored = Ballot.objects.get(pk=ballot.pk)
    assert stored.outcome == "ranked"
    assert stored.corrections == {}


def test_no_place_is_marked_in_a_text_that_moves(client_for, bob, ballot):
    place = [{"n": 1, "start": 0, "end": 4, "label": "good", "note": ""}]
    answer = client_for(bob).post(url(ballot), vote(ballot, spans=json.dumps(place)))
    assert answer.status_code == 422
    assert "outside of its answer" in answer.content.decode()
    assert not Ballot.objects.get(pk=ballot.pk).outcome
