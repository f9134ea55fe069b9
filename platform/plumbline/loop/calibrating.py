"""Which of a project's votes a judge is measured against, and looking after that.

A judge is measured on votes that it has not learned from; the others say how well it remembers.
"""

from __future__ import annotations

from django.db.models import QuerySet

from align import fitting
from plumbline.accounts.models import Project, User
from plumbline.collect import origins
from plumbline.collect.models import Ballot, Comparison, Prompt
from plumbline.judges import attacking, calibration
from plumbline.judges.models import Calibration, JudgeVersion
from plumbline.loop import campaigns, history, holdout
from plumbline.loop.models import Round
from plumbline.policies.models import RewardModel

FITTED, PROGRAM = "features", "program"  # kinds of judges that learned from votes themselves


def ballots(project: Project | int) -> QuerySet[Ballot]:
    """People's votes that stand, on comparisons asked in earnest, of nobody who is excluded, none
    of them retracted."""
    here = Comparison.objects.filter(campaign__project=project)
    own = campaigns.evidence(here).exclude(annotator__kind__in=calibration.ARTIFICIAL)
    return own.filter(outcome=Ballot.Outcome.RANKED)


def unseen(version: JudgeVersion) -> QuerySet[Ballot]:
    """Those that the version has not learned from: no vote on a prompt that its reward model was
    trained on or its weights were fitted to; of a program no ranking of what programs picked."""
    found = ballots(version.judge.project_id)
    if version.judge.kind == PROGRAM:
        return found.exclude(comparison__strategy=origins.ICPL)
    learned: set[int] = set()
    if version.reward_model is not None:
        learned |= trained_on(version.reward_model)
    if version.judge.kind == FITTED:
        learned |= {
            prompt.pk
            for prompt in _prompts(found)
            if not holdout.of_prompt(prompt) and not fitting.held_out(prompt.digest)
        }
    return found.exclude(comparison__prompt__in=learned) if learned else found


def trained_on(model: RewardModel) -> set[int]:
    """The prompts whose votes trained a reward model: those of the rounds up to the one whose job
    made it, without the prompts that are held out."""
    made = Round.objects.filter(jobs__job__result__sha256=model.sha256).order_by("pk").first()
    if made is None:
        return set()
    return {
        prompt.pk for prompt in _prompts(history.ballots(made)) if not holdout.of_prompt(prompt)
    }


def _prompts(found: QuerySet[Ballot]) -> QuerySet[Prompt]:
    return Prompt.objects.filter(pk__in=found.order_by().values("comparison__prompt"))


def calibrate(
    version: JudgeVersion, by: User | None = None, *, most: int = 2000, max_dollars: float = 0.0
) -> Calibration:
    """Measure a version against the project's people. Raises ValueError where nobody has voted on
    anything that it has not learned from."""
    return calibration.begin(version, unseen(version), by, most=most, max_dollars=max_dollars)


def since(row: Calibration) -> int:
    """How many votes that it could be measured by were cast after it."""
    return unseen(row.version).filter(cast_at__gt=row.created_at).count()


def collect() -> None:
    """Whatever judges were asked for calibrations and attacks, as far as it has come."""
    calibration.collect()
    attacking.collect()
