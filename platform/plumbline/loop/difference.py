"""What changes for clients when one policy takes another's place: data, settings, figures.

Figures of two policies are comparable only where they were measured against the same opponent, so
each is shown with the opponent's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from plumbline.loop import lineage
from plumbline.loop.models import Evaluation, Experiment, Round
from plumbline.policies.models import Deployment, Policy

LEFT_OUT = {"id", "project", "name", "created_by", "created_at", "state", "rounds_wanted"}
NESTED = ("knobs", "weights", "optimiser", "reward_optimiser", "reward_knobs", "reward_ensemble")


@dataclass(frozen=True)
class Changed:
    """A setting in which the experiments behind two policies differ."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Difference:
    """`added` are the rounds that went into the new policy alone, `dropped` those into the old one
    alone, each the latest first; votes are counted once."""

    before: Policy
    after: Policy
    added: list[Round]
    dropped: list[Round]
    votes_added: int
    votes_dropped: int
    settings: list[Changed]
    evaluations: list[Evaluation]  # of the new policy
    evaluations_before: list[Evaluation]  # of the old one
    canaries: list[Deployment]  # that try the new policy on clients


def between(before: Policy, after: Policy, whole: lineage.Graph) -> Difference:
    """What `after` has and `before` has not, and the other way round."""
    old, new = made_from(before, whole), made_from(after, whole)
    added = [one for one in new if one not in old]
    dropped = [one for one in old if one not in new]
    makers = (maker(before, whole), maker(after, whole))
    return Difference(
        before=before,
        after=after,
        added=added,
        dropped=dropped,
        votes_added=votes(new) - _shared(old, new),
        votes_dropped=votes(old) - _shared(old, new),
        settings=_settings(*makers),
        evaluations=_evaluations(makers[1]),
        evaluations_before=_evaluations(makers[0]),
        canaries=list(Deployment.objects.filter(canary=after).order_by("alias")),
    )


def maker(policy: Policy, whole: lineage.Graph) -> Round | None:
    """The round that made a policy; None of a base."""
    return next((one for one in whole.rounds.values() if one.policy_out_id == policy.pk), None)


def made_from(policy: Policy, whole: lineage.Graph) -> list[Round]:
    """Every round that went into a policy, the latest first."""
    round = maker(policy, whole)
    return whole.upstream(round.pk) if round else []


def votes(rounds: Iterable[Round]) -> int:
    """How many votes these rounds froze, each counted once."""
    through = Round.ballots.through.objects.filter(round__in=[one.pk for one in rounds])
    return through.values("ballot").distinct().count()


def _shared(old: Iterable[Round], new: Iterable[Round]) -> int:
    through = Round.ballots.through.objects
    theirs = through.filter(round__in=[one.pk for one in old]).values("ballot")
    mine = through.filter(round__in=[one.pk for one in new], ballot__in=theirs)
    return mine.values("ballot").distinct().count()


def _settings(before: Round | None, after: Round | None) -> list[Changed]:
    old, new = (settings(one.experiment) if one else {} for one in (before, after))
    if not old or not new:
        return []
    return [
        Changed(name.replace("_", " ").replace(".", ": "), old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def settings(experiment: Experiment) -> dict[str, Any]:
    """Every setting by name, those inside of a setting with a dot."""
    found: dict[str, Any] = {}
    for one in Experiment._meta.concrete_fields:
        if one.name in LEFT_OUT:
            continue
        value = getattr(experiment, one.attname)
        if one.name in NESTED:
            found |= {f"{one.name}.{key}": inner for key, inner in value.items()}
        else:
            found[one.name] = str(getattr(experiment, one.name)) if one.is_relation else value
    return found


def _evaluations(round: Round | None) -> list[Evaluation]:
    if round is None:
        return []
    return list(round.evaluations.select_related("opponent").order_by("pk"))
