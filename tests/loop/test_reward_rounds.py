"""Rounds with real jobs, whose reward model, an ensemble of heads, is retrained in each: whom it
learns from, what it is measured by, whether it replaces the last one, and what its scores are used
for. And a scoring job that is killed on its way.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from align import ensemble, jobs
from plumbline.accounts.models import Membership, User
from plumbline.collect import queue, selection
from plumbline.collect.models import Ballot, Completion
from plumbline.fleet import claims
from plumbline.fleet.models import Job
from plumbline.fleet.supervise import supervise
from plumbline.judges.models import Score
from plumbline.loop import advance, holdout, roundjobs, rounds, rows
from plumbline.loop.models import Round, Stage
from plumbline.policies.models import RewardModel
from tests.loop.conftest import SMALL, run_jobs

pytestmark = pytest.mark.django_db

LEARNS = {**SMALL, "learning_rate": 3e-3, "epochs": 6, "batch_size": 8, "micro_batch_size": 8}
TESTED, KEPT = 3, 3  # prompts, of twelve
VOTERS = 5


@pytest.fixture(autouse=True)
def _engine(engine, settings, tmp_path):
    settings.ENGINE_URL = engine.url
    settings.SCORES_DIR = tmp_path / "scores"


@pytest.fixture
def prompts(prompt_set):
    """Training prompts, some of them held out from reward models, half of those for tests."""
    found = list(prompt_set.prompts.filter(split="train").order_by("pk"))
    for number, prompt in enumerate(found):
        bucket = 0 if number < TESTED else holdout.SHARE if number < TESTED + KEPT else 1
        prompt.digest = f"{20 * number + bucket:08x}{prompt.digest[8:]}"
        prompt.save()
    return found


@pytest.fixture
def voters(project):
    """Five people, the last of them held out from reward models."""
    numbers = range(1000, 2000)
    apart = next(pk for pk in numbers if holdout._bucket(pk) == 0)
    usual = [pk for pk in numbers if holdout._bucket(pk)][: VOTERS - 1]
    found = [User.objects.create_user(id=pk, username=f"voter-{pk}") for pk in [*usual, apart]]
    for user in found:
        Membership.objects.create(project=project, user=user, role="annotator")
    return found


@pytest.fixture
def experiment(experiment_of, prompts, voters):
    return experiment_of(
        rounds_wanted=2,
        prompts_per_round=len(prompts),
        samples_per_prompt=4,
        overlap=VOTERS,
        pairs_from="reward_model",
        pair_rule="max_min",
        reward_optimiser=LEARNS,
        reward_folds=2,
        reward_ensemble={"members": 3, "sharing": "heads", "reading": "uncertainty"},
        reward_labels={"newest": 4.0},
        agreement="weight",
    )


def vote(user: User, campaign, says: Callable[[Ballot, list[str]], list[int]]) -> int:
    """Vote on everything, putting first what `says` names; how many ballots were cast."""
    count = 0
    while (ballot := queue.claim_next(user, campaign)) is not None:
        texts = [slot.completion.text for slot in ballot.comparison.slots.all()]
        ranking = [[at] for at in says(ballot, texts)]
        queue.cast(ballot, queue.Verdict("ranked", ranking=ranking), uuid4())
        count += 1
    return count


def the_shorter(ballot: Ballot, texts: list[str]) -> list[int]:
    return sorted(range(len(texts)), key=lambda at: (len(texts[at]), texts[at]))


def go(round: Round, voters: list[User], says=the_shorter, until: str = Stage.DONE) -> Round:
    """Tick, work and vote until the round is in a stage, over, or waits for nobody here."""
    for _ in range(60):
        advance.tick()
        round.refresh_from_db()
        if round.stage == until or round.over:
            return round
        worked = run_jobs()
        campaign = round.campaign
        if campaign is not None and campaign.closed_at is None:
            worked += sum(vote(user, campaign, says) for user in voters)
        if not worked:
            time.sleep(0.2)  # a busy engine; the loop would look again just like this
    raise AssertionError(f"the round stands still at {round.stage}: {round.error}")


def over(round: Round) -> None:
    """What becomes of its policy is no matter here."""
    Job.objects.filter(state=Job.State.QUEUED).update(state=Job.State.CANCELLED)
    round.stage = Stage.DONE
    round.save()


def rows_of(round: Round, purpose: str, name: str) -> list[dict]:
    return list(jobs.read_rows(round.jobs.get(purpose=purpose).job.folder / name))


def scored_anew(job: Job) -> set[str]:
    """Answers that a score job had to compute the reward of: not those it found in the cache."""
    computed: set[str] = set()
    for line in (job.folder / "scoring.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["scorer"] == "reward":
            computed = (
                computed - set(row["recalled"]) if "recalled" in row else computed | {row["id"]}
            )
    return computed


def learned_only_from_training_votes(round: Round, voters: list[User], prompts) -> None:
    """From the base, on all votes so far but those of held-out prompts and of the last voter."""
    job = round.jobs.get(purpose="reward").job
    assert job.spec["base"]["base"] == round.experiment.start.base_model
    assert job.spec["base"]["adapter"] is None
    learns = [str(prompt.messages) for prompt in prompts[TESTED + KEPT :]]
    cast: Counter[int] = Counter()
    for row in jobs.read_rows(job.folder / jobs.COMPARISONS):
        if not row["heldout"]:
            assert str(row["messages"]) in learns
            assert str(voters[-1].pk) not in {one["rater"] for one in row["votes"]}
            cast.update(round.number - one["age"] for one in row["votes"])
    for number in range(1, round.number + 1):
        earlier = round.experiment.rounds.get(number=number).ballots
        usual = earlier.filter(comparison__prompt__in=prompts[TESTED + KEPT :])
        assert cast[number] == usual.exclude(annotator=voters[-1]).count() > 0


def measured_on_the_exact_votes(model: RewardModel, round: Round, voters, prompts) -> None:
    """Every slice holds just the votes it names, of all rounds so far."""
    votes = {one["name"]: one["votes"] for one in model.metrics["measured"]["slices"]}
    so_far = Ballot.objects.filter(rounds__number__lte=round.number)
    parts = {
        "test": so_far.filter(comparison__prompt__in=prompts[:TESTED]),
        "prompts": so_far.filter(comparison__prompt__in=prompts[TESTED : TESTED + KEPT]),
        "annotators": so_far.filter(
            comparison__prompt__in=prompts[TESTED + KEPT :], annotator=voters[-1]
        ),
    }
    for part, ballots in parts.items():
        assert votes[part] == ballots.count() > 0, part
    assert votes["people"] == sum(votes[part] for part in parts)


def asked_where_members_disagreed(round: Round, temperature: float) -> None:
    """Of nine prompts in ten, the pair that a vote tells most of; the others know their chance."""
    said = rows.read_scores(round.jobs.get(purpose="doubt").job)
    asked = Counter()
    for comparison in round.campaign.comparisons.all():
        answers = selection.different(list(rows.sampled(round)[comparison.prompt_id]))
        told = {
            frozenset(pair): ensemble.information(
                *(said[str(answer.pk)]["members"] for answer in pair), temperature
            )
            for pair in combinations(answers, 2)
        }
        shown = frozenset(slot.completion for slot in comparison.slots.all())
        most = told[shown] == max(told.values())
        asked[most] += 1
        chance = 0.1 / len(told) + 0.9 * most
        assert comparison.p_select == pytest.approx(chance)
    assert asked[True] > asked[False]


def paired_by_one_models_scores(round: Round) -> None:
    """Every answer is scored by the round's model, and every pair says what that model says."""
    sampled = Completion.objects.filter(batch__in=rows.sources(round))
    scores = Score.objects.filter(reward_model=round.reward_model, completion__in=sampled)
    assert scores.count() == sampled.count() > 0
    assert all(len(one.members) == 3 and one.spread is not None for one in scores)
    by_answer = {one.completion_id: one for one in scores}
    temperature = round.figures["reward_gate"]["temperature"]
    voted = {
        frozenset(slot.completion_id for slot in comparison.slots.all())
        for comparison in round.campaign.comparisons.all()
    }
    by_score = 0
    for example in round.examples.all():
        chosen, rejected = (
            by_answer[example.answers.get(role=role).completion_id]
            for role in ("chosen", "rejected")
        )
        margin = (chosen.value - rejected.value) / temperature
        if {chosen.completion_id, rejected.completion_id} not in voted:  # else by people's word
            assert example.p == pytest.approx(1 / (1 + math.exp(-margin)))
            by_score += 1
        sure = ensemble.certainty(chosen.members, rejected.members, temperature)
        assert example.weight == pytest.approx(sure)
    assert by_score


