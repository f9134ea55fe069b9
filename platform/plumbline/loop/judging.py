"""The judges of a round: which versions, pinned when it begins, and what they say together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from align.measure import antisymmetric
from align.measure.antisymmetric import dlen
from plumbline.collect.models import Completion
from plumbline.judges import asking, beside_people, calibration, judges, verdicts
from plumbline.judges.evidence import Row
from plumbline.judges.models import Calibration, Judge, JudgeVersion
from plumbline.judges.triage import Word
from plumbline.loop import roundjobs
from plumbline.loop.models import Experiment, Round, RoundJob, RoundJudge

Pair = tuple[Completion, Completion]
LABEL, EVALUATE = RoundJudge.Role.LABEL, RoundJudge.Role.EVALUATE


def pin(round: Round) -> None:
    """Fix the round's judges: the newest version of each, of those that sort comparisons the newest
    that is calibrated. Raises ValueError where one is missing, or would evaluate itself."""
    experiment = round.experiment
    by_judge = experiment.judge == Experiment.Judge.JUDGE
    if round.judges.exists() or not (experiment.judged or by_judge):
        return
    chosen: list[tuple[str, JudgeVersion, Calibration | None]] = []
    if experiment.judged:
        named = list(experiment.labellers.order_by("pk"))
        if not named:
            raise ValueError("No judge is chosen to label.")
        sorting = experiment.labels == Experiment.Labels.TRIAGE
        chosen += [(LABEL, *pinned(judge, sorting)) for judge in named]
    if by_judge:
        if experiment.evaluator is None:
            raise ValueError("No judge is chosen to evaluate.")
        chosen.append((EVALUATE, *pinned(experiment.evaluator, False)))
    labellers = [(version, row) for role, version, row in chosen if role == LABEL]
    for role, version, _ in chosen:
        if role == EVALUATE:
            for labeller, _ in labellers:
                if kin := related(version, labeller):
                    raise ValueError(kin)
    weights = iter(mix([row for _, row in labellers]))
    with transaction.atomic():
        for role, version, row in chosen:
            RoundJudge.objects.create(
                round=round,
                version=version,
                role=role,
                weight=next(weights) if role == LABEL else 1.0,
                calibration=row,
                sha256=version.sha256,
            )


def pinned(judge: Judge, sorting: bool) -> tuple[JudgeVersion, Calibration | None]:
    """The version of a judge that a round takes, and its calibration. Raises ValueError where it
    must be calibrated and no version is, and where it is retired."""
    if judge.retired_at is not None:
        raise ValueError(f"{judge} is retired.")
    if not sorting:
        version = judges.current(judge)
        return version, calibration.newest(version)
    for version in judge.versions.order_by("-number"):
        row = calibration.newest(version)
        if row is not None and row.usable:
            return version, row
    raise ValueError(
        f"{judge} has no calibration that passed its gate. Calibrate it first: what it is sure of "
        "is known only from people's votes."
    )


def of(round: Round, role: str) -> list[RoundJudge]:
    found = round.judges.filter(role=role)
    return list(found.select_related("version__judge__account", "calibration").order_by("pk"))


def said(round: Round, judge: RoundJudge, purpose: str, pairs: Sequence[Pair]) -> bool:
    """Whether the judge has been asked about the pairs, which begins on first call. Raises
    ValueError where its job failed. What its cap left out has no verdict then."""
    asked = round.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None:
        with transaction.atomic():
            title = f"{round}: {judge.version.judge} judges"[:120]
            cap = round.experiment.judge_dollars
            job = asking.ask(judge.version, pairs, title, max_dollars=cap)
            if job is None:
                return True
            asked = RoundJob.objects.create(round=round, purpose=purpose, job=job)
    if roundjobs.finished(asked.job) is None:
        return False
    asking.gather(judge.version, asked.job)
    return True


def words(judges: Sequence[RoundJudge], pairs: Sequence[Pair]) -> dict[tuple[UUID, UUID], Word]:
    """What the judges say together of each pair, its first answer being the better one: nothing
    where one of them is silent, and no one thing where one contradicts itself."""
    said = [verdicts.rows(judge.version, pairs) for judge in judges]
    fits = [calibration.fit_of(judge.calibration) for judge in judges]
    weights = [judge.weight for judge in judges]
    found = {}
    for one, other in pairs:
        ids = (one.pk, other.pk)
        spoken = [rows.get(ids) for rows in said]
        chances: list[float] = []
        for verdict, fit in zip(spoken, fits, strict=True):
            if verdict is not None and verdict.p is not None:
                p = verdicts.turned(verdict.p, verdict.first_id == one.pk)
                assert p is not None
                chances.append(fit(p, dlen(one.text, other.text)))
        if len(chances) < len(judges):
            found[ids] = Word(None, False)
            continue
        same = all(verdict is not None and bool(verdict.consistent) for verdict in spoken)
        found[ids] = Word(together(chances, weights), same)
    return found


def together(chances: Sequence[float], weights: Sequence[float]) -> float:
    """The mix; of a judge alone its own chance."""
    return chances[0] if len(chances) == 1 else antisymmetric.mixed(chances, weights)


def mix(rows: Sequence[Calibration | None]) -> list[float]:
    """Weights of judges, fitted to the pairs that none of their figures is of; equal shares where
    one has no calibration, or they have no such pair in common."""
    if len(rows) < 2:
        return [1.0] * len(rows)
    shared = _shared(rows)
    fitted = [(row, chances) for row, chances in shared if not row.heldout]
    if not fitted:
        return [1 / len(rows)] * len(rows)
    return antisymmetric.mix(
        [chances for _, chances in fitted],
        [row.y for row, _ in fitted],
        [row.weight * len(row.votes) for row, _ in fitted],
    )


def trusted(
    rows: Sequence[Calibration | None], weights: Sequence[float], rate: float
) -> dict[str, Any] | None:
    """From which confidence on the mix keeps a promised error rate, by held-out pairs."""
    heldout = [(row, together(chances, weights)) for row, chances in _shared(rows) if row.heldout]
    return beside_people.trusted(heldout, rate)


def related(one: JudgeVersion, other: JudgeVersion) -> str:
    """Why the one may not evaluate what the other labelled; "" where it may."""
    mine, theirs = marks(one), marks(other)
    if one.judge_id == other.judge_id:
        return (
            f"{one.judge} labels, so it cannot evaluate what comes of its labels. Choose another."
        )
    if shared := sorted(mine.keys() & theirs.keys()):
        return (
            f"{one.judge} and {other.judge}, which labels, are {mine[shared[0]]}: it would "
            "evaluate itself. Choose a judge of another family."
        )
    return ""


def marks(version: JudgeVersion) -> dict[tuple[str, str], str]:
    """What a version's word comes from, each with how two are told that share it."""
    found: dict[tuple[str, str], str] = {}
    frozen: Mapping[str, Any] = version.settings
    if endpoint := frozen.get("endpoint"):
        key = f"{_place(endpoint['url'])} {endpoint['model']}"
        found["model", key] = f"the same model ({endpoint['model']})"
    for model in _models(frozen):
        found["reward model", model["sha256"]] = f"the same reward model ({model['name']})"
    if (own := version.reward_model) is not None:
        found["reward model", own.sha256] = f"the same reward model ({own.name})"
    if program := frozen.get("program"):
        text = json.dumps(program, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        found["program", key] = "the same reward program"
    return found


def _models(frozen: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    one, several = frozen.get("reward_model"), frozen.get("reward_models") or []
    found = [*([one] if one else []), *several]
    return [model for model in found if isinstance(model, Mapping) and "sha256" in model]


def _place(url: str) -> str:
    """An endpoint's address; of our own engine "", however it is told."""
    told = url.strip().rstrip("/")
    own = {f"{one.strip().rstrip('/')}/v1" for one in settings.ENGINE_URL.split(",")}
    return "" if told in own else told


def _shared(rows: Sequence[Calibration | None]) -> list[tuple[Row, list[float]]]:
    """Pairs that all these judged, each with their calibrated chances."""
    if not rows or any(row is None for row in rows):
        return []
    known: list[dict[tuple[str, str], float]] = []
    for calibrated in rows:
        assert calibrated is not None
        by = calibration.fit_of(calibrated)
        known.append(
            {
                (row.first, row.second): by(row.p, row.longer)
                for row in calibration.rows_of(calibrated)
                if row.p is not None
            }
        )
    assert rows[0] is not None
    return [
        (row, [chances[row.first, row.second] for chances in known])
        for row in calibration.rows_of(rows[0])
        if all((row.first, row.second) in chances for chances in known)
    ]
