"""A round rebuilt without a poisoner has the weights of a round that never had those votes."""

from __future__ import annotations

from uuid import uuid4

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.collect import queue
from plumbline.loop import advance, rebuilding, retractions, rounds
from plumbline.loop.models import Round, Stage
from plumbline.policies import manifest
from tests.loop.conftest import run_jobs, run_round, vote_on_everything

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


@pytest.fixture
def poisoner(project) -> User:
    user = User.objects.create_user(username="mallory")
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def against(user: User, campaign) -> int:
    """Vote for the worse answer by length, everywhere there is still a seat."""
    count = 0
    while (ballot := queue.claim_next(user, campaign)) is not None:
        texts = {slot.slot: slot.completion.text for slot in ballot.comparison.slots.all()}
        worst = min(texts, key=lambda slot: (len(texts[slot]), slot))
        rest = [slot for slot in texts if slot != worst]
        queue.cast(ballot, queue.Verdict("ranked", ranking=[[worst], rest], strength=3), uuid4())
        count += 1
    return count


def open_for_votes(round: Round) -> Round:
    for _ in range(10):
        advance.tick()
        run_jobs()
        round.refresh_from_db()
        if round.campaign is not None:
            return round
    raise AssertionError(f"no votes were asked for: {round.stage} {round.error}")


def files(round: Round) -> dict[str, str]:
    from pathlib import Path

    policy = round.policy_out
    assert policy is not None
    found = manifest.outline(Path(policy.path), policy.sha256)["files"]
    return {name: entry["sha256"] for name, entry in found.items()}


def test_a_round_rebuilt_without_a_poisoner_has_the_weights_of_one_that_never_had_him(
    experiment_of, rater, poisoner, alice
):
    settings = {"prompts_per_round": 6, "autopilot": False, "overlap": 2}
    poisoned = experiment_of(**settings)
    first = open_for_votes(rounds.begin(poisoned))
    assert vote_on_everything(rater, first.campaign) > 3
    assert against(poisoner, first.campaign) > 3
    first = run_round(first, rater)
    assert first.stage == Stage.PROMOTE, first.error
    advance.decisions.reject(first.policy_out, actor=alice, reason="Poisoned.")
    advance.tick()

    clean = experiment_of(name="Clean", **{**settings, "overlap": 1})
    never = run_round(rounds.begin(clean), rater)
    assert never.stage == Stage.PROMOTE, never.error
    advance.decisions.reject(never.policy_out, actor=alice, reason="Only to compare.")
    advance.tick()
    assert files(never) != files(first), "the poison did something"

    retractions.retract_person(poisoned.project, poisoner, actor=alice, reason="Poisoned.")
    again = rebuilding.begin(poisoned, actor=alice, reason="Without him.")
    advance.tick()
    rebuilt = run_round(again.rounds.get(), None)
    assert rebuilt.stage == Stage.PROMOTE, rebuilt.error
    assert not rebuilt.ballots.filter(annotator=poisoner).exists()
    assert rebuilt.ballots.count() == never.ballots.count()
    assert files(rebuilt) == files(never)