def scored_once(models: list[RewardModel], scores_dir: Path) -> None:
    """No job computed a reward that its model had given before."""
    for model in models:
        asked = Job.objects.filter(kind="score", spec__reward_model=model.path)
        anew = Counter(key for job in asked for key in scored_anew(job))
        assert anew
        assert set(anew.values()) == {1}
    caches = list(scores_dir.glob("*.jsonl"))
    assert len(caches) == len(models)
    for cache in caches:
        seen = Counter(line[:64] for line in cache.read_text().splitlines())
        assert set(seen.values()) == {1}


def recalled(job: Job) -> int:
    """How many of a score job's answers its cache knew."""
    lines = map(json.loads, (job.folder / "scoring.jsonl").read_text().splitlines())
    return sum(len(row.get("recalled", ())) for row in lines)


@pytest.mark.sqlite
def test_a_retrained_model_that_is_worse_is_turned_down_and_the_last_one_scores_on(
    experiment, voters, prompts, settings
):
    """In the second round people's votes on what trains are turned around, and count most."""

    def turned(ballot: Ballot, texts: list[str]) -> list[int]:
        trains = not holdout.of_prompt(ballot.comparison.prompt) and ballot.annotator != voters[-1]
        return the_shorter(ballot, texts)[:: -1 if trains else 1]

    experiment.reward_labels = {"newest": 20.0}
    experiment.save()
    first = go(rounds.begin(experiment), voters, until=Stage.TRAIN)
    assert first.stage == Stage.TRAIN, first.error
    over(first)
    second = go(rounds.begin(experiment), voters, turned, until=Stage.TRAIN)
    assert second.stage == Stage.TRAIN, second.error
    one, two = RewardModel.objects.order_by("created_at")
    assert first.reward_model == second.reward_model == one
    gate = second.figures["reward_gate"]
    assert not gate["passed"]
    assert gate["candidate"] == str(two.pk)
    by_name = {check["name"]: check for check in gate["checks"]}
    assert not by_name["length correlation"]["passed"]  # it learnt to like longer answers
    assert by_name["length correlation"]["values"]["low"] > 0
    learned_only_from_training_votes(second, voters, prompts)
    measured_on_the_exact_votes(two, second, voters, prompts)
    paired_by_one_models_scores(second)
    scored_once([one, two], settings.SCORES_DIR)
    assert recalled(second.jobs.get(purpose="score").job) > 0  # what it was measured by
    over(second)
    experiment.selection, experiment.rounds_wanted = "disagreement", 3
    experiment.save()
    third = go(rounds.begin(experiment), [], until=Stage.LABEL)
    asked_where_members_disagreed(third, RewardModel.objects.get(pk=one.pk).temperature)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_two_whole_rounds_retrain_measure_and_score_by_one_model_each(
    experiment, voters, prompts, settings
):
    first = go(rounds.begin(experiment), voters)
    assert first.stage == Stage.DONE, first.error
    second = go(experiment.rounds.get(number=2), voters)
    assert second.stage == Stage.DONE, second.error
    one, two = RewardModel.objects.order_by("created_at")
    assert first.reward_model == one
    assert [check["name"] for check in first.figures["reward_gate"]["checks"]] == ["first model"]
    gate = second.figures["reward_gate"]
    assert [check["name"] for check in gate["checks"]] == [
        "held-out accuracy", "calibration", "length correlation"
    ]  # fmt: skip
    assert second.reward_model == (two if gate["passed"] else one)
    for model, made in ((one, first), (two, second)):
        names = {path.name for path in Path(model.path).iterdir()}
        assert {"head.safetensors", "panel.json"} <= names
        learned_only_from_training_votes(made, voters, prompts)
        measured_on_the_exact_votes(model, made, voters, prompts)
        paired_by_one_models_scores(made)
    scored_once([one, two], settings.SCORES_DIR)
    # The last model on the new policy's answers, before anything trained on these votes.
    assert one.metrics["on_policy"]["2"]["votes"] == second.ballots.count()
    assert one.metrics["measured"]["probe"] == two.metrics["measured"]["probe"]
    voted = Completion.objects.filter(comparison__ballots__in=second.ballots.all()).distinct()
    ours, theirs = (
        dict(model.scores.filter(completion__in=voted).values_list("completion_id", "value"))
        for model in (two, one)
    )
    assert ours.keys() == theirs.keys()
    assert ours != theirs
    compared = {(row["votes"], row["scorer"]) for row in one.metrics["implicit"]["2"]["rows"]}
    assert {("inside", "explicit"), ("inside", "implicit"), ("outside", "implicit")} <= compared


