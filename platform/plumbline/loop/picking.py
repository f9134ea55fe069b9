"""Which of a round's answers people compare: a strategy of `collect.selection` picks them.

The algorithm may insist on a strategy of its own; otherwise the experiment says which. One that
wants contrasting answers waits for a job that reads the base model, one that wants what the reward
model's members say for a job that asks those of the last round.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from uuid import UUID

from django.conf import settings
from django.db.models import prefetch_related_objects

from align import algorithms, jobs
from plumbline.collect import selection
from plumbline.collect.models import Completion
from plumbline.collect.strategy import NOTHING, Known, Picked
from plumbline.loop import replacing, roundjobs, rows
from plumbline.loop.models import Experiment, Round

Answers = Mapping[int, Sequence[Completion]]  # by prompt


def strategy(experiment: Experiment) -> str:
    """The name of the strategy that picks the experiment's comparisons."""
    own = algorithms.get(experiment.algorithm).selection
    return experiment.selection if own == "random" else own


def pick(round: Round) -> tuple[str, dict[int, list[Picked]] | None]:
    """The strategy, and by prompt what it asks people; None while a job looks at the answers."""
    experiment, sampled = round.experiment, rows.sampled(round)
    name = strategy(experiment)
    found = _known(round, selection.find(name).needs, sampled)
    if found is None:
        return name, None
    digests = dict(round.prompts.values_list("pk", "digest"))  # the same in any database
    picked = {}
    for prompt_id, answers in sampled.items():
        rng = random.Random(f"{experiment.seed}:{round.number}:{digests[prompt_id]}")
        if pairs := selection.choose(name, answers, rng, found.get(prompt_id, NOTHING)):
            picked[prompt_id] = pairs
    return name, picked


def _known(round: Round, needs: str, sampled: Answers) -> Mapping[int, Known] | None:
    """By prompt, what the strategy wants to know; None while a job finds it out."""
    if needs == "contrast":
        return _contrasts(round, sampled)
    if needs == "members":
        return _members(round, sampled)
    return {}


def _members(round: Round, sampled: Answers) -> Mapping[int, Known] | None:
    """What the members of the last round's reward model say; nothing in a first round."""
    model = replacing.incumbent(round)
    if model is None:
        return {}
    answers = [answer for found in sampled.values() for answer in selection.different(found)]
    spec = jobs.ScoreJob(
        reward_model=model.path,
        cache=str(settings.SCORES_DIR),
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "doubt", spec, {jobs.ITEMS: lambda: _items(answers)})
    if roundjobs.finished(job) is None:
        return None
    said = {UUID(key): row["members"] for key, row in rows.read_scores(job).items()}
    return {
        prompt: Known(
            members={answer.pk: said[answer.pk] for answer in found if answer.pk in said},
            temperature=model.temperature,
        )
        for prompt, found in sampled.items()
    }


def _contrasts(round: Round, sampled: Answers) -> Mapping[int, Known] | None:
    """The two answers to each prompt that contrast most in the base; None while a job looks."""
    several = [answer for answers in sampled.values() for answer in selection.different(answers)]
    answers = {str(answer.pk): answer for answer in several}
    spec = jobs.ContrastJob(
        base=jobs.ModelRef(base=round.experiment.start.base_model),
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "contrast", spec, {jobs.ITEMS: lambda: _items(several)})
    if roundjobs.finished(job) is None:
        return None
    found = {}
    for row in jobs.read_rows(job.folder / jobs.CONTRASTS):
        pair = (answers[row["first"]], answers[row["second"]])
        found[pair[0].prompt_id] = Known(contrast=pair)
    return found


def _items(answers: list[Completion]) -> list[jobs.ItemRow]:
    prefetch_related_objects(answers, "prompt")
    return list(rows.item_rows(answers))
