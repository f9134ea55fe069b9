"""From the winner of a session to a judge, and to a short round that it labels."""

from __future__ import annotations

from django.db import transaction

from plumbline.accounts.models import User
from plumbline.evolve import confirming
from plumbline.evolve.models import Program, Trial
from plumbline.judges import judges
from plumbline.judges.models import JudgeVersion
from plumbline.loop.models import Experiment
from plumbline.policies import serving
from plumbline.policies.models import Deployment

Status = Program.Status
KIND = "program"
PROMPTS = 64  # of a round that a program labels, and as many held-out ones


def latest(program: Program) -> Trial | None:
    return program.trials.filter(passed__isnull=False).order_by("-number").first()


def promote(program: Program, name: str, by: User) -> JudgeVersion:
    """Make the program a judge of kind `program`, at the temperature of its trial. Raises
    ValueError where its last trial did not pass, where people have not confirmed it on fresh
    answers though the session kept prompts for that, or the name is taken."""
    trial = latest(program)
    if program.judge is not None:
        raise ValueError(f"This program is the judge {program.judge.judge} already.")
    if trial is None or not trial.passed or trial.temperature is None:
        raise ValueError("The program has not passed a trial, so it may not judge.")
    confirming.must_stand(program)
    with transaction.atomic():
        version = judges.make(
            program.generation.evolution.project,
            name,
            KIND,
            {"temperature": min(max(trial.temperature, 1e-6), 1000.0)},
            program=program.program,
            endpoint=program.generation.evolution.rubric_endpoint,
            by=by,
        )
        Program.objects.filter(pk=program.pk).update(status=Status.ACTIVE, judge=version)
    program.refresh_from_db()
    return version


def retire(program: Program) -> None:
    """It judges nothing new from now on; what it said stays."""
    if program.status != Status.ACTIVE or program.judge is None:
        raise ValueError("Only a program that judges can be retired.")
    judges.retire(program.judge.judge)
    Program.objects.filter(pk=program.pk).update(status=Status.RETIRED)


def try_out(program: Program, by: User) -> Experiment:
    """One short LoRA round of DPO from what is served, labelled by the program alone, then judged
    blind by people and gated like any other. Raises ValueError where the program is no judge, or
    what people said of its fresh picks no longer confirms it."""
    if program.judge is None or program.status != Status.ACTIVE:
        raise ValueError("Make the program a judge first; a round pins the judge that labels it.")
    confirming.must_stand(program)
    evolution = program.generation.evolution
    served = Deployment.objects.filter(project=evolution.project, alias=serving.CURRENT).first()
    start = served.policy if served else serving.base_policy(evolution.project)
    train = evolution.prompt_set.prompts.filter(split="train").count()
    heldout = evolution.prompt_set.prompts.filter(split="heldout").count()
    if not train or not heldout:
        raise ValueError(f"{evolution.prompt_set} needs training and held-out prompts for a round.")
    number = Experiment.objects.filter(
        project=evolution.project, name__startswith=f"{evolution.name}: program"[:70]
    ).count()
    again = f" ({number + 1})" if number else ""
    made = Experiment.objects.create(
        project=evolution.project,
        name=f"{evolution.name[:50]}: program {program} judges{again}",
        created_by=by,
        algorithm="dpo",
        start=start,
        prompt_set=evolution.prompt_set,
        rounds_wanted=1,
        prompts_per_round=min(PROMPTS, train),
        samples_per_prompt=4,
        max_tokens=evolution.max_tokens,
        heldout_prompts=min(PROMPTS, heldout),
        labels=Experiment.Labels.JUDGE,
        slice_percent=0,
        judge=Experiment.Judge.PEOPLE,  # whoever labels does not evaluate
    )
    made.labellers.set([program.judge.judge])
    return made
