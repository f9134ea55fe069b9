"""A winner's picks among fresh answers, drawn by a real engine, before people and blind."""

from __future__ import annotations

import uuid

import pytest

from align import seeded_writer
from align.programs import to_json
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, Completion
from plumbline.evolve import advance, confirming, panel, promoting, sessions, telling, trials
from plumbline.evolve.models import Confirmation, Evolution, Program, Trial
from plumbline.judges import judges
from plumbline.policies import serving
from tests.evolve import laboratory
from tests.evolve.conftest import rank_everything
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.django_db
HOME = "/p/alpha/evolve/"
SIZES = {"chosen_prompts": 3, "spare_prompts": 0, "hidden_prompts": 4, "fresh_prompts": 14}


def brief(text):
    return -float(len(text.split()))


@pytest.fixture
def session(evolution_of, project, engine, settings, rater):
    """A session of one generation that has just ended; what is served can be asked."""
    settings.ENGINE_URL = engine.url
    evolution = evolution_of(
        **{**SIZES, "pool_size": 4, "max_tokens": 12, "generations_wanted": 1},
        policy=serving.base_policy(project),
    )
    laboratory.ranked(evolution, rater)
    return evolution


def go_on(evolution, person=None, taste=brief):
    """Tick and work until the confirmation waits for people or, where somebody votes, is over."""
    for _ in range(20):
        advance.tick()
        run_jobs()
        one = Confirmation.objects.order_by("-pk").first()
        if one is None or one.campaign is None:
            continue
        if person is not None:
            rank_everything(person, evolution, taste)
            advance.tick()
            advance.tick()
            one.refresh_from_db()
        if person is None or one.finished_at is not None:
            evolution.refresh_from_db()
            return one
    raise AssertionError("the confirmation goes in circles")


def winner(evolution, weights):
    """Make a program of the test's own the session's best, with a trial that it passed."""
    made = seeded_writer.build(weights, {})
    program = laboratory.add(evolution.generations.get(), 7, made)
    Trial.objects.create(
        program=program, number=1, passed=True, temperature=1.0, finished_at="2026-01-01T00:00Z"
    )
    Program.objects.filter(pk=program.pk).update(status="candidate_judge")
    Evolution.objects.filter(pk=evolution.pk).update(best=program)
    evolution.refresh_from_db()
    program.refresh_from_db()
    return program


def test_a_winner_is_confirmed_on_fresh_answers_before_it_judges(session, rater, alice, client_for):
    program = winner(session, {"brevity": 3.0})
    kept = set(session.panel.filter(role="fresh").values_list("prompt_id", flat=True))
    assert len(kept) == 14
    seen = {pool.prompt.pk for pool in panel.pools(session)}
    assert not kept & seen, "no generation samples what is kept fresh"
    with pytest.raises(ValueError, match="nobody has compared its picks on fresh answers"):
        promoting.promote(program, "Brief", alice)

    one = go_on(session)
    assert session.state == Evolution.State.CONFIRM
    assert not session.over
    assert one.policy == serving.base_policy(session.project)
    assert one.campaign.purpose == Campaign.Purpose.EVALUATE
    asked = one.campaign.comparisons.all()
    assert {row.prompt_id for row in asked} <= kept
    by_prompt = {row["prompt"]: row for row in one.picks}
    sides = set()
    for row in asked:
        slots = {slot.slot: str(slot.completion_id) for slot in row.slots.all()}
        picks = by_prompt[row.prompt_id]
        assert set(slots.values()) == {picks["program"], picks["incumbent"]}
        sides.add(slots[0] == picks["program"])
        drawn = Completion.objects.filter(batch=Completion.objects.get(pk=slots[0]).batch)
        assert drawn.filter(prompt=row.prompt_id).count() == session.pool_size
    assert sides == {True, False}, "neither side is always the program's"
    page = client_for(alice)
    said = page.get(f"{HOME}{session.pk}/").content.decode()
    assert "Being confirmed" in said
    assert "Compare picks" in said
    ballot_page = client_for(rater).get(f"/p/alpha/campaigns/{one.campaign_id}/").content.decode()
    assert f"rogram {program}" not in ballot_page.replace(one.campaign.name, "")

    one = go_on(session, person=rater)
    assert session.state == Evolution.State.FINISHED
    assert one.passed is True, one.said
    assert "Confirmed." in session.ended
    told = one.figures
    assert told["low"] > 0.5
    assert told["low"] < told["rate"] <= told["high"]
    assert told["prompts"] + told["same"] == len(one.picks)
    one.campaign.refresh_from_db()
    assert one.campaign.closed_at is not None
    said = page.get(f"{HOME}{session.pk}/programs/{program.pk}/").content.decode()
    assert "Its picks won" in said
    version = promoting.promote(program, "Brief", alice)
    version.refresh_from_db()
    assert version.settings["program"] == program.program
    assert promoting.try_out(program, alice).labellers.get() == version.judge
    assert trials.human_pairs(program) == [], "what confirms it is no proof of a trial"


