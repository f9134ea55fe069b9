"""The page of retracted votes: retracting, undoing, seeing what is tainted, beginning a rebuild."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.loop import rebuilding, rows
from plumbline.loop.models import Experiment, Retraction
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
PAGE = "/p/alpha/lab/retractions/"


def text(response) -> str:
    assert response.status_code == 200, response.status_code
    return unescape(response.content.decode())


@pytest.fixture
def made(project, bob):
    """A finished round with two votes of bob's."""
    round = lab.finished_round(lab.experiment(project, name="Warmer"), steps=1)
    campaign = open_campaign(project, comparisons=2)
    round.ballots.set([crowd.vote(bob, one, [[0], [1]]) for one in campaign.comparisons.all()])
    round.ballots_sha256 = rows.ballots_digest(round.ballots.all())
    round.save()
    return round


def test_without_votes_there_is_nothing_to_retract(researcher, project):
    page = text(researcher.get(PAGE))
    for words in ("Nobody has voted yet", "No vote was retracted", "No round holds a retracted"):
        assert words in page, words


def test_a_vote_is_retracted_from_its_own_page(researcher, made, alice):
    ballot = made.ballots.first()
    assert f"{PAGE}?vote={ballot.pk}" in text(researcher.get(f"/p/alpha/lab/votes/{ballot.pk}/"))
    assert "Retract this vote" in text(researcher.get(f"{PAGE}?vote={ballot.pk}"))
    assert "Say why" in text(researcher.post(PAGE, {"vote": ballot.pk}, follow=True))
    page = text(researcher.post(PAGE, {"vote": ballot.pk, "reason": "A slip."}, follow=True))
    for words in ("trains nothing any more", "A vote of bob", "A slip.", "1 round, 1 policy"):
        assert words in page, words
    one = Retraction.objects.get()
    assert (one.ballot, one.actor) == (ballot, alice)
    assert made.ballots.count() == 2, "nothing is deleted"
    tainted = text(researcher.get(f"/p/alpha/lab/policies/{made.policy_out.pk}/"))
    assert "Retracted votes went into it" in tainted
    rounds = f"/p/alpha/lab/experiments/{made.experiment_id}/rounds/1/"
    assert "1 of its votes is retracted" in text(researcher.get(rounds))


def test_a_person_is_retracted_and_that_is_undone(researcher, made, bob):
    assert "Choose whose" in text(researcher.post(PAGE, {"reason": "So."}, follow=True))
    page = text(researcher.post(PAGE, {"person": bob.pk, "reason": "A bot."}, follow=True))
    assert "All of bob" in page
    one = Retraction.objects.get()
    assert "Say why" in text(researcher.post(f"{PAGE}{one.pk}/undo/", follow=True))
    page = text(researcher.post(f"{PAGE}{one.pk}/undo/", {"reason": "No bot."}, follow=True))
    for words in ("count again", "undone", "by alice: No bot."):
        assert words in page, words


def test_a_rebuild_is_begun_with_a_reason_and_then_nothing_is_undone(researcher, made, bob):
    researcher.post(PAGE, {"person": bob.pk, "reason": "A bot."})
    rebuild = f"/p/alpha/lab/experiments/{made.experiment_id}/rebuild/"
    assert "Say why" in text(researcher.post(rebuild, follow=True))
    page = text(researcher.post(rebuild, {"reason": "Without bob."}, follow=True))
    assert "Warmer, rebuilt begins" in page
    again = Experiment.objects.get(name="Warmer, rebuilt")
    page = text(researcher.get(PAGE))
    for words in ("a rebuild goes by it", "Warmer, rebuilt", "by alice", "Without bob."):
        assert words in page, words
    one = Retraction.objects.get()
    page = text(researcher.post(f"{PAGE}{one.pk}/undo/", {"reason": "No bot."}, follow=True))
    assert "cannot be undone" in page
    assert again.rebuild.numbers == [1]


def test_a_rebuilt_round_says_what_it_was_rebuilt_from(researcher, made, bob, alice):
    again = rebuilding.begin(made.experiment, actor=alice, reason="Is it the same?", also=1)
    figures = {"rebuilt": {"without": 2, "of": 9}}
    rebuilt = lab.finished_round(again, steps=1, replays=made, figures=figures)
    for address in (
        f"/p/alpha/lab/experiments/{again.pk}/rounds/1/",
        f"/p/alpha/lab/policies/{rebuilt.policy_out.pk}/",
    ):
        page = " ".join(text(researcher.get(address)).split())
        assert "round 1 of Warmer</a> without 2 of its 9 votes" in page
        assert "the weights are the same, bit for bit" in page


def test_an_annotator_sees_none_of_it(client_for, bob, made):
    assert client_for(bob).get(PAGE).status_code == 403
