"""The loop. Read this first.

`tick` is called every second. For each round in progress it looks at the database and does the
next thing if its condition holds: one small function per stage, each returning the next stage or
None for "not yet". Nothing is remembered between ticks, so the process may be killed anywhere; a
stage that ran half is simply run again, and every stage can be.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from align import algorithms, failpoints, jobs
from align.algorithm import Algorithm
from align.run import NO_ROOM
from plumbline.audit.record import record
from plumbline.collect.models import Campaign, Completion, Prompt
from plumbline.fleet import claims
from plumbline.loop import (
    autopilot,
    blending,
    calibrating,
    campaigns,
    checkpoints,
    decisions,
    evaluation,
    examples,
    history,
    holdout,
    inspection,
    judging,
    labelling,
    picking,
    rebuilding,
    replacing,
    reranking,
    rewarding,
    roundjobs,
    rounds,
    rows,
    training,
)
from plumbline.loop.models import OVER, Experiment, Round, RoundStage, Stage
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy, RewardModel

NO_DISK = "The disk is full: nothing can be prepared until there is room."


def tick() -> None:
    """One look at everything: lost jobs go back to their queue, rounds move, new rounds begin."""
    claims.sweep()
    inspection.collect()
    calibrating.collect()
    active = Experiment.objects.filter(state=Experiment.State.ACTIVE)
    for round in Round.objects.exclude(stage__in=OVER).filter(experiment__in=active):
        advance(round)
    for experiment in active.exclude(rounds__stage__in=set(Stage.values) - set(OVER)):
        _next_round(experiment)


def advance(round: Round) -> None:
    """Move a round through as many stages as are ready. What is wrong ends up on the round."""
    while round.stage in STAGES:
        try:
            following = STAGES[Stage(round.stage)](round)
        except serving.EngineError as error:
            # The engine may be restarting: say so, stay in this stage, look again next tick.
            return _wait(round, str(error))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return _wait(round, f"{NO_DISK} ({error.strerror}) The round goes on by itself.")
        except ValueError as error:
            _leave(round, Stage.FAILED, str(error))
            return
        if following is None:
            return
        if not _leave(round, following):
            return
        round.refresh_from_db()


def _wait(round: Round, why: str) -> None:
    Round.objects.filter(pk=round.pk).exclude(error=why).update(error=why)


def choose_prompts(round: Round) -> Stage | None:
    """Training prompts the experiment has seen least often, in an order its seed fixes."""
    judging.pin(round)
    if round.replays is not None:
        return rebuilding.replay(round)
    experiment = round.experiment
    if experiment.blend:
        blending.begin(round)
        return Stage.TRAIN
    seen = Count("rounds", filter=Q(rounds__experiment=experiment) & ~Q(rounds=round))
    prompts = experiment.prompt_set.prompts.filter(split=Prompt.Split.TRAIN)
    if experiment.labels == Experiment.Labels.BALLOTS:
        standing = campaigns.evidence(campaigns.offline(experiment))
        prompts = prompts.filter(comparisons__ballots__in=standing).distinct()
    found = list(prompts.annotate(seen=seen).order_by("pk").values_list("seen", "pk"))
    if not found:
        raise ValueError(f"{experiment.prompt_set} has no training prompts this round could use.")
    random.Random(f"{experiment.seed}:{round.number}").shuffle(found)
    found.sort(key=lambda row: row[0])
    round.prompts.set([pk for _, pk in found[: experiment.prompts_per_round]])
    return Stage.SAMPLE


def sample(round: Round) -> Stage | None:
    """Answers to each prompt from the policy the round starts with, and what else the algorithm
    wants drawn."""
    experiment = round.experiment
    if experiment.labels == Experiment.Labels.BALLOTS:
        return Stage.LABEL
    prompts = list(round.prompts.order_by("pk"))
    finished = True
    for purpose, draws in training.draws(round):
        policy = training.drawn_from(round, draws)
        if policy is None:
            return None
        job = roundjobs.sample(round, purpose, policy, prompts, draws)
        if job is None:
            finished = False
        else:
            rows.import_completions(job, policy, {prompt.pk for prompt in prompts})
    if not finished:
        return None
    round.figures = {**round.figures, "sampled": examples.sample_figures(round)}
    round.save(update_fields=["figures"])
    return Stage.SELECT


def open_comparisons(round: Round) -> Stage | None:
    """Put two different answers to each prompt before people, or to as many prompts as the
    experiment says. Done once, with all comparisons or none."""
    if round.campaign is not None:
        return Stage.LABEL
    strategy, picked = picking.pick(round)
    if picked is None:
        return None
    if not picked:
        raise ValueError("The policy gives the same answer to everything: nothing to compare.")
    with transaction.atomic():
        round.campaign = campaigns.open_campaign(round, Campaign.Purpose.TRAIN)
        round.save(update_fields=["campaign"])
        for prompt_id in sorted(picked):
            for one in picked[prompt_id]:
                campaigns.compare(round.campaign, prompt_id, one, strategy)
    return Stage.LABEL


def retrain_reward_model(round: Round) -> Stage | None:
    """Reward models on all ballots the experiment has frozen, from the base model: one that labels
    or judges, if its gate lets it replace the last round's; and, where a checkpoint is to be
    chosen, one on votes kept apart for that."""
    experiment = round.experiment
    apart = bool(experiment.candidates)
    by_model = Experiment.Pairs.REWARD_MODEL in (experiment.pairs_from, experiment.judge)
    made = {}
    if by_model:
        made["reward"] = _reward_model(round, "reward", False if apart else None)
    if apart:
        made["validator"] = _reward_model(round, "validator", True)
    if (retrained := made.get("reward")) is not None:
        made["reward"] = replacing.accepted(round, retrained)
    if None in made.values():
        return None
    round.reward_model, round.validator = made.get("reward"), made.get("validator")
    round.save(update_fields=["reward_model", "validator"])
    return Stage.SCORE if by_model else Stage.PAIRS


def _reward_model(round: Round, purpose: str, validating: bool | None) -> RewardModel | None:
    experiment = round.experiment
    spec = rewarding.spec(round)

    def comparisons() -> Iterator[jobs.ComparisonRow]:
        ballots = list(history.aged_ballots(round))
        apart = holdout.annotators(ballots)
        return rows.comparison_rows(ballots, validating=validating, apart=apart)

    job = roundjobs.ask(round, purpose, spec, {jobs.COMPARISONS: comparisons})
    result = roundjobs.finished(job)
    if result is None:
        return None
    model, _ = RewardModel.objects.get_or_create(
        name=f"{roundjobs.stem(round)}-{purpose}-{result['sha256'][:8]}",
        defaults={
            "project": experiment.project,
            "objective": spec.objective,
            "path": str(job.folder / result["weights"]),
            "sha256": result["sha256"],
            "ballots_used": history.ballots(round).count(),
            "accuracy": result["accuracy"],
            "temperature": result.get("temperature", 1.0),
            "metrics": result,
        },
    )
    return model


def score_samples(round: Round) -> Stage | None:
    """What waits for votes and, when pairs are to come from scores, every sample, under the new
    reward model."""
    experiment = round.experiment
    assert round.reward_model is not None
    if not reranking.done(round):
        return None
    if experiment.pairs_from != Experiment.Pairs.REWARD_MODEL:
        return Stage.PAIRS
    if experiment.labels == Experiment.Labels.BALLOTS:
        answers = Completion.objects.filter(rows.known_to(round), prompt__rounds=round)
    else:
        answers = Completion.objects.filter(
            Q(batch__in=rows.sources(round)) | _teachers_answers(round)
        )
    answers = answers.select_related("prompt").order_by("prompt_id", "draw")
    spec = jobs.ScoreJob(
        reward_model=round.reward_model.path,
        cache=str(settings.SCORES_DIR),
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "score", spec, {jobs.ITEMS: lambda: rows.item_rows(answers)})
    if roundjobs.finished(job) is None:
        return None
    rows.import_scores(job, round.reward_model)
    return Stage.PAIRS


def make_pairs(round: Round) -> Stage | None:
    """Judged answers -> training examples, by the algorithm's rule; frozen from here on."""
    examples.freeze(round)
    return Stage.TRAIN


