"""Rounds with AI judges: pinned, sorted, watched, overridden by people, never their own
evaluators. Rows are made directly; what judges say is planted."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from plumbline.accounts.models import Membership, User
from plumbline.collect.models import Ballot, Campaign
from plumbline.judges import verdicts
from plumbline.judges.models import JudgeVersion
from plumbline.loop import (
    calibrating,
    cloning,
    forms,
    judge_refusals,
    judging,
    labelling,
    settings_file,
    triaging,
)
from plumbline.loop.models import Round, RoundJudge, Sent, Stage
from tests.judges import planted

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(project) -> User:
    user = User.objects.create_user(username="clara")
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


@pytest.fixture
def calibrated(project) -> JudgeVersion:
    """A judge that knows people's mind, measured on votes of before."""
    before = planted.ground(project, 400, planted.people(1), seed=100, spread=4.0)
    version = planted.judge(project, "Good")
    planted.says(version, before, sharp=2.0)
    assert calibrating.calibrate(version).usable
    return version


def labelled(experiment_of, project, version, count: int = 120, **fields: Any):
    """A round in its label stage with comparisons that nobody has voted on."""
    experiment = experiment_of(**{"labels": "judge_and_people", **fields})
    experiment.labellers.set([version.judge])
    made = planted.ground(project, count, [], seed=1, spread=4.0)
    round = Round.objects.create(
        experiment=experiment, number=1, policy_in=experiment.start, stage=Stage.LABEL,
        campaign=made.campaign,
    )  # fmt: skip
    judging.pin(round)
    return round, made


def test_judges_are_pinned_when_the_round_begins(experiment_of, project, calibrated) -> None:
    round, _ = labelled(experiment_of, project, calibrated)
    pinned = round.judges.get()
    assert (pinned.version, pinned.sha256, pinned.weight) == (calibrated, calibrated.sha256, 1.0)
    assert pinned.calibration is not None
    JudgeVersion.objects.create(judge=calibrated.judge, number=2, settings={}, sha256="2" * 64)
    judging.pin(round)
    assert round.judges.get().version == calibrated
    another = Round.objects.create(
        experiment=experiment_of(name="Next", labels="judge"), number=1,
        policy_in=round.policy_in,
    )  # fmt: skip
    another.experiment.labellers.set([calibrated.judge])
    judging.pin(another)
    assert another.judges.get().version.number == 2


def test_sure_ones_are_the_judges_and_people_get_the_rest(
    experiment_of, project, calibrated, person
) -> None:
    round, made = labelled(experiment_of, project, calibrated)
    planted.says(calibrated, made, sharp=2.0)
    assert labelling.label(round) is None
    sent = {one.comparison_id: one for one in round.sent.all()}
    assert len(sent) == 120
    random = [one for one in sent.values() if one.why == "random"]
    assert 4 <= len(random) <= 24
    above = round.figures["triage"]["above"]
    for one in sent.values():
        assert one.p is not None
        if one.why != "random":
            assert (one.to == "judge") == (abs(one.p - 0.5) > above)
    asked = set(made.campaign.comparisons.filter(retired_at=None).values_list("pk", flat=True))
    assert asked == {pk for pk, one in sent.items() if one.to == "people"}
    assert Ballot.objects.filter(annotator=calibrated.judge.account).count() == 0
    planted.vote(made, person)
    assert labelling.label(round) == Stage.REWARD
    round.refresh_from_db()
    assert not triaging.suspended(round)
    machine = Ballot.objects.filter(annotator=calibrated.judge.account)
    sure = {pk for pk, one in sent.items() if one.to == "judge"}
    assert sure <= set(machine.values_list("comparison_id", flat=True))
    assert all(one.probability == sent[one.comparison_id].p for one in machine)
    assert all(one.seat is None and "Good, version 1" in one.comment for one in machine)
    frozen = round.ballots.all()
    assert frozen.count() == 120  # people override: one word on each comparison
    assert set(frozen.filter(annotator__kind="ai").values_list("comparison", flat=True)) == sure
    before = round.ballots_sha256
    triaging.cast(round)
    assert labelling.label(round) == Stage.REWARD
    assert round.ballots_sha256 == before


def test_a_judge_that_people_contradict_is_suspended_with_the_evidence(
    experiment_of, project, calibrated, person
) -> None:
    round, made = labelled(experiment_of, project, calibrated, count=300, slice_percent=20)
    turned = {pk: -worth for pk, worth in made.worth.items()}
    made.worth, honest = turned, made.worth  # what it says now is the opposite of the truth
    planted.says(calibrated, made, sharp=2.0)
    made.worth = honest
    assert labelling.label(round) is None
    waiting = round.sent.filter(to="judge").count()
    assert waiting > 30
    planted.vote(made, person)
    assert labelling.label(round) is None  # more is asked of people now
    told = triaging.suspended(round)
    assert told is not None
    assert told["rate"] > 0.5
    assert told["capital"] >= 20
    assert round.sent.filter(why="suspended", to="people").count() == waiting
    assert planted.vote(made, person) == waiting
    assert labelling.label(round) == Stage.REWARD
    assert round.ballots.filter(annotator__kind="ai").count() == 0
    assert round.ballots.count() == 300


