"""Rows of an experiment as the loop leaves them, made directly: prompts, rounds, jobs, curves."""

from __future__ import annotations

import hashlib
import json
import math
import random
from datetime import timedelta
from uuid import uuid4

from django.utils import timezone

from align import jobs
from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Completion, Prompt, PromptSet
from plumbline.fleet.models import Event, Job, Metric
from plumbline.judges.models import Score
from plumbline.loop import evaluation as evaluating
from plumbline.loop.models import Evaluation, Experiment, Round, RoundJob, RoundStage, Stage
from plumbline.policies.models import Policy, RewardModel

STAGES = [stage for stage in Stage if stage not in (Stage.DONE, Stage.FAILED, Stage.CANCELLED)]


def prompt_set(project, *, train: int = 4, heldout: int = 7, name: str = "Prompts") -> PromptSet:
    made = PromptSet.objects.create(project=project, name=name)
    for number in range(train + heldout):
        text = f"Question {number} of {name}?"
        Prompt.objects.create(
            set=made,
            messages=[{"role": "user", "content": text}],
            split="train" if number < train else "heldout",
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )
    return made


def policy(project, name: str = "", parent: Policy | None = None, **fields) -> Policy:
    """A base policy without a parent, else an adapter."""
    if parent is None:
        fields = {"weights": "base", **fields}
    else:
        fields = {"weights": "lora", "path": f"/weights/{name}", "sha256": "ab" * 32, **fields}
    return Policy.objects.create(
        project=project, name=name or f"{project.slug}-base", base_model="/base", parent=parent,
        **fields,
    )  # fmt: skip


def adapters(project, folder, count: int = 3) -> list[Policy]:
    """Policies of one base whose adapters' folders say that their rank is 16."""
    base = policy(project)
    found = []
    for number in range(count):
        weights = folder / f"adapter-{number}"
        weights.mkdir()
        (weights / "adapter_config.json").write_text(json.dumps({"r": 16}))
        found.append(policy(project, f"{project.slug}-{number}", base, path=str(weights)))
    return found


def reward_models(project, *names: str) -> list[RewardModel]:
    fields = {"objective": "bradley_terry", "path": "/rm", "sha256": "ab", "ballots_used": 9}
    return [RewardModel.objects.create(project=project, name=one, **fields) for one in names]


def experiment(project, **fields) -> Experiment:
    number = Experiment.objects.count()
    fields.setdefault("start", Policy.objects.filter(project=project).last() or policy(project))
    fields.setdefault("prompt_set", prompt_set(project, name=f"Experiment's prompts {number}"))
    settings = {"name": f"Experiment {number}", "algorithm": "dpo", "knobs": {"beta": 0.1}}
    return Experiment.objects.create(project=project, **{**settings, **fields})


def round_at(experiment: Experiment, stage: str, **fields) -> Round:
    """A round that has got to a stage, with every earlier stage on its timeline."""
    fields.setdefault("number", experiment.rounds.count() + 1)
    fields.setdefault("policy_in", experiment.start)
    made = Round.objects.create(experiment=experiment, stage=stage, **fields)
    now = timezone.now()
    over = made.over
    reached = STAGES if stage == Stage.DONE else STAGES[: _place(stage) + 1]
    for number, passed in enumerate(reached):
        ends = now - timedelta(seconds=10 * (len(reached) - number - 1))
        RoundStage.objects.create(
            round=made,
            stage=passed,
            started_at=ends - timedelta(seconds=10),
            finished_at=ends if over or passed != reached[-1] else None,
        )
    if over:
        made.finished_at = now + timedelta(minutes=2)
        made.save()
    return made


def _place(stage: str) -> int:
    return STAGES.index(Stage(stage)) if stage in STAGES else STAGES.index(Stage.TRAIN)


def job(round: Round, purpose: str, spec: jobs.Job, state: str = "succeeded", **fields) -> Job:
    if state == "running":
        fields.setdefault("lease_until", timezone.now() + timedelta(seconds=60))
        fields.setdefault("started_at", timezone.now() - timedelta(seconds=30))
    made = Job.objects.create(
        project=round.experiment.project,
        kind=spec.kind,
        queue=jobs.QUEUES[spec.kind],
        title=f"{round}: {purpose.partition(':')[0]}",
        spec=jobs.to_json(spec),
        state=state,
        attempt=1,
        **fields,
    )
    RoundJob.objects.create(round=round, purpose=purpose, job=made)
    Event.objects.create(job=made, epoch=1, message="claimed by worker-1")
    return made


def train_job(round: Round, state: str = "succeeded", **fields) -> Job:
    spec = jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="/base"), knobs={"beta": 0.1})
    return job(round, "train", spec, state, **fields)