def train(round: Round) -> Stage | None:
    """The algorithm on this round's examples and those it replays; or the blend."""
    if round.experiment.blend:
        return Stage.CHOOSE if blending.make(round) else None
    references = training.references(round)
    if references is None:
        return None
    result = roundjobs.finished(training.job(round, references))
    if result is None:
        return None
    names = ("examples", "dropped", "chosen_longer", "drift_chosen", "drift_rejected")
    round.figures = {**round.figures, "trained": {name: result[name] for name in names}}
    round.save(update_fields=["figures"])
    return Stage.CHOOSE


def choose(round: Round) -> Stage | None:
    """The best of the checkpoints becomes the round's policy, measured next against whatever is
    deployed at this moment."""
    experiment = round.experiment
    blend = blending.make(round) if experiment.blend else None
    found = [blend] if blend else training.candidates(round)
    chosen = checkpoints.choose(round, found)
    if chosen is None:
        return None
    checkpoints.let_go(found, chosen)
    deployed = Deployment.objects.filter(project=experiment.project, alias="current").first()
    current = deployed.policy if deployed else round.policy_in
    base = serving.base_policy(experiment.project)
    round.policy_out = chosen
    round.opponents = {"current": str(current.pk), "base": str(base.pk)}
    round.save(update_fields=["policy_out", "opponents"])
    return Stage.EVALUATE


