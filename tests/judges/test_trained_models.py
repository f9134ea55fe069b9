"""Judges that are reward models trained here: attacked as language models are, and a mixture read
for each of two groups."""

from __future__ import annotations

import dataclasses

import pytest

from align import attacks, jobs
from align.ensemble import Ensemble
from align.gpu import reward
from plumbline.accounts.models import User
from plumbline.collect.models import Completion, Prompt, PromptSet
from plumbline.judges import asking, attacking, calibration, judges, verdicts
from plumbline.loop import tastes as known_tastes
from plumbline.policies.models import RewardModel
from tests.align.conftest import build_base, do
from tests.align.test_mixture import LIKES_LONG, LIKES_SHORT, rows
from tests.align.test_reward import comparisons, reward_job
from tests.judges import planted

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_base(tmp_path_factory.mktemp("judged") / "base")


def train(folder, base, compared, epochs=1, **more):
    """A reward model's folder and figures, trained in this process."""
    folder.mkdir()
    job = dataclasses.replace(reward_job(base, epochs=epochs, learning_rate=2e-2), **more)
    jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
    jobs.write_rows(folder / jobs.COMPARISONS, compared)
    return do(reward.work, folder)


def stored(project, folder, found, objective):
    return RewardModel.objects.create(
        project=project, name=folder.name, objective=objective, path=str(folder / "weights"),
        sha256=found["sha256"], ballots_used=9, temperature=1.0,
        metrics={name: found[name] for name in ("shares", "routes") if name in found},
    )  # fmt: skip


@pytest.fixture
def places(settings, tmp_path):
    settings.RUNS_DIR, settings.SCORES_DIR = tmp_path / "runs", tmp_path / "scores"
    return tmp_path


KINDS = [
    ("reward_model", "bradley_terry", {}),
    ("reward_model", "bradley_terry", {"ensemble": Ensemble(members=2)}),
    ("generative", "pairwise_generative", {}),
]


@pytest.mark.parametrize(
    ("kind", "objective", "more"), KINDS, ids=["one model", "an ensemble", "a generative model"]
)
def test_the_corpus_is_asked_of_a_trained_reward_model(
    project, alice, client_for, places, base, work, kind, objective, more
):
    found = train(places / "rm", base, comparisons()[:24], objective=objective, **more)
    model = stored(project, places / "rm", found, objective)
    version = judges.make(project, "Trained", kind, {}, reward_model=model, by=alice)
    ground = planted.ground(project, 24, planted.people(2))
    planted.says(version, ground, sharp=3.0)
    ballots = [ballot for one in ground.comparisons for ballot in one.ballots.all()]
    assert calibration.begin(version, ballots).error == ""
    page = client_for(alice)
    here = f"/p/alpha/lab/judges/{version.judge_id}/"
    answer = page.post(f"{here}attack/", {"attacks": 44, "max_dollars": 0})
    assert answer.status_code == 302
    row = version.attacks.get()
    work()
    row.refresh_from_db()
    row = attacking.settle(row)
    assert row.error == ""
    families = {one["family"]: one for one in row.figures["families"]}
    assert len(families) == len(attacks.FAMILIES)
    assert row.tried + sum(one["silent"] for one in families.values()) == 44
    assert row.tried >= 40, families
    assert 0 <= row.flips <= row.tried
    assert not Completion.objects.filter(text__contains="[[A]]").exists(), "nothing is stored"
    said = page.get(f"{here}calibration/").content.decode()
    assert f"{row.flips} of {row.tried} attacks" in said