def log_training(job: Job, steps: int) -> None:
    """Curves such as a DPO run leaves: noisy, falling loss, growing margins."""
    draw = random.Random(0)
    rows = []
    for step in range(1, steps + 1):
        gone = 1 - math.exp(-3 * step / steps)
        figures = {
            "loss": 0.693 - 0.35 * gone + draw.gauss(0, 0.04),
            "rewards/chosen": 0.9 * gone + draw.gauss(0, 0.15),
            "rewards/rejected": -1.4 * gone + draw.gauss(0, 0.15),
            "rewards/margins": 2.3 * gone + draw.gauss(0, 0.2),
            "rewards/accuracies": min(1.0, 0.5 + 0.35 * gone + draw.gauss(0, 0.08)),
            "logps/chosen": -60 - 8 * gone + draw.gauss(0, 3),
            "logps/rejected": -64 - 22 * gone + draw.gauss(0, 3),
            "grad_norm": 4 - 2 * gone + abs(draw.gauss(0, 0.6)),
            "learning_rate": 5e-5 * 0.5 * (1 + math.cos(math.pi * step / steps)),
        }
        rows += [Metric(job=job, step=step, name=name, value=v) for name, v in figures.items()]
    Metric.objects.bulk_create(rows, batch_size=5000)
    if not job.progress:
        job.progress = {"done": steps, "total": steps, "unit": "steps"}
        job.save(update_fields=["progress"])


def evaluation(round: Round, against: str, opponent: Policy, **fields) -> Evaluation:
    figures = {
        "judge": "reward_model", "wins": 40, "ties": 6, "losses": 18, "rate": 0.672, "low": 0.553,
        "high": 0.77, "kl": 7.43, "tokens": 31.2, "opponent_tokens": 28.4,
    }  # fmt: skip
    return Evaluation.objects.create(
        round=round, against=against, opponent=opponent, **{**figures, **fields}
    )


def answers(round: Round, policy: Policy, words: str) -> None:
    """One answer of a policy to each held-out prompt, by a sampling job of the round."""
    spec = jobs.SampleJob(engine_url="http://engine", model=policy.name, n=1)
    batch = job(round, f"answers:{policy.pk.hex}", spec)
    for prompt in round.experiment.prompt_set.prompts.filter(split="heldout"):
        Completion.objects.create(
            prompt=prompt,
            policy=policy,
            text=f"{words} to {prompt}",
            token_ids=[1, 2, 3],
            finish_reason="stop",
            batch=batch.pk,
        )


def finished_round(experiment: Experiment, steps: int = 20, **fields) -> Round:
    """A whole round: candidate, training curves, evaluations, gate, samples before and after."""
    made = round_at(experiment, Stage.DONE, **fields)
    project, base = experiment.project, experiment.start
    made.policy_out = policy(
        project, f"{project.slug}-e{experiment.pk}-r{made.number}-{uuid4().hex[:8]}", parent=base
    )
    made.opponents = {"current": str(base.pk), "base": str(base.pk)}
    made.ballots_sha256 = "cd" * 32
    made.gate = {
        "passed": True,
        "checks": [
            {
                "name": "win rate",
                "passed": True,
                "evidence": "Win rate against current 67.2% (95% interval 55.3% to 77.0%).",
                "values": {},
                "blocking": True,
            },
            {
                "name": "length",
                "passed": False,
                "evidence": "Answers have 61.0 tokens on average against current's 28.4.",
                "values": {},
                "blocking": False,
            },
        ],
    }
    made.save()
    log_training(train_job(made), steps)
    answers(made, base, "An old answer")
    answers(made, made.policy_out, "A **better** answer")
    evaluation(made, "current", base)
    return made


def ballot(comparison) -> Ballot:
    """A vote for the first answer, by somebody new."""
    now = timezone.now()
    return Ballot.objects.create(
        comparison=comparison,
        annotator=User.objects.create_user(username=f"voter-{uuid4().hex[:8]}"),
        seat=comparison.ballots.count(),
        shown=[0, 1],
        claimed_at=now,
        expires_at=now + timedelta(minutes=5),
        cast_at=now,
        outcome="ranked",
        ranking=[[0], [1]],
    )


def measured_point(experiment: Experiment, number: int, models, scores) -> Round:
    """A round of a blend; `scores` are of each player's answers, by each of the models."""
    made = finished_round(experiment, number=number)
    for player, values in zip(evaluating.players(made), scores, strict=True):
        for model, value in zip(models, values, strict=True):
            answered = evaluating.answers(made, player)
            rows = [Score(completion=one, reward_model=model, value=value) for one in answered]
            Score.objects.bulk_create(rows)
    return made