@pytest.mark.sqlite
def test_a_killed_scoring_job_goes_on_from_what_it_had(experiment, settings):
    """The second attempt scores what the first one had not; another job nearly nothing anew."""
    round = rounds.begin(experiment)
    asked = [{"role": "user", "content": "What is Mercury made of?"}]

    def response(text: str) -> dict:
        return {"id": text, "text": text, "token_ids": None, "finish_reason": None}

    compared = [
        {
            "id": str(at), "messages": asked, "preferences": [[0, 1, 1.0, 1.0]], "heldout": False,
            "responses": [response(f"Iron {at}."), response(f"It is a planet of cheese {at}.")],
        }
        for at in range(6)
    ]  # fmt: skip
    probe = jobs.RewardJob(base=jobs.ModelRef(base=experiment.start.base_model), form="probe")
    made = roundjobs.ask(round, "reward", probe, {jobs.COMPARISONS: lambda: iter(compared)})
    run_jobs()
    made.refresh_from_db()
    items = [
        {"id": str(at), "messages": asked, "response": response(f"It is number {at} of all.")}
        for at in range(600)
    ]
    spec = jobs.ScoreJob(
        reward_model=str(made.folder / jobs.WEIGHTS), cache=str(settings.SCORES_DIR)
    )
    job = roundjobs.ask(round, "score", spec, {jobs.ITEMS: lambda: iter(items)})
    sheet = job.folder / "scoring.jsonl"

    def kill_on_the_way() -> None:
        while not sheet.is_file() or sheet.read_bytes().count(b"\n") < 100:
            time.sleep(0.002)
        for child in psutil.Process().children(recursive=True):
            if str(job.folder / jobs.STDERR) in (file.path for file in child.open_files()):
                os.killpg(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_on_the_way)
    killer.start()
    supervise(claims.claim("gpu", "here"), lambda: False)
    killer.join()
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED, "it is to be tried again"
    before = sheet.read_bytes().count(b"\n")
    assert 100 <= before < 600
    assert not (job.folder / jobs.SCORES).exists()
    Job.objects.update(not_before=None)
    run_jobs()
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.SUCCEEDED, 2)
    rows = map(json.loads, sheet.read_text().splitlines())
    found = Counter(row["id"] for row in rows if "id" in row)
    assert set(found.values()) == {1}, "no answer is scored twice"
    scores = list(jobs.read_rows(job.folder / jobs.SCORES))
    assert len(scores) == 600
    assert all(row["reward"] is not None for row in scores)
    again = roundjobs.ask(round, "measure", spec, {jobs.ITEMS: lambda: iter(items)})
    run_jobs()
    assert list(jobs.read_rows(again.folder / jobs.SCORES)) == scores
    assert len(scored_anew(again)) <= spec.batch_size  # a kill loses what is not yet in the cache
