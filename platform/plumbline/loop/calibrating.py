"""Which of a project's votes a judge is measured against, and looking after that."""

from __future__ import annotations

from django.db.models import QuerySet

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Comparison
from plumbline.judges import attacking, calibration
from plumbline.judges.models import Calibration, JudgeVersion
from plumbline.loop import campaigns


def ballots(project: Project | int) -> QuerySet[Ballot]:
    """People's votes that stand, on comparisons asked in earnest, of nobody who is excluded, none
    of them retracted."""
    here = Comparison.objects.filter(campaign__project=project)
    own = campaigns.evidence(here).exclude(annotator__kind__in=calibration.ARTIFICIAL)
    return own.filter(outcome=Ballot.Outcome.RANKED)


def calibrate(
    version: JudgeVersion, by: User | None = None, *, most: int = 2000, max_dollars: float = 0.0
) -> Calibration:
    """Measure a version against the project's people. Raises ValueError where nobody has voted."""
    said = ballots(version.judge.project_id)
    return calibration.begin(version, said, by, most=most, max_dollars=max_dollars)


def since(row: Calibration) -> int:
    """How many votes that could be measured by were cast after it, or taken into no account."""
    return ballots(row.version.judge.project_id).filter(cast_at__gt=row.created_at).count()


def collect() -> None:
    """Whatever judges were asked for calibrations and attacks, as far as it has come."""
    calibration.collect()
    attacking.collect()
