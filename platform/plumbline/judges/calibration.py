"""Calibrating a version: ask it for the verdicts it lacks, then measure it beside people's votes.

Whoever calls says which ballots are evidence; only people's own are taken. A row is worked on until
it has figures or a sentence, by whoever looks: doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from align.measure.antisymmetric import PLAIN, Fit
from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Completion
from plumbline.fleet.models import Job
from plumbline.judges import asking, beside_people, evidence
from plumbline.judges.models import Asking, Calibration, JudgeVersion

ARTIFICIAL = (User.Kind.AI, User.Kind.IMPORT)  # whose votes are not people's, that we know of
log = logging.getLogger(__name__)

MOST = 2000  # comparisons asked about
BATCH = 500


def begin(
    version: JudgeVersion,
    ballots: Iterable[Ballot],
    by: User | None = None,
    *,
    most: int = MOST,
    max_dollars: float = 0.0,
) -> Calibration:
    """The calibration of a version by these ballots; the one that is there where it has figures.

    Asks the judge about pairs that it has not been asked about. Raises ValueError where there is
    nothing to go by, and where the judge cannot work.
    """
    chosen = some(ballots, most)
    if not chosen:
        raise ValueError(
            "There is nothing to compare the judge with: nobody has voted on anything that it has "
            "not learned from."
        )
    with transaction.atomic():
        row, fresh = Calibration.objects.get_or_create(
            version=version,
            ballots_sha256=evidence.digest(chosen),
            defaults={"created_by": by},
        )
        if fresh:
            for at in range(0, len(chosen), BATCH):
                row.ballots.add(*chosen[at : at + BATCH])
    if row.finished_at is not None and not row.error and not _lacks(row):
        return row
    pairs = [(first, second) for _, first, second in evidence.rows(row.ballots.all())]
    title = f"{version} beside people"[:120]
    row.pairs, row.error, row.finished_at = len(pairs), "", None
    row.job = _under_way(version) or asking.ask(
        version, pairs, title, max_dollars=max_dollars, again=True, by=by
    )
    row.created_by = by or row.created_by
    row.save(update_fields=["pairs", "error", "finished_at", "job", "created_by"])
    return settle(row)


def settle(row: Calibration) -> Calibration:
    """Measure it, if the judge has been asked; the row as it then is."""
    if row.finished_at is not None:
        return row
    job = row.job
    if job is not None and not job.over:
        return row
    if job is not None and job.state != Job.State.SUCCEEDED:
        last = (job.error or "it was cancelled").strip().splitlines()[-1][:300]
        return _closed(row, error=f"The judge could not be asked: {last}")
    if job is not None:
        asking.gather(row.version, job)
    found = evidence.judged(row.version, list(evidence.rows(row.ballots.all())))
    measured = beside_people.measure(found)
    row.rows = [one.to_json() for one in found]
    row.pairs, row.figures, row.gate = len(found), measured.figures, measured.gate
    row.a = measured.fit.a if measured.fit else None
    row.b_len = measured.fit.b_len if measured.fit else None
    return _closed(row)


def collect() -> None:
    """Look at every calibration that is under way."""
    for row in Calibration.objects.filter(finished_at=None).select_related("version__judge", "job"):
        try:
            settle(row)
        except (OSError, ValueError, KeyError) as error:  # its job's folder cannot be read
            log.exception("%s could not be measured", row)
            _closed(row, error=f"It could not be measured: {error}")


def newest(version: JudgeVersion) -> Calibration | None:
    """The version's last calibration that has figures."""
    found = version.calibrations.filter(finished_at__isnull=False, a__isnull=False)
    return found.defer("rows").first()


def fit_of(row: Calibration | None) -> Fit:
    """What turns the version's word into a calibrated chance; its word as it is without one."""
    if row is None or row.a is None or row.b_len is None:
        return PLAIN
    return Fit(row.a, row.b_len)


def rows_of(row: Calibration) -> list[evidence.Row]:
    return [evidence.from_json(one) for one in row.rows]


def some(ballots: Iterable[Ballot], most: int) -> list[Ballot]:
    """People's own, on at most so many comparisons: those whose prompts' digests come first, which
    is an order that nothing else has."""
    if isinstance(ballots, QuerySet):
        ballots = ballots.select_related("annotator", "comparison__prompt")
    own = [one for one in ballots if one.annotator.kind not in ARTIFICIAL]
    keys = sorted({(one.comparison.prompt.digest, one.comparison_id) for one in own})
    chosen = {pk for _, pk in keys[:most]}
    return [one for one in own if one.comparison_id in chosen]


def disputed(row: Calibration, most: int = 20) -> list[tuple[evidence.Row, float]]:
    """Held-out pairs on which people decided and the calibrated judge says otherwise, the surest
    first; with its chance."""
    by = fit_of(row)
    found = [(one, by(one.p, one.longer)) for one in rows_of(row) if one.p is not None]
    against = [(one, p) for one, p in found if one.heldout and (p - 0.5) * (one.y - 0.5) < 0]
    against.sort(key=lambda both: (-abs(both[1] - 0.5), both[0].comparison))
    return against[:most]


def texts(found: Sequence[evidence.Row]) -> dict[str, Completion]:
    """The answers of rows, by id, with their prompts."""
    ids = {row.first for row in found} | {row.second for row in found}
    answers = Completion.objects.filter(pk__in=ids).select_related("prompt")
    return {str(one.pk): one for one in answers}


def _lacks(row: Calibration) -> bool:
    """Whether the judge left out pairs that it could be asked about again."""
    return int(row.figures.get("judged", row.gate.get("judged", 0))) < row.pairs


def _under_way(version: JudgeVersion) -> Job | None:
    """A calibration's job that has not ended: it asks about the same pairs."""
    before = version.calibrations.filter(finished_at=None, job__isnull=False).first()
    if before is None or before.job is None or before.job.over:
        return None
    return before.job if Asking.objects.filter(job=before.job).exists() else None


def _closed(row: Calibration, error: str = "") -> Calibration:
    row.error, row.finished_at = error, timezone.now()
    row.save()
    return row
