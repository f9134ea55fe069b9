"""Votes taken back from training: what counts from then on, what they tainted, what can be undone.

A real rebuild is in test_rebuilding.py; here rounds are rows.
"""

from __future__ import annotations

import pytest

from plumbline.loop import campaigns, history, lineage, rebuilding, retractions
from plumbline.loop.models import Rebuild, Stage
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
FIRST = [[0], [1]]


@pytest.fixture
def voted(project, bob, carol):
    """Three rounds, the second from the first one's policy, with two votes of bob's and two of
    carol's each; the third is another experiment's, from the base."""
    base = lab.policy(project)
    experiment = lab.experiment(project, name="Warmer", start=base)
    other = lab.experiment(project, name="Shorter", start=base)
    made = []
    for one in (experiment, experiment, other):
        start = made[0].policy_out if len(made) == 1 else base
        round = lab.finished_round(one, steps=1, policy_in=start)
        campaign = open_campaign(project, comparisons=2, overlap=2)
        for comparison in campaign.comparisons.all():
            round.ballots.add(*(crowd.vote(who, comparison, FIRST) for who in (bob, carol)))
        round.ballots_sha256 = rebuilding.rows.ballots_digest(round.ballots.all())
        round.save()
        made.append(round)
    return made


def tainted(project):
    return {one.round.pk: one.votes for one in lineage.tainted(project)}


def test_a_retracted_vote_taints_its_round_and_what_was_made_from_it(voted, project, alice):
    first, second, third = voted
    assert tainted(project) == {}
    retractions.retract_vote(first.ballots.first(), actor=alice, reason="A slip.")
    assert tainted(project) == {first.pk: 1, second.pk: 0}
    (_, after) = lineage.tainted(project)
    assert after.by == [(lineage.STARTS, first)]
    hit = [one.round for one in lineage.tainted(project)]
    assert lineage.policies(project, hit) == [first.policy_out, second.policy_out]


def test_a_retracted_person_taints_every_round_they_voted_in(voted, project, alice, bob):
    retractions.retract_person(project, bob, actor=alice, reason="A bot.")
    assert tainted(project) == {one.pk: 2 for one in voted}


def test_retracted_votes_train_no_round_to_come(voted, project, alice, bob, carol):
    first, second, _ = voted
    campaign = first.ballots.first().comparison.campaign
    before = campaigns.evidence(campaign.comparisons.all()).count()
    made = retractions.retract_person(project, bob, actor=alice, reason="A bot.")
    left = campaigns.evidence(campaign.comparisons.all())
    assert before == 4
    assert {one.annotator for one in left} == {carol}
    assert {one.annotator for one in history.ballots(second)} == {carol}
    retractions.undo(made, actor=alice, reason="It was somebody else.")
    assert campaigns.evidence(campaign.comparisons.all()).count() == 4
    assert tainted(project) == {}


def test_what_a_person_said_elsewhere_is_not_retracted(voted, project, alice, bob, charlie):
    from plumbline.accounts.models import Project

    beta = Project.objects.get(slug="beta")
    campaign = open_campaign(beta, comparisons=1)
    crowd.vote(bob, campaign.comparisons.first(), FIRST)
    retractions.retract_person(project, bob, actor=alice, reason="A bot.")
    assert campaigns.evidence(campaign.comparisons.all()).count() == 1


def test_bad_retractions_are_refused_in_a_sentence(voted, project, alice, bob, dana):
    first, _, _ = voted
    ballot = first.ballots.first()
    with pytest.raises(ValueError, match="Say why"):
        retractions.retract_vote(ballot, actor=alice, reason="  ")
    skipped = crowd.skip(dana, ballot.comparison)
    with pytest.raises(ValueError, match="holds none"):
        retractions.retract_vote(skipped, actor=alice, reason="Why not.")
    with pytest.raises(ValueError, match="dana has cast no vote in Alpha"):
        retractions.retract_person(project, dana, actor=alice, reason="Why not.")
    retractions.retract_vote(ballot, actor=alice, reason="A slip.")
    with pytest.raises(ValueError, match="retracted already"):
        retractions.retract_vote(ballot, actor=alice, reason="A slip.")


def test_a_rebuild_goes_over_the_tainted_rounds_and_fixes_its_retractions(voted, project, alice):
    first, second, _ = voted
    experiment = first.experiment
    with pytest.raises(ValueError, match="nothing to rebuild"):
        rebuilding.begin(experiment, actor=alice, reason="For the sake of it.")
    made = retractions.retract_vote(second.ballots.first(), actor=alice, reason="A slip.")
    again = rebuilding.begin(experiment, actor=alice, reason="Without it.")
    rebuild = Rebuild.objects.get(experiment=again)
    assert rebuild.numbers == [2]
    assert (again.name, again.seed, again.autopilot) == ("Warmer, rebuilt", experiment.seed, False)
    assert again.knobs == experiment.knobs
    with pytest.raises(ValueError, match="cannot be undone"):
        retractions.undo(made, actor=alice, reason="After all.")
    from plumbline.loop import rounds

    round = rounds.begin(again)
    assert (round.number, round.replays, round.policy_in) == (2, second, first.policy_out)
    assert history.before(round) == [first], "round 1 was not tainted and stands in"
    assert rebuilding.replay(round) == Stage.REWARD
    assert round.figures["rebuilt"] == {"without": 1, "of": 4}
    assert round.ballots.count() == 3
    later = rebuilding.begin(again, actor=alice, reason="Once more.")
    assert later.rebuild.of == experiment, "a rebuild of a rebuild replays the original"


def test_a_snapshot_that_is_not_what_its_hash_says_is_not_replayed(voted, alice):
    first, _, _ = voted
    from plumbline.loop import rounds

    first.ballots.remove(first.ballots.first())
    again = rebuilding.begin(first.experiment, actor=alice, reason="Again.", also=1)
    with pytest.raises(ValueError, match="not those that it froze"):
        rebuilding.replay(rounds.begin(again))


def test_an_experiment_that_begins_with_a_tainted_policy_waits_for_it(voted, project, alice):
    first, _, _ = voted
    child = lab.experiment(project, name="Further", start=first.policy_out)
    after = lab.finished_round(child, steps=1)
    retractions.retract_vote(first.ballots.first(), actor=alice, reason="A slip.")
    assert tainted(project)[after.pk] == 0
    with pytest.raises(ValueError, match="Rebuild Warmer round 1 first"):
        rebuilding.begin(child, actor=alice, reason="Without it.")
    clean = rebuilding.begin(first.experiment, actor=alice, reason="Without it.")
    rebuilt = lab.finished_round(clean, steps=1, replays=first)
    again = rebuilding.begin(child, actor=alice, reason="Without it.")
    assert again.start == rebuilt.policy_out
