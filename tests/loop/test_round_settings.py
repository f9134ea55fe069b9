"""What every round can be told: its reference, what it replays, which checkpoint it keeps, what
is drawn and asked, and what its rewards and losses count besides."""

from __future__ import annotations

from collections import Counter

import pytest

from align import algorithms, jobs
from plumbline.collect.models import Campaign, Comparison, Completion
from plumbline.fleet.models import Job, Metric
from plumbline.loop import (
    campaigns,
    checkpoints,
    evaluation,
    examples,
    picking,
    rounds,
    rows,
    training,
)
from plumbline.loop.models import Example, ExampleAnswer, Stage
from plumbline.policies.models import Policy
from tests.loop.conftest import SMALL, run_round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _engine(engine, settings):
    settings.ENGINE_URL = engine.url


PAIRS = {**SMALL, "batch_size": 2, "micro_batch_size": 2}  # several steps, however many were ties


def fill(round, count: int) -> None:
    """Give a round examples without running anything."""
    prompt = round.experiment.prompt_set.prompts.first()
    for k in range(count):
        example = Example.objects.create(round=round, prompt=prompt, rule="voted")
        for role in ("chosen", "rejected"):
            completion = Completion.objects.create(prompt=prompt, text=f"{role} {k}")
            ExampleAnswer.objects.create(example=example, role=role, completion=completion)


def later(experiment, counts: list[int]):
    """The last of several rounds with this many examples each."""
    for count in counts:
        round = rounds.begin(experiment)
        fill(round, count)
        experiment.rounds.filter(pk=round.pk).update(stage=Stage.DONE)
    return round


@pytest.mark.parametrize(
    ("replay", "by_round"),
    [("none", [0, 0, 10]), ("all", [8, 4, 10]), ("decay", [1, 3, 10])],
)
def test_replay_takes_none_all_or_a_share_that_fades_with_age(experiment_of, replay, by_round):
    experiment = experiment_of(replay=replay, replay_share=0.3, replay_decay=0.5)
    round = later(experiment, [8, 4, 10])
    chosen = examples.trained_on(round)
    found = [
        Example.objects.filter(pk__in=chosen, round__number=number).count() for number in (1, 2, 3)
    ]
    assert found == by_round
    assert examples.trained_on(round) == chosen
    assert [row["id"] for row in examples.example_rows(round)] == [str(pk) for pk in chosen]


def test_a_share_larger_than_an_old_round_takes_all_of_it(experiment_of):
    round = later(experiment_of(replay="decay", replay_share=2.0), [3, 10])
    assert len(examples.trained_on(round)) == 13


@pytest.mark.sqlite
def test_the_best_of_several_checkpoints_by_a_judge_that_labelled_nothing(
    experiment_of, rater, prompt_set
):
    experiment = experiment_of(
        candidates=2, prompts_per_round=12, heldout_prompts=4, optimiser=PAIRS
    )
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    table = round.figures["checkpoints"]
    assert len(table) == 2
    assert table[0]["step"] < table[1]["step"]
    assert str(round.policy_out.pk) == round.figures["chosen"]
    assert all(row["kl_k3"] >= 0 for row in table)
    others = Policy.objects.filter(pk__in=[row["policy"] for row in table])
    assert set(others.exclude(pk=round.policy_out.pk).values_list("state", flat=True)) == {
        "rejected"
    }
    # No vote was used twice: what chose the checkpoint trained neither policy nor reward model.
    kept = {str(p.pk) for p in prompt_set.prompts.filter(split="train") if rows.validates(p)}
    assert kept
    trained = round.examples.values_list("prompt_id", flat=True)
    assert not kept & set(map(str, trained))
    for purpose, apart in (("reward", False), ("validator", True)):
        job = round.jobs.get(purpose=purpose).job
        asked = [row["messages"] for row in jobs.read_rows(job.folder / jobs.COMPARISONS)]
        texts = {str(p.messages) for p in prompt_set.prompts.all() if str(p.pk) in kept}
        assert asked
        assert all((str(messages) in texts) == apart for messages in asked)
    assert evaluation.judge(round) == round.validator != round.reward_model