def test_each_side_of_two_tastes_has_a_judge_that_agrees_with_its_own_raters(
    project, alice, client_for, places, base, work
):
    people = {
        name: User.objects.create_user(username=f"likes-{name}")
        for name in (*LIKES_LONG, *LIKES_SHORT)
    }
    compared = rows(60)
    for row in compared:
        for vote in row["votes"]:
            vote["rater"] = str(people[vote["rater"]].pk)
    found = train(places / "mixture", base, compared, epochs=6, objective="mixture")
    assert found["labels"]["tastes"]["differ"]
    model = stored(project, places / "mixture", found, "mixture")

    page = client_for(alice)
    shown = page.get("/p/alpha/lab/judges/tastes/").content.decode()
    assert "likes-a" in shown
    made = {}
    for side, names in (("cheerful", LIKES_LONG), ("gloomy", LIKES_SHORT)):
        raters = [people[name].pk for name in names]
        answer = page.post(
            "/p/alpha/lab/judges/tastes/",
            {"model": model.pk, "name": side, "rater": raters, "save": "1"},
        )
        assert answer.status_code == 302, answer.content.decode()
        judge = project.judges.get(name=side)
        made[side] = judges.current(judge)
        weights = known_tastes.weights(model, [people[name] for name in names])
        assert made[side].settings["knobs"]["heads"] == pytest.approx(weights, abs=1e-6)
        assert "likes-" in page.get(answer.url).content.decode()
    assert made["cheerful"].sha256 != made["gloomy"].sha256

    pairs, likes = heldout(project, compared)
    for side, names in (("cheerful", LIKES_LONG), ("gloomy", LIKES_SHORT)):
        asking.ask(made[side], pairs, side)
        work()
        said = verdicts.of(made[side], pairs)
        own = {str(people[name].pk) for name in names}
        right = [
            ((said[ids] or 0) > 0.5) == first
            for ids, votes in likes.items()
            for rater, first in votes
            if rater in own
        ]
        assert sum(right) / len(right) > 0.9, side


def heldout(project, compared):
    """The comparisons that the model did not learn from, and who voted for the first answer."""
    prompts = PromptSet.objects.create(project=project, name="Held out")
    pairs, likes = [], {}
    for row in compared:
        if not row["heldout"]:
            continue
        prompt = Prompt.objects.create(set=prompts, messages=row["messages"], digest=row["id"])
        both = [
            Completion.objects.create(prompt=prompt, text=one["text"], origin="test")
            for one in row["responses"]
        ]
        pairs.append((both[0], both[1]))
        likes[both[0].pk, both[1].pk] = [
            (vote["rater"], vote["ranking"] == [[0], [1]]) for vote in row["votes"]
        ]
    return pairs, likes


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({}, "Choose the raters that it is read for, or give each head a weight."),
        ({"rater": "1", "head-0": "1"}, "Choose raters or give weights, not both."),
        ({"rater": "999999"}, "trained on no vote of these raters"),
        ({"head-0": "-1", "head-1": "2"}, "0 or more, and one of them is above 0"),
        ({"head-0": "0"}, "0 or more, and one of them is above 0"),
        ({"head-0": "much"}, "weight is a number"),
        ({"head-0": "1", "name": ""}, "A judge needs a name."),
    ],
)
def test_what_no_mixture_can_be_read_by_is_refused(project, alice, client_for, posted, words):
    assert "No mixture yet" in client_for(alice).get("/p/alpha/lab/judges/tastes/").content.decode()
    mixture(project)
    sent = {"name": "Mine", "save": "1", **posted}
    answer = client_for(alice).post("/p/alpha/lab/judges/tastes/", sent)
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not project.judges.exists()


def mixture(project, **fields):
    metrics = {"shares": [0.5, 0.5], "routes": {"1": [0.9, 0.1]}}
    usual = {"name": "mix", "objective": "mixture", "sha256": "ab", "metrics": metrics}
    return RewardModel.objects.create(
        project=project, path="/mix", ballots_used=9, temperature=2.0, **{**usual, **fields}
    )


def test_weights_are_part_of_the_hash_and_a_change_is_a_version(project, alice, client_for, bob):
    model = mixture(project)
    page = client_for(alice)
    sent = {"name": "Mine", "save": "1", "head-0": "3", "head-1": "1"}
    page.post("/p/alpha/lab/judges/tastes/", sent)
    first = judges.current(project.judges.get(name="Mine"))
    assert first.settings["knobs"]["heads"] == [0.75, 0.25]
    page.post("/p/alpha/lab/judges/tastes/", {**sent, "head-0": "6", "head-1": "2"})
    assert judges.current(first.judge) == first, "the same shares are the same version"
    page.post("/p/alpha/lab/judges/tastes/", {**sent, "head-1": "0"})
    second = judges.current(first.judge)
    assert (second.number, second.sha256 != first.sha256) == (2, True)
    with pytest.raises(ValueError, match="has 2 heads; 3 weights"):
        judges.make(project, "X", "tastes", {"heads": [1, 1, 1]}, reward_model=model)
    plain = mixture(project, name="plain", objective="bradley_terry", sha256="cd")
    with pytest.raises(ValueError, match="is no mixture"):
        judges.make(project, "X", "tastes", {"heads": [1, 1]}, reward_model=plain)
    assert client_for(bob).get("/p/alpha/lab/judges/tastes/").status_code == 403
