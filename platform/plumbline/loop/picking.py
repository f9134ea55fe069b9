"""Which of a round's answers people compare: a strategy of `collect.selection` picks them.

The algorithm may insist on a strategy of its own; otherwise the experiment says which. One that
wants contrasting answers waits for a job that reads the base model, one that wants what the reward
model's members say, or where answers lie in it, for jobs that ask that of the last round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from django.conf import settings
from django.db.models import prefetch_related_objects

from align import algorithms, jobs
from plumbline.collect import selection, votes
from plumbline.collect.models import Comparison, Completion
from plumbline.collect.strategy import Asked, Batch, Known, Need, Picked
from plumbline.loop import campaigns, replacing, roundjobs, rows
from plumbline.loop.models import Experiment, Round

Answers = Mapping[int, Sequence[Completion]]  # by prompt
Numbers = Mapping[UUID, Sequence[float]]  # by answer
MOST_BEFORE = 1000  # earlier comparisons that a design looks back on


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
    known, before = found
    turns = campaigns.in_turn(round, sampled)
    batch = Batch(
        prompts={prompt: sampled[prompt] for prompt in turns},
        wanted=experiment.prompts_compared or len(turns),
        seed=f"{experiment.seed}:{round.number}",
        known=known,
        before=before,
    )
    return name, selection.choose_batch(name, batch)


def _known(
    round: Round, needs: Collection[Need], sampled: Answers
) -> tuple[Mapping[int, Known], list[Asked]] | None:
    """By prompt, what the strategy wants to know, and what was asked before; None while jobs find
    it out, all at once."""
    contrasts = _contrasts(round, sampled) if "contrast" in needs else {}
    members = _members(round, sampled) if "members" in needs else {}
    features = _features(round, sampled) if "features" in needs else ({}, [])
    if contrasts is None or members is None or features is None:
        return None
    model = replacing.incumbent(round)
    known = {
        prompt: Known(
            contrast=contrasts.get(prompt, ()),
            members={one.pk: members[one.pk] for one in found if one.pk in members},
            temperature=model.temperature if model else 1.0,
            features={one.pk: features[0][one.pk] for one in found if one.pk in features[0]},
        )
        for prompt, found in sampled.items()
    }
    return known, features[1]


def _members(round: Round, sampled: Answers) -> Numbers | None:
    """What the members of the last round's reward model say of answers; nothing in a first round,
    None while a job asks them."""
    model = replacing.incumbent(round)
    if model is None:
        return {}
    spec = jobs.ScoreJob(
        reward_model=model.path,
        cache=str(settings.SCORES_DIR),
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "doubt", spec, {jobs.ITEMS: lambda: _items(_different(sampled))})
    if roundjobs.finished(job) is None:
        return None
    return {UUID(key): row["members"] for key, row in rows.read_scores(job).items()}


def _features(round: Round, sampled: Answers) -> tuple[Numbers, list[Asked]] | None:
    """Where answers lie in the last round's reward model, or in the base, and the pairs that people
    were asked about in earlier rounds; None while a job reads them."""
    model = replacing.incumbent(round)
    earlier = _asked_before(round)

    def answers() -> list[jobs.ItemRow]:
        old = {slot.completion for one in earlier for slot in one.slots.all()}
        return _items([*_different(sampled), *sorted(old, key=lambda answer: str(answer.pk))])

    spec = jobs.FeatureJob(
        base=jobs.ModelRef(base=round.experiment.start.base_model),
        reward_model=model.path if model else None,
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(round, "features", spec, {jobs.ITEMS: answers})
    if roundjobs.finished(job) is None:
        return None
    found = {UUID(row["id"]): row["features"] for row in jobs.read_rows(job.folder / jobs.FEATURES)}
    before = []
    for one in earlier:
        pair = [
            found[slot.completion_id] for slot in one.slots.all() if slot.completion_id in found
        ]
        if len(pair) == 2:
            p = one.why.get("chance", 0.5)
            before.append(Asked([a - b for a, b in zip(*pair, strict=True)], p * (1 - p)))
    return found, before


def _asked_before(round: Round) -> list[Comparison]:
    """The newest comparisons of the experiment's earlier rounds that train reward models."""
    earlier = Comparison.objects.filter(
        campaign__round__experiment=round.experiment, campaign__round__number__lt=round.number
    )
    found = votes.counted(earlier).prefetch_related("slots__completion").order_by("-pk")
    return list(found[:MOST_BEFORE])


def _contrasts(
    round: Round, sampled: Answers
) -> Mapping[int, tuple[Completion, Completion]] | None:
    """The two answers to each prompt that contrast most in the base; None while a job looks."""
    several = _different(sampled)
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
        found[pair[0].prompt_id] = pair
    return found


def _different(sampled: Answers) -> list[Completion]:
    return [answer for found in sampled.values() for answer in selection.different(found)]


def _items(answers: list[Completion]) -> list[jobs.ItemRow]:
    prefetch_related_objects(answers, "prompt")
    return list(rows.item_rows(answers))