@pytest.mark.sqlite
def test_among_checkpoints_beyond_the_budget_the_nearest_one_is_kept(experiment_of, rater):
    experiment = experiment_of(candidates=2, prompts_per_round=12, gate_kl=-1.0, optimiser=PAIRS)
    round = run_round(rounds.begin(experiment), rater)
    table = round.figures["checkpoints"]
    assert round.figures["chosen"] == min(table, key=lambda row: row["kl"])["policy"]
    assert not round.gate["passed"]


@pytest.mark.sqlite
def test_an_averaged_reference_is_made_first_and_trained_against(experiment_of, rater, project):
    first = run_round(rounds.begin(experiment_of(name="First")), rater)
    second = experiment_of(name="Second", reference="soup", soup_with=first.policy_out)
    round = run_round(rounds.begin(second), rater)
    assert round.stage == Stage.DONE, round.error
    merge = Job.objects.get(asked_by__round=round, kind="merge")
    trained = Job.objects.get(asked_by__round=round, kind="train")
    reference = trained.spec["references"]["reference"]
    assert reference["adapter"] == str(merge.folder / "weights")
    assert merge.spec["shares"] == {"initial": 0.5, "other": 0.5}


def test_the_average_of_a_policy_with_itself_is_the_policy(experiment_of):
    experiment = experiment_of(reference="soup")
    experiment.soup_with = experiment.start
    experiment.save()
    round = rounds.begin(experiment)
    assert training.references(round)["reference"] == experiment.start.ref
    assert not Job.objects.exists()


@pytest.mark.sqlite
def test_without_a_warm_start_every_round_trains_from_the_first_policy(experiment_of, rater):
    first = run_round(rounds.begin(experiment_of(name="First")), rater)
    experiment = experiment_of(name="Cold", warm_start=False)
    round = rounds.begin(experiment)
    round.policy_in = first.policy_out
    round.save()
    fill(round, 2)
    job = training.job(round, training.references(round))
    assert job.spec["start"]["adapter"] is None


@pytest.mark.sqlite
def test_what_was_sampled_and_trained_on_is_counted(experiment_of, rater):
    round = run_round(rounds.begin(experiment_of()), rater)
    sampled, trained = round.figures["sampled"], round.figures["trained"]
    assert sampled["samples"] == 20
    assert 0 <= sampled["truncated"] <= 1
    assert 0 <= sampled["duplicates"] < 1
    assert trained["examples"] == round.examples.count()
    assert 0 <= trained["chosen_longer"] <= 1
    assert trained["drift_chosen"] is not None
    row = round.evaluations.get(against="current")
    assert row.kl_k3 >= 0
    assert row.kl_start == pytest.approx(row.kl)  # round 1 starts from the base


@pytest.mark.sqlite
def test_two_draws_from_one_policy_differ(experiment_of, rater):
    experiment = experiment_of(algorithm="xpo", samples_per_prompt=4)
    round = rounds.begin(experiment)
    plan = algorithms.get("xpo")().draws(4, 1.0)
    assert len(plan) == 2
    run_round(round, rater)
    drawn = Job.objects.filter(asked_by__purpose__startswith="sample:")
    seeds = {job.spec["seed"] for job in drawn}
    assert len(seeds) == 2
    assert checkpoints.ONE.source == "policy"


def plan(experiment) -> list[tuple[str, str, int, float]]:
    """What a round of the experiment draws, without drawing it."""
    found = training.draws(rounds.begin(experiment))
    return [(purpose, one.source, one.n, one.temperature) for purpose, one in found]


@pytest.mark.parametrize(
    ("fields", "drawn"),
    [
        ({"samples_per_prompt": 5}, [("sample:policy", "policy", 5, 1.0)]),
        (
            {"samples_per_prompt": 5, "other_temperature": 0.3},
            [("sample:policy", "policy", 3, 1.0), ("sample:policy:other", "policy", 2, 0.3)],
        ),
        (
            {"samples_per_prompt": 2, "other_temperature": 0.0},
            [("sample:policy", "policy", 1, 1.0), ("sample:policy:other", "policy", 1, 0.0)],
        ),
        (
            {"samples_per_prompt": 1, "other_temperature": 0.3},
            [("sample:policy", "policy", 1, 1.0)],
        ),
        (
            {"algorithm": "selm", "samples_per_prompt": 4, "other_temperature": 0.3},
            [
                ("sample:policy", "policy", 2, 1.0),
                ("sample:policy:other", "policy", 2, 0.3),
                ("sample:explore", "explore", 1, 1.0),
            ],
        ),
    ],
)
def test_half_of_the_policys_answers_are_drawn_at_the_other_temperature(
    experiment_of, fields, drawn
):
    assert plan(experiment_of(**fields)) == drawn


