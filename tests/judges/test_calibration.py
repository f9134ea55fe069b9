"""A judge beside people: planted faults are found, what is no person's vote is left out."""

from __future__ import annotations

import pytest
from django.utils import timezone

from align import fitting
from plumbline.accounts.models import User
from plumbline.collect import origins
from plumbline.collect.models import Ballot, Enrolment
from plumbline.judges import attacking, beside_people, calibration, evidence
from plumbline.judges.models import Calibration
from plumbline.loop import calibrating, holdout, retractions
from tests.judges import planted

pytestmark = pytest.mark.django_db


def inside(interval: dict, value: float) -> bool:
    return bool(interval["low"] <= value <= interval["high"])


def test_planted_faults_are_found_inside_their_intervals(project) -> None:
    made = planted.ground(project, 900, planted.people(3))
    version = planted.judge(project)
    planted.says(version, made, sharp=2.0, length=1.0, position=0.7)
    row = calibrating.calibrate(version)
    assert row.finished_at is not None
    figures = row.figures
    # The judge's p is a mean of two sigmoids, so the planted odds are met nearly, not exactly.
    assert row.a == pytest.approx(0.5, abs=0.15)
    assert inside(figures["fit"]["b_len"], -0.5)
    assert figures["position"]["first"]["low"] > 0.5
    assert figures["length"]["judge"]["value"] > figures["length"]["people"]["value"]
    assert abs(figures["length"]["fitted"]["value"] - figures["length"]["people"]["value"]) < 0.05
    assert figures["calibrated"]["log_loss"]["value"] < figures["raw"]["log_loss"]["value"]
    assert figures["calibrated"]["ece"]["value"] <= figures["raw"]["ece"]["value"]
    assert row.gate["passed"]
    assert row.usable
    assert figures["heldout"] + figures["fitted"] == row.pairs == 900


def test_a_judge_that_says_what_people_mean_needs_no_correction(project) -> None:
    made = planted.ground(project, 500, planted.people(2))
    version = planted.judge(project)
    planted.says(version, made)
    figures = calibrating.calibrate(version).figures
    assert inside(figures["fit"]["a"], 1.0)
    assert inside(figures["fit"]["b_len"], 0.0)
    assert inside(figures["position"]["first"], 0.5)
    assert figures["position"]["consistent"]["value"] == 1.0
    beside, among = figures["agreement"]["beside"], figures["agreement"]["people"]
    assert beside["value"] > among["value"]  # it knows their mind, they drew their votes
    assert figures["agreement"]["pairs"] == figures["heldout"]


def test_a_judge_that_guesses_does_not_pass(project) -> None:
    made = planted.ground(project, 300, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made, sharp=0.0, noise=2.0)
    row = calibrating.calibrate(version)
    assert not row.gate["passed"]
    assert not row.usable
    assert row.figures["trusted"] is None
    assert row.figures["agreement"]["people"] is None  # one vote a pair: nobody to agree with


def test_too_few_votes_give_a_sentence_and_no_figure(project) -> None:
    made = planted.ground(project, 12, planted.people(1))
    version = planted.judge(project)
    with pytest.raises(ValueError, match="nobody has voted"):
        calibration.begin(version, Ballot.objects.none())
    planted.says(version, made)
    row = calibrating.calibrate(version)
    assert row.figures == {}
    assert "Too few votes" in row.gate["why"]
    assert row.a is None


def test_only_peoples_own_standing_votes_count(project, alice) -> None:
    voters = planted.people(3)
    made = planted.ground(project, 40, voters)
    before = set(calibrating.ballots(project).values_list("pk", flat=True))
    assert len(before) == 120
    first = made.comparisons[0]
    machine = User.objects.create_user(username="machine", kind=User.Kind.AI)
    other = User.objects.create_user(username="brought", kind=User.Kind.IMPORT)
    now = timezone.now()
    for user in (machine, other):
        Ballot.objects.create(
            comparison=first, annotator=user, shown=[0, 1], claimed_at=now,
            expires_at=now + timezone.timedelta(minutes=1), cast_at=now, outcome="ranked",
            ranking=[[0], [1]],
        )  # fmt: skip
    assert set(calibrating.ballots(project).values_list("pk", flat=True)) == before
    for comparison, kind in zip(made.comparisons[:3], ("gold", "repeat", "training"), strict=True):
        comparison.kind = kind
        comparison.expected = {"ranking": [[0], [1]]}
        comparison.repeats, comparison.only_for = made.comparisons[5], voters[0]
        comparison.save()
    assert calibrating.ballots(project).count() == 111
    Enrolment.objects.create(campaign=made.campaign, user=voters[0], excluded_at=now)
    assert calibrating.ballots(project).count() == 74
    some = calibrating.ballots(project).filter(annotator=voters[1]).first()
    retractions.retract_vote(some, actor=alice, reason="A slip.")
    assert calibrating.ballots(project).count() == 73


