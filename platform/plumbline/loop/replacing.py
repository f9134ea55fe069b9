"""Does the retrained reward model replace the last round's? Measure both, ask the gate, remember.

Both score the same answers: those of the votes that neither trained on, those of the round's newest
votes, which the last model has not trained on either (its accuracy on the policy's own answers is
the figure that matters), and a fixed set by which models are compared over rounds. The scores are
kept as each model's own and never mixed. Here, too, each gets the temperature at which its scores
become probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from django.conf import settings
from django.db import transaction

from align import jobs
from align.measure.confounds import Scored
from align.measure.pairs import Belief
from plumbline.collect.models import Completion
from plumbline.judges.models import Score
from plumbline.loop import gates, history, implicit, quality, rewardgate, roundjobs, rows, unseen
from plumbline.loop.models import Round
from plumbline.policies.models import RewardModel

MEASURE, PREVIOUS = "measure", "measure:previous"


def accepted(round: Round, candidate: RewardModel) -> RewardModel | None:
    """The reward model that the round goes on with; None while the two are being measured. What
    was found stays with the candidate and the round."""
    purposes = (MEASURE, PREVIOUS, implicit.PURPOSE)
    asked = round.jobs.filter(purpose__in=purposes).select_related("job")
    if any(roundjobs.finished(one.job) is None for one in asked):
        return None
    previous = incumbent(round)
    votes = unseen.votes(round)
    probe = unseen.probe(round)
    answers = _answers(votes, probe)
    own: dict[str, dict[UUID, float]] | None = None
    waiting = [not scored(round, MEASURE, candidate, answers)]
    if previous is not None and previous != candidate:
        waiting.append(not scored(round, PREVIOUS, previous, answers))
        if implicit.applies(round):
            own = implicit.rewards(round, list(_completions(_answers(votes))))
            waiting.append(own is None)
    if any(waiting):
        return None
    return _decided(round, candidate, previous, votes, probe, own)


@transaction.atomic
def _decided(
    round: Round,
    candidate: RewardModel,
    previous: RewardModel | None,
    votes: list[unseen.Vote],
    probe: list[Completion],
    own: dict[str, dict[UUID, float]] | None,
) -> RewardModel:
    """Measure, calibrate, ask the gate, remember; which of the two the round goes on with."""
    answers = _answers(votes, probe)
    ours = _scores(candidate, answers)
    untrained = [vote for vote in votes if vote.part]
    believed = Belief.of(candidate.metrics)
    candidate.temperature = quality.temperature(untrained, ours, believed)
    report = quality.report(untrained, ours, _reports(probe, ours), candidate.temperature)
    if previous is None or previous == candidate:
        checks = [rewardgate.first()]
    else:
        theirs = _scores(previous, answers)
        _remember_on_policy(round, previous, votes, theirs, own)
        # It too is calibrated by the newest votes: the gate asks which of them orders better and
        # is better calibrated, not which one saw them first.
        believed = Belief.of(previous.metrics)
        previous.temperature = quality.temperature(untrained, theirs, believed)
        previous.save(update_fields=["metrics", "temperature"])
        change = quality.change(
            untrained,
            _reports(probe, ours),
            _reports(probe, theirs),
            ours,
            theirs,
            (candidate.temperature, previous.temperature),
        )
        report["previous"] = {"model": str(previous.pk), "name": previous.name, **change.json()}
        checks = rewardgate.checks(accuracy=change.accuracy, ece=change.ece, length=change.length)
    report |= {"probe": unseen.fingerprint(probe), "round": round.number}
    verdict = gates.record(checks)
    candidate.metrics = {**candidate.metrics, "measured": report, "gate": verdict}
    candidate.save(update_fields=["metrics", "temperature"])
    kept = candidate if verdict["passed"] or previous is None else previous
    round.figures = {
        **round.figures,
        "reward_gate": {
            **verdict,
            "candidate": str(candidate.pk),
            "name": candidate.name,
            "temperature": kept.temperature,
        },
    }
    round.save(update_fields=["figures"])
    return kept


def incumbent(round: Round) -> RewardModel | None:
    """The reward model of the newest earlier round that has one."""
    models = (one.reward_model for one in reversed(history.before(round)))
    return next((model for model in models if model is not None), None)


def _answers(votes: list[unseen.Vote], more: Iterable[Completion] = ()) -> set[UUID]:
    voted = {answer for vote in votes for answer in (vote.first, vote.second)}
    return voted | {answer.pk for answer in more}


def scored(round: Round, purpose: str, model: RewardModel, answers: Iterable[UUID]) -> bool:
    """Has the model scored these answers? Only those it has not are put into a job."""
    asked = round.jobs.filter(purpose=purpose).exists()
    missing = set() if asked else set(answers) - _scores(model, answers).keys()
    if not asked and not missing:
        return True
    spec = jobs.ScoreJob(
        reward_model=model.path,
        cache=str(settings.SCORES_DIR),
        max_length=settings.MAX_MODEL_LEN,
    )
    job = roundjobs.ask(
        round, purpose, spec, {jobs.ITEMS: lambda: rows.item_rows(_completions(missing))}
    )
    if roundjobs.finished(job) is None:
        return False
    rows.import_scores(job, model)
    return True


def _completions(ids: Iterable[UUID]) -> Iterator[Completion]:
    for page in _pages(ids):
        yield from Completion.objects.filter(pk__in=page).select_related("prompt").order_by("pk")


def _scores(model: RewardModel, answers: Iterable[UUID]) -> dict[UUID, float]:
    found: dict[UUID, float] = {}
    for page in _pages(answers):
        scores = Score.objects.filter(reward_model=model, completion__in=page)
        found.update(scores.values_list("completion_id", "value"))
    return found


def _pages(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = sorted(ids)
    for at in range(0, len(ordered), rows.BATCH):
        yield ordered[at : at + rows.BATCH]


def _reports(probe: list[Completion], scores: dict[UUID, float]) -> dict[UUID, Scored]:
    """The fixed answers that the model could score."""
    return {
        one.pk: Scored(str(one.prompt_id), one.text, scores[one.pk], unseen.length(one))
        for one in probe
        if one.pk in scores
    }


def _remember_on_policy(
    round: Round,
    previous: RewardModel,
    votes: list[unseen.Vote],
    scores: dict[UUID, float],
    own: dict[str, dict[UUID, float]] | None,
) -> None:
    """How the last model foretold the newest votes, before anything trained on them; and how the
    policy's implicit reward did, where it has one."""
    newest = [vote for vote in votes if vote.fresh and vote.people]
    remembered = {"on_policy": quality.slice_figures(newest, scores, previous.temperature)}
    if own is not None:
        inside = implicit.never_trained(round, votes)
        both = {"explicit": scores, **own}
        remembered["implicit"] = {"rows": implicit.compared(inside, newest, both)}
    metrics = dict(previous.metrics)
    for name, figures in remembered.items():
        metrics[name] = {**metrics.get(name, {}), str(round.number): figures}
    previous.metrics = metrics