def test_people_get_no_more_than_their_budget_and_the_most_uncertain_first(
    experiment_of, project, calibrated, person
) -> None:
    round, made = labelled(experiment_of, project, calibrated, votes_at_most=30)
    planted.says(calibrated, made, sharp=2.0, silent=lambda at: at % 40 == 0)
    assert labelling.label(round) is None
    people = round.sent.filter(to="people")
    assert people.count() == 30
    left = list(round.sent.filter(why="left out").values_list("p", flat=True))
    asked = list(people.filter(why="unsure").values_list("p", flat=True))
    assert left
    assert max(abs(p - 0.5) for p in asked) <= min(abs(p - 0.5) for p in left)
    assert round.sent.filter(p=None).exclude(to="people").count() == 0
    planted.vote(made, person)
    assert labelling.label(round) == Stage.REWARD
    frozen = set(round.ballots.values_list("comparison_id", flat=True))
    assert not frozen & set(round.sent.filter(to="nobody").values_list("comparison", flat=True))


def test_a_judge_may_label_everything_and_people_what_it_is_silent_on(
    experiment_of, project, person
) -> None:
    version = planted.judge(project, "New")  # measured by nobody yet
    round, made = labelled(experiment_of, project, version, labels="judge")
    assert round.judges.get().calibration is None
    planted.says(version, made, position=0.3, silent=lambda at: at % 10 == 0)
    assert labelling.label(round) is None
    assert round.sent.filter(p=None, to="people").count() == 12
    contradicts = round.sent.filter(p__isnull=False, consistent=False)
    assert contradicts.exclude(why="random").exclude(to="nobody").count() == 0
    planted.vote(made, person)
    assert labelling.label(round) == Stage.REWARD
    assert round.ballots.filter(annotator__kind="ai").count() > 60


def test_a_mix_is_fitted_to_people_and_pinned(experiment_of, project, calibrated, person) -> None:
    noisy = planted.judge(project, "Noisy")
    before = planted.Ground(Campaign.objects.get(name="Ground 100"))
    before.comparisons = list(before.campaign.comparisons.select_related("prompt").order_by("pk"))
    slots = [one.slots.select_related("completion__prompt") for one in before.comparisons]
    before.answers = [slot.completion for both in slots for slot in both]
    said = verdicts.of(calibrated, [(a, b) for _, a, b in before.pairs()])
    before.worth = {one.pk: 4 * ((said[a.pk, b.pk] or 0.5) - 0.5) for one, a, b in before.pairs()}
    planted.says(noisy, before, sharp=0.2, noise=2.0, seed=3)
    calibrating.calibrate(noisy)
    experiment = experiment_of(labels="judge")
    experiment.labellers.set([calibrated.judge, noisy.judge])
    round = Round.objects.create(experiment=experiment, number=1, policy_in=experiment.start)
    judging.pin(round)
    weights = {one.version.judge.name: one.weight for one in round.judges.all()}
    assert weights["Good"] > 0.5 > weights["Noisy"] >= 0
    made = planted.ground(project, 30, [], seed=5)
    planted.says(calibrated, made, sharp=2.0)
    planted.says(noisy, made, noise=2.0, silent=lambda at: at == 0)
    labellers = judging.of(round, judging.LABEL)
    pairs = [(a, b) for _, a, b in made.pairs()]
    there = judging.words(labellers, pairs)
    back = judging.words(labellers, [(b, a) for a, b in pairs])
    assert there[pairs[0][0].pk, pairs[0][1].pk].p is None  # one of them is silent
    for a, b in pairs[1:]:
        p, q = there[a.pk, b.pk].p, back[b.pk, a.pk].p
        assert p is not None
        assert p + q == pytest.approx(1, abs=1e-12)


def test_a_round_fails_with_a_sentence_where_its_judge_is_not_calibrated(
    experiment_of, project
) -> None:
    version = planted.judge(project, "New")
    experiment = experiment_of(labels="judge_and_people")
    round = Round.objects.create(experiment=experiment, number=1, policy_in=experiment.start)
    with pytest.raises(ValueError, match="No judge is chosen"):
        judging.pin(round)
    experiment.labellers.set([version.judge])
    with pytest.raises(ValueError, match="Calibrate it first"):
        judging.pin(round)
    assert not RoundJudge.objects.exists()


