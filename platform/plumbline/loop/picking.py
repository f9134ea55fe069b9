"""Which of a round's answers people compare: a strategy of `collect.selection` picks them.

The algorithm may insist on a strategy of its own; otherwise the experiment says which. One that
wants contrasting answers waits for a job that reads the base model.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from django.conf import settings
from django.db.models import prefetch_related_objects

from align import algorithms, jobs
from plumbline.collect import selection
from plumbline.collect.models import Completion
from plumbline.collect.strategy import Picked
from plumbline.loop import roundjobs, rows
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
    contrasts: Answers | None = {}
    if selection.find(name).contrasts:
        contrasts = _contrasts(round, sampled)
    if contrasts is None:
        return name, None
    picked = {}
    for prompt_id, answers in sampled.items():
        rng = random.Random(f"{experiment.seed}:{round.number}:{prompt_id}")
        if found := selection.choose(name, answers, rng, contrasts.get(prompt_id, ())):
            picked[prompt_id] = found
    return name, picked


def _contrasts(round: Round, sampled: Answers) -> Answers | None:
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
        pair = [answers[row["first"]], answers[row["second"]]]
        found[pair[0].prompt_id] = pair
    return found


def _items(answers: list[Completion]) -> list[jobs.ItemRow]:
    prefetch_related_objects(answers, "prompt")
    return list(rows.item_rows(answers))