def test_the_other_half_is_drawn_like_the_first_but_for_its_temperature(experiment_of):
    fields = {"algorithm": "nash_md", "samples_per_prompt": 4, "other_temperature": 0.3}
    (_, first), (_, second) = training.draws(rounds.begin(experiment_of(**fields)))
    assert first.model == second.model == "mixture"
    assert first.initial_share == second.initial_share


def ask(experiment, prompts: list[int]) -> list[int]:
    """A round in which people compare answers to some of these prompts; to which."""
    round = rounds.begin(experiment)
    turns = campaigns.in_turn(round, prompts)
    assert campaigns.in_turn(round, reversed(prompts)) == turns
    asked = sorted(turns[: experiment.prompts_compared or None])
    round.campaign = campaigns.open_campaign(round, Campaign.Purpose.TRAIN)
    round.evaluation_campaign = campaigns.open_campaign(round, Campaign.Purpose.EVALUATE)
    round.stage = Stage.DONE
    round.save()
    for prompt in asked:
        Comparison.objects.create(campaign=round.campaign, prompt_id=prompt, p_select=1.0)
    # What is asked of an evaluation does not count.
    Comparison.objects.create(campaign=round.evaluation_campaign, prompt_id=prompts[0], p_select=1)
    return asked


def test_people_compare_answers_to_all_prompts_in_turn(experiment_of, prompt_set):
    prompts = sorted(prompt_set.prompts.filter(split="train").values_list("pk", flat=True))[:10]
    experiment = experiment_of(prompts_compared=4, pairs_from="reward_model")
    times: Counter[int] = Counter()
    rounds_asked = [ask(experiment, prompts) for _ in range(5)]
    for asked in rounds_asked:
        assert len(asked) == 4
        times.update(asked)
        assert max(times.values()) - min(times[prompt] for prompt in prompts) <= 1
    assert set(times.values()) == {2}
    again = experiment_of(name="Again", prompts_compared=4, pairs_from="reward_model")
    assert [ask(again, prompts) for _ in range(5)] == rounds_asked
    other = experiment_of(name="Other", prompts_compared=4, seed=1)
    assert ask(other, prompts) != rounds_asked[0]
    assert ask(experiment_of(name="All"), prompts) == prompts
    assert ask(experiment_of(name="Few", prompts_compared=99), prompts) == prompts


@pytest.mark.sqlite
def test_people_see_contrasting_answers_for_half_of_the_prompts(experiment_of, rater):
    round = rounds.begin(experiment_of(samples_per_prompt=6, selection="contrast"))
    run_round(round, None)
    round.refresh_from_db()
    assert round.stage == Stage.LABEL, round.error
    assert round.jobs.get(purpose="contrast").job.result["prompts"] == 10
    compared = list(round.campaign.comparisons.all())
    assert {one.strategy for one in compared} == {"contrast"}
    likely = [one for one in compared if one.p_select > 0.5]
    assert 2 <= len(likely) <= 9
    found = {
        frozenset((row["first"], row["second"]))
        for row in jobs.read_rows(round.jobs.get(purpose="contrast").job.folder / jobs.CONTRASTS)
    }
    for one in likely:
        assert frozenset(str(slot.completion_id) for slot in one.slots.all()) in found
    assert run_round(round, rater).stage == Stage.DONE


def test_an_algorithm_that_compares_in_its_own_way_is_left_to_it(experiment_of):
    assert picking.strategy(experiment_of(selection="contrast")) == "contrast"
    assert picking.strategy(experiment_of(name="X", algorithm="xpo")) == "across"