def frozen(project, name: str, **settings: Any) -> JudgeVersion:
    version = planted.judge(project, name)
    JudgeVersion.objects.filter(pk=version.pk).update(settings=settings)
    version.refresh_from_db()
    return version


def test_who_shares_a_model_may_not_evaluate_what_it_labelled(project, settings) -> None:
    settings.ENGINE_URL = "http://127.0.0.1:9"
    own = {"url": "", "model": "base"}
    far = {"url": "https://models.example/v1", "model": "m"}
    reward = {"name": "rm", "sha256": "ab" * 32}
    one = frozen(project, "one", endpoint=far)
    assert "the same model (m)" in judging.related(
        frozen(project, "two", endpoint={**far, "url": far["url"] + "/"}, principles=[]), one
    )
    assert "itself" in judging.related(
        frozen(project, "three", endpoint={"url": "http://127.0.0.1:9/v1", "model": "base"}),
        frozen(project, "four", endpoint=own),
    )
    assert "the same reward model (rm)" in judging.related(
        frozen(project, "five", reward_model=reward), frozen(project, "six", reward_model=reward)
    )
    assert "the same reward program" in judging.related(
        frozen(project, "seven", program={"code": "x"}),
        frozen(project, "eight", program={"code": "x"}),
    )
    assert "cannot evaluate" in judging.related(planted.judge(project, "one", number=2), one)
    assert judging.related(one, frozen(project, "nine", endpoint={**far, "model": "other"})) == ""


def test_the_launch_form_refuses_in_sentences(project, prompt_set, calibrated, alice) -> None:
    def errors(**fields: Any) -> dict[str, Any]:
        values = {
            "prompt_set": str(prompt_set.pk),
            "name": "Try",
            "labels": "judge_and_people",
            "prompts_per_round": 4,
            **fields,
        }
        shown = forms.ExperimentForm(project, initial=values)
        form = forms.ExperimentForm(project, forms.as_data(shown))
        return {name: str(found[0]) for name, found in form.errors.items()}

    good, new = str(calibrated.judge_id), str(planted.judge(project, "New").judge_id)
    assert errors(labellers=[good]) == {}
    assert errors()["labellers"] == "Choose the judge that labels."
    assert "Calibrate it first" in errors(labellers=[new])["labellers"]
    assert "no confidence" in errors(labellers=[good], judge_errors=1)["judge_errors"]
    assert "Choose the judge" in errors(labellers=[good], judge="judge")["evaluator"]
    same = errors(labellers=[good], judge="judge", evaluator=good)
    assert "cannot evaluate what comes of its labels" in same["evaluator"]
    assert errors(labellers=[good], judge="judge", evaluator=new) == {}
    assert judge_refusals.usual("slice_percent") == 10


def test_judges_go_along_in_clones_and_settings_files(
    project, prompt_set, calibrated, alice
) -> None:
    new = planted.judge(project, "New")
    values = {
        "prompt_set": str(prompt_set.pk),
        "name": "Judged", "labels": "judge_and_people", "labellers": [str(calibrated.judge_id)],
        "judge": "judge", "evaluator": str(new.judge_id), "slice_percent": 15,
        "face_off_percent": 30, "prompts_per_round": 4,
    }  # fmt: skip
    form = forms.ExperimentForm(
        project, forms.as_data(forms.ExperimentForm(project, initial=values))
    )
    assert form.is_valid(), form.errors
    made = form.save(alice)
    assert list(made.labellers.all()) == [calibrated.judge]
    told = settings_file.write(made)
    assert told["labellers"] == [{"name": "Good", "sha256": calibrated.sha256}]
    assert told["evaluator"]["name"] == "New"
    again = settings_file.launch(told, project, alice)
    assert list(again.labellers.all()) == [calibrated.judge]
    assert (again.evaluator, again.slice_percent, again.face_off_percent) == (new.judge, 15, 30)
    clone = cloning.of_experiment(made)
    assert clone.values["labellers"] == [str(calibrated.judge_id)]
    found = forms.ExperimentForm(project, initial=clone.values)
    assert cloning.differences(found, clone) == []
    planted.judge(project, "New", number=2)
    with pytest.raises(settings_file.Refused, match="The judge New is another version here"):
        settings_file.launch(told, project, alice)


def test_what_was_sent_is_unique_and_told_on_the_rounds_page(
    experiment_of, project, calibrated, alice, client_for
) -> None:
    round, made = labelled(experiment_of, project, calibrated)
    planted.says(calibrated, made, sharp=2.0)
    assert labelling.label(round) is None
    assert labelling.label(round) is None
    assert Sent.objects.filter(round=round).count() == 120
    page = client_for(alice).get(reverse("round", args=[project.slug, round.experiment_id, 1]))
    words = page.content.decode()
    assert "Good, version 1" in words
    assert "to people, as the random slice" in words
    assert "errors promised on at most 10.0" in words