def test_one_row_a_version_and_ballots_and_a_new_version_has_none(project) -> None:
    made = planted.ground(project, 120, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made)
    row = calibrating.calibrate(version)
    assert calibrating.calibrate(version).pk == row.pk
    assert calibration.newest(version) == row
    revised = planted.judge(project, number=2)
    assert calibration.newest(revised) is None
    retracted = calibrating.ballots(project).first()
    retracted.outcome, retracted.ranking = "all_bad", []
    retracted.save()
    assert calibrating.calibrate(version).pk != row.pk
    assert Calibration.objects.count() == 2
    row.refresh_from_db()
    assert beside_people.measure(calibration.rows_of(row)).figures == row.figures


def test_rows_name_answers_by_what_they_are(project) -> None:
    made = planted.ground(project, 30, planted.people(2))
    version = planted.judge(project)
    planted.says(version, made, sharp=3.0, position=1.0)
    found = evidence.judged(version, list(evidence.rows(calibrating.ballots(project))))
    for row, (comparison, one, other) in zip(found, made.pairs(), strict=True):
        assert (row.first, row.second) == (str(one.pk), str(other.pk))
        assert row.p is not None
        assert (row.p > 0.5) == (made.worth[comparison.pk] > 0)
        assert row.q_first is not None
        assert row.q_second is not None
        assert row.q_first + row.q_second > 1  # it likes what is shown first
    some = [evidence.heldout(row.group) for row in found]
    assert 0 < sum(some) < len(some)


def test_silence_is_counted_and_never_taken_for_a_word(project) -> None:
    made = planted.ground(project, 200, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made, silent=lambda at: at % 4 == 0)
    found = evidence.judged(version, list(evidence.rows(calibrating.ballots(project))))
    measured = beside_people.measure(found)
    assert measured.figures["pairs"] == 200
    assert measured.figures["judged"] == 150
    assert measured.figures["heldout"] + measured.figures["fitted"] == 150


def test_what_is_disputed_is_told_with_the_surest_first(project) -> None:
    made = planted.ground(project, 200, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made, noise=1.5)
    row = calibrating.calibrate(version)
    found = calibration.disputed(row)
    assert found
    sure = [abs(p - 0.5) for _, p in found]
    assert sure == sorted(sure, reverse=True)
    assert all(one.heldout and (p - 0.5) * (one.y - 0.5) < 0 for one, p in found)
    assert {one.first for one, _ in found} <= calibration.texts([one for one, _ in found]).keys()


def test_attacks_need_a_calibration_and_go_where_the_judge_sees_a_loser(project) -> None:
    made = planted.ground(project, 60, planted.people(1))
    version = planted.judge(project)
    planted.says(version, made, sharp=2.0)
    with pytest.raises(ValueError, match="Calibrate"):
        attacking.begin(version)
    calibrating.calibrate(version)
    found = attacking.bases(version)
    assert len(found) == 60
    some = attacking.chosen(22)
    assert len({one.family for one in some}) == 11
    pairs = attacking.attacked_pairs(found, some)
    assert len(pairs) == 44
    assert len(pairs[0][0].text) == len(pairs[1][0].text)
    assert pairs[0][0].pk != pairs[1][0].pk


def test_no_judge_is_measured_by_what_it_learned_from(project) -> None:
    made = planted.ground(project, 60, planted.people(1))
    version = planted.judge(project)
    every = set(calibrating.unseen(version).values_list("pk", flat=True))
    assert len(every) == 60
    model = planted.trained(project, made)
    taught = planted.judge(project, name="Taught", reward_model=model)
    left = calibrating.unseen(taught).select_related("comparison__prompt")
    assert 0 < len(left) < 20
    assert all(holdout.of_prompt(one.comparison.prompt) for one in left)
    programmed = planted.judge(project, name="Program", kind="program")
    made.campaign.comparisons.filter(pk=made.campaign.comparisons.first().pk).update(
        strategy=origins.ICPL
    )
    assert calibrating.unseen(programmed).count() == 59
    weighed = planted.judge(project, name="Weighed", kind="features")
    for one in calibrating.unseen(weighed).select_related("comparison__prompt"):
        prompt = one.comparison.prompt
        assert holdout.of_prompt(prompt) or fitting.held_out(prompt.digest)