def test_picks_that_people_do_not_prefer_keep_it_from_judging(session, rater, alice, client_for):
    program = winner(session, {"brevity": 3.0})
    one = go_on(session, person=rater, taste=lambda text: -brief(text))
    assert one.passed is False
    assert one.figures["rate"] < 0.5
    assert session.ended.startswith(("All", "The good"))
    assert "Not confirmed." in session.ended
    with pytest.raises(ValueError, match="Not confirmed. Its picks won"):
        promoting.promote(program, "Brief", alice)
    page = client_for(alice)
    here = f"{HOME}{session.pk}/programs/{program.pk}/"
    assert "Confirm it again" in page.get(here).content.decode()
    page.post(here + "step/", {"do": "confirm"})
    assert program.confirmations.count() == 2
    answer = page.post(here + "step/", {"do": "confirm"}, follow=True).content.decode()
    assert "A confirmation of this program is under way." in answer
    answer = page.post(here + "step/", {"do": "enough"}, follow=True).content.decode()
    assert "No confirmation waits for votes." in answer


@pytest.mark.sqlite
def test_too_few_votes_are_not_a_confirmation_and_a_judge_can_be_the_incumbent(
    session, project, rater, alice
):
    other = seeded_writer.build({"brevity": -3.0}, {})
    incumbent = judges.make(
        project, "Long", "program", {"temperature": 0.5}, program=to_json(other), by=alice
    )
    Evolution.objects.filter(pk=session.pk).update(incumbent=incumbent)
    program = winner(session, {"brevity": 3.0})
    one = go_on(session)
    assert one.incumbent == incumbent
    for row in one.picks:
        drawn = Completion.objects.get(pk=row["incumbent"])
        answers = Completion.objects.filter(prompt=row["prompt"], batch=drawn.batch)
        assert drawn.token_ids is not None
        assert len(drawn.text.split()) >= max(len(a.text.split()) for a in answers) - 3
    asked = list(one.campaign.comparisons.order_by("pk"))
    ballot = queue.claim_next(rater, one.campaign)
    queue.cast(ballot, queue.Verdict("ranked", ranking=[[0], [1]]), uuid.uuid4())
    confirming.enough(program)
    advance.tick()
    one.refresh_from_db()
    assert one.passed is None
    assert "too few" in one.said
    assert one.figures["prompts"] == 1
    assert len(asked) > 1
    with pytest.raises(ValueError, match="too few"):
        promoting.promote(program, "Brief", alice)


def test_a_session_that_is_cancelled_while_it_is_confirmed_asks_nothing_more(session, alice):
    winner(session, {"brevity": 3.0})
    one = go_on(session)
    sessions.cancel(session, alice)
    session.refresh_from_db()
    one.refresh_from_db()
    assert session.state == Evolution.State.CANCELLED
    assert one.finished_at is not None
    assert "Cancelled by alice" in one.said
    assert Campaign.objects.get(pk=one.campaign_id).closed_at is not None


def test_a_session_without_fresh_prompts_says_so_and_asks_for_none(
    evolution_of, rater, alice, client_for
):
    evolution = evolution_of()
    laboratory.ranked(evolution, rater)
    program = winner(evolution, {"brevity": 3.0})
    with pytest.raises(ValueError, match="kept no prompts fresh"):
        confirming.begin(program)
    said = client_for(alice).get(f"{HOME}{evolution.pk}/programs/{program.pk}/").content.decode()
    assert "kept no prompts fresh" in said
    assert promoting.promote(program, "Brief", alice)


def test_the_writer_hears_nothing_of_fresh_prompts(evolution_of, rater):
    evolution = evolution_of(fresh_prompts=8)
    laboratory.ranked(evolution, rater)
    fresh = [str(one.prompt) for one in evolution.panel.filter(role="fresh")]
    told = str(telling.messages(evolution.generations.get()))
    assert not any(one in told for one in fresh)
    shown = evolution.panel.filter(role="fresh").values("prompt")
    assert not Ballot.objects.filter(comparison__prompt__in=shown).exists()
