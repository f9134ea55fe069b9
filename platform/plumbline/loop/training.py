"""What a round's training needs besides its examples: where it starts and what it is held to.

References and mixtures that are averages of policies are made by a job of their own first. The
trained weights become immutable policies, one for each checkpoint there is to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from align import algorithms, jobs
from align.algorithm import Draws
from align.jobs import ModelRef
from plumbline.fleet.models import Job
from plumbline.loop import examples, roundjobs, rows
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import Policy


def draws(round: Round) -> Iterator[tuple[str, Draws]]:
    """The round's sampling by purpose: what the algorithm wants drawn, half of the policy's own
    answers at the other temperature where the experiment has one."""
    experiment = round.experiment
    algorithm = algorithms.get(experiment.algorithm).build(experiment.knobs)
    for one in algorithm.draws(experiment.samples_per_prompt, experiment.temperature):
        first, *other = one.halved(experiment.other_temperature)
        yield f"{rows.SAMPLE}:{one.source}", first
        for half in other:
            yield f"{rows.SAMPLE}:{one.source}:other", half


def drawn_from(round: Round, draws: Draws) -> Policy | None:
    """The policy that a draw of the algorithm samples; None while it is still being made."""
    if draws.model == "initial":
        return round.experiment.start
    if draws.model == "round_start" or round.policy_in == round.experiment.start:
        return round.policy_in
    shares = {"round_start": 1 - draws.initial_share, "initial": draws.initial_share}
    parts = {"round_start": round.policy_in, "initial": round.experiment.start}
    job = _average(round, "mixture", parts, shares)
    result = roundjobs.finished(job)
    if result is None:
        return None
    return policy_of(round, job, result, "mixture", Policy.State.MIXTURE)


def references(round: Round) -> dict[str, ModelRef] | None:
    """The frozen policies by the names that algorithms use; None while a soup is being made."""
    experiment = round.experiment
    found = {"initial": experiment.start.ref, "round_start": round.policy_in.ref}
    if experiment.reference != Experiment.Reference.SOUP:
        return {**found, "reference": found[experiment.reference]}
    if experiment.soup_with is None:
        raise ValueError("The reference is an average, but the policy to average with is missing.")
    if experiment.soup_with.ref == experiment.start.ref:
        return {**found, "reference": experiment.start.ref}
    parts = {"initial": experiment.start, "other": experiment.soup_with}
    shares = {"initial": 1 - experiment.soup_share, "other": experiment.soup_share}
    job = _average(round, "soup", parts, shares)
    result = roundjobs.finished(job)
    if result is None:
        return None
    weights, lora = str(job.folder / result["weights"]), result["mode"] == "lora"
    base = experiment.start.ref.base
    return {
        **found,
        "reference": ModelRef(base=base, adapter=weights) if lora else ModelRef(base=weights),
    }


def job(round: Round, named: dict[str, ModelRef]) -> Job:
    """The round's training job, asked for at first sight."""
    experiment = round.experiment
    algorithm = algorithms.get(experiment.algorithm).build(experiment.knobs)
    names = {*algorithm.references, *algorithm.divergences}
    start = round.policy_in if experiment.warm_start else experiment.start
    spec = jobs.TrainJob(
        algorithm=experiment.algorithm,
        knobs=experiment.knobs,
        start=start.ref,
        references={name: named[name] for name in sorted(names)},
        weights=jobs.Weights(**experiment.weights),
        optimiser=roundjobs.optimiser(experiment, experiment.optimiser),
        candidates=experiment.candidates,
        anchor=experiment.anchor,
        processes=experiment.processes,
    )
    inputs = {jobs.EXAMPLES: lambda: examples.example_rows(round)}
    return roundjobs.ask(round, "train", spec, inputs)


def candidates(round: Round) -> list[Policy]:
    """The policies that training left behind, oldest first, the finished one last."""
    job = round.jobs.select_related("job").get(purpose="train").job
    result = roundjobs.finished(job)
    assert result is not None, "the stage before this one waits for it"
    earlier = result["candidates"][:-1]
    return [
        *(policy_of(round, job, one, f"step{one['step']}") for one in earlier),
        policy_of(round, job, result, ""),
    ]


def policy_of(
    round: Round,
    job: Job,
    result: dict[str, Any],
    what: str,
    state: Policy.State = Policy.State.CANDIDATE,
    knobs: dict[str, Any] | None = None,
) -> Policy:
    """The policy that a finished job of the round has left, made once. `what` is of its name,
    `knobs` what it was made by where that is not the experiment's algorithm."""
    experiment = round.experiment
    full = result.get("mode", experiment.weights.get("mode")) == "full"
    name = "-".join(part for part in (roundjobs.stem(round), what, result["sha256"][:8]) if part)
    policy, _ = Policy.objects.get_or_create(
        name=name,
        defaults={
            "project": experiment.project,
            "weights": Policy.Weights.FULL if full else Policy.Weights.LORA,
            "base_model": experiment.start.base_model,
            "path": str(job.folder / result["weights"]),
            "sha256": result["sha256"],
            "parent": round.policy_in,
            "algorithm": experiment.algorithm,
            "knobs": experiment.knobs if knobs is None else knobs,
            "metrics": result,
            "state": state,
        },
    )
    return policy


def _average(round: Round, purpose: str, parts: dict[str, Policy], shares: dict[str, float]) -> Job:
    """The job that averages policies."""
    spec = jobs.MergeJob(policies={name: one.ref for name, one in parts.items()}, shares=shares)
    return roundjobs.ask(round, purpose, spec, {})