@pytest.mark.sqlite
def test_a_round_of_few_votes_reads_a_probe_and_is_anchored(experiment_of, rater):
    experiment = experiment_of(
        samples_per_prompt=4, other_temperature=0.3, prompts_compared=6,
        pairs_from="reward_model", pair_rule="max_min", reward_form="probe", anchor=0.5,
    )  # fmt: skip
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == Stage.DONE, round.error
    # Two halves, each with draws of its own.
    drawn = Completion.objects.filter(batch__in=rows.sources(round))
    assert Counter(one.sampling["temperature"] for one in drawn) == {1.0: 20, 0.3: 20}
    sampled = {one.purpose: one.job for one in round.jobs.all() if "sample:" in one.purpose}
    assert set(sampled) == {"sample:policy", "sample:policy:other"}
    assert len({job.spec["seed"] for job in sampled.values()}) == 2
    assert round.figures["sampled"]["samples"] == 40
    # People compare answers to 6 of 10 prompts; the reward model judges all of them.
    compared = set(round.campaign.comparisons.values_list("prompt_id", flat=True))
    assert round.campaign.comparisons.count() == len(compared) == 6
    trained = set(round.examples.values_list("prompt_id", flat=True))
    assert trained - compared
    assert trained <= set(round.prompts.values_list("pk", flat=True))
    asked = round.jobs.get(purpose="reward").job
    assert asked.spec["form"] == "probe"
    assert round.reward_model.metrics["ridge"] > 0
    assert sorted(path.name for path in (asked.folder / jobs.WEIGHTS).iterdir()) == [
        "manifest.json", "probe.safetensors"
    ]  # fmt: skip
    job = round.jobs.get(purpose="train").job
    assert job.spec["anchor"] == 0.5
    assert Metric.objects.filter(job=job, name="anchor/cross_entropy").exists()


def test_an_answer_with_a_nul_is_kept_with_a_replacement_character(experiment_of, tmp_path):
    experiment = experiment_of()
    prompt = experiment.prompt_set.prompts.first()
    job = Job.objects.create(
        project=experiment.project,
        kind="sample",
        title="sample",
        spec=jobs.to_json(jobs.SampleJob(engine_url="", model="base", n=1)),
    )
    job.folder.mkdir(parents=True)
    row = {
        "prompt": str(prompt.pk), "draw": 0, "text": "a\0b", "token_ids": [1, 2],
        "finish_reason": "stop",
    }  # fmt: skip
    jobs.write_rows(job.folder / jobs.COMPLETIONS, [row])
    rows.import_completions(job, experiment.start, {prompt.pk})
    assert Completion.objects.get().text == "a\N{REPLACEMENT CHARACTER}b"


def test_a_first_round_asks_by_design_says_why_and_for_a_week(experiment_of):
    """By what answers of the base differ in: there is no reward model yet."""
    experiment = experiment_of(
        samples_per_prompt=4, selection="mixed", prompts_compared=6,
        pairs_from="reward_model", pair_rule="max_min",
    )  # fmt: skip
    round = rounds.begin(experiment)
    run_round(round, None)
    round.refresh_from_db()
    assert round.stage == Stage.LABEL, round.error
    assert round.jobs.get(purpose="features").job.result["skipped"] == 0
    compared = list(round.campaign.comparisons.all())
    assert len(compared) == 6
    for one in compared:
        assert one.strategy == "mixed"
        assert 0 < one.p_select < 1
        assert (one.expires_at - one.created_at).days in (6, 7)
    by_design = [one for one in compared if one.why["part"] == "informed"]
    assert len(by_design) >= 3
    assert all(one.why["gain"] > 0 for one in by_design)


@pytest.mark.sqlite
def test_a_second_round_asks_by_the_first_ones_reward_model_and_what_was_asked(
    experiment_of, rater
):
    experiment = experiment_of(
        samples_per_prompt=4, selection="mixed", prompts_compared=6, reward_form="probe",
        reward_ensemble={"members": 3}, rounds_wanted=2, pairs_from="reward_model",
        pair_rule="max_min",
    )  # fmt: skip
    first = run_round(rounds.begin(experiment), rater)
    assert first.stage == Stage.DONE, first.error
    second = experiment.rounds.filter(number=2).first() or rounds.begin(experiment)
    run_round(second, None)
    second.refresh_from_db()
    assert second.stage == Stage.LABEL, second.error
    job = second.jobs.get(purpose="features").job
    assert job.spec["reward_model"] == first.reward_model.path
    earlier = {
        str(slot.completion_id)
        for one in first.campaign.comparisons.all()
        for slot in one.slots.all()
    }
    assert len(earlier) == 12
    assert earlier <= {row["id"] for row in jobs.read_rows(job.folder / jobs.FEATURES)}
    for one in second.campaign.comparisons.all():
        assert 0 <= one.why["chance"] <= 1
        assert one.why["information"] >= 0