def evaluate(round: Round) -> Stage | None:
    """Answers to held-out prompts by the candidate and its opponents; then the judge."""
    prompts = evaluation.heldout(round)
    ids = {prompt.pk for prompt in prompts}
    finished = True
    for policy in evaluation.players(round):
        purpose = evaluation.answers_purpose(policy)
        job = roundjobs.sample(round, purpose, policy, prompts, checkpoints.ONE)
        if job is None:
            finished = False
        else:
            rows.import_completions(job, policy, ids)
    if not finished:
        return None
    spec = evaluation.score_job(round)
    job = roundjobs.ask(round, "judge", spec, {jobs.ITEMS: lambda: evaluation.items(round)})
    probed = evaluation.probed(round)
    if roundjobs.finished(job) is None or not probed:
        return None
    model = evaluation.judge(round)
    if spec.reward_model and model is not None:
        rows.import_scores(job, model)
    if not evaluation.judged(round) or not evaluation.also_judged(round):
        return None
    if round.experiment.blend and not blending.score(round):
        return None
    evaluation.record(round, rows.read_scores(job))
    return Stage.GATE


def gate(round: Round) -> Stage | None:
    """May the candidate be promoted? The evidence is kept with the verdict."""
    assert round.policy_out is not None
    round.gate = evaluation.gate(round)
    round.save(update_fields=["gate"])
    if not round.gate["passed"]:
        decisions.reject(round.policy_out, actor=None, reason=f"{round}: the gate did not pass.")
        serving.release(round.policy_out)
        return Stage.DONE
    # All points of a blend are looked at before one is chosen.
    return Stage.DONE if round.experiment.blend else Stage.PROMOTE


def promote(round: Round) -> Stage | None:
    """On autopilot, by the gate; otherwise when a researcher has promoted or rejected it."""
    policy = round.policy_out
    assert policy is not None
    if round.replays is not None and not rebuilding.is_last(round):
        return Stage.DONE  # the next one starts from it in any case
    waits = policy.state == Policy.State.CANDIDATE
    if waits and round.experiment.autopilot and not decisions.held(policy):
        serving.promote(
            round.experiment.project,
            policy,
            actor=None,
            reason=f"{round}: the gate passed",
            evidence=round.gate,
        )
        return Stage.DONE
    return None if waits else Stage.DONE


STAGES: dict[Stage, Callable[[Round], Stage | None]] = {
    Stage.PROMPTS: choose_prompts,
    Stage.SAMPLE: sample,
    Stage.SELECT: open_comparisons,
    Stage.LABEL: labelling.label,
    Stage.REWARD: retrain_reward_model,
    Stage.SCORE: score_samples,
    Stage.PAIRS: make_pairs,
    Stage.TRAIN: train,
    Stage.CHOOSE: choose,
    Stage.EVALUATE: evaluate,
    Stage.GATE: gate,
    Stage.PROMOTE: promote,
}


def _algorithm(round: Round) -> Algorithm:
    return algorithms.get(round.experiment.algorithm).build(round.experiment.knobs)


def _teachers_answers(round: Round) -> Q:
    return examples.taught(round) if _algorithm(round).teacher else Q(pk__in=[])


def _next_round(experiment: Experiment) -> None:
    """Begin the next round unless the last one failed, all are done, or the autopilot stops."""
    last = experiment.rounds.order_by("-number").first()
    if last is None:
        rounds.begin(experiment)
    elif last.stage == Stage.DONE and last.number < experiment.rounds_wanted:
        if autopilot.goes_on(experiment, last):
            rounds.begin(experiment)
    elif last.stage == Stage.DONE:
        autopilot.goes_on(experiment, last)  # so that why it ended is stored as well
        Experiment.objects.filter(pk=experiment.pk).update(state=Experiment.State.FINISHED)


def _leave(round: Round, following: Stage, error: str = "") -> bool:
    """Compare-and-swap the stage and keep the timeline; False if someone else moved it first."""
    now = timezone.now()
    over = following in OVER
    with transaction.atomic():
        moved = Round.objects.filter(pk=round.pk, stage=round.stage).update(
            stage=following, error=error, finished_at=now if over else None
        )
        if moved:
            RoundStage.objects.filter(round=round, stage=round.stage).update(finished_at=now)
            if not over:
                RoundStage.objects.get_or_create(
                    round=round, stage=following, defaults={"started_at": now}
                )
            else:
                project = round.experiment.project_id
                record("round.ended", round, project=project, stage=str(following))
            failpoints.reach("round.moved")
    return bool(moved)
