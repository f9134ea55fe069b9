"""Automatic roll-back: live figures of a policy against those of the one it has replaced.

The loop's process looks every few seconds. After each `least` further requests a guard tests what
the alias's policy did since it was promoted, within the guard's window, against what the previous
policy did in as long a window before; `suspicion` says how sure that is. An alarm rolls the alias
back by the same transaction as a person does, or is only told, as the guard is set.

A move that was a roll-back itself is not watched: there is nothing better to go back to.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from plumbline.audit.record import record
from plumbline.gateway import suspicion
from plumbline.gateway.models import Exchange, Feedback
from plumbline.policies import serving
from plumbline.policies.models import Flip, Guard, Look, Policy

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between looks
MOST = 2000  # latest values that latencies and lengths are compared by, of either side
EMPTY_TOKENS = 1  # an end of turn alone is an empty answer
THUMBS = "thumbs"
Metric = Guard.Metric
SHARES = (Metric.ERRORS, Metric.DOWN, Metric.EMPTY)


@dataclass(frozen=True)
class Sample:
    """What a policy did in a window: `events` of `n`, or `values` of a figure."""

    n: int
    events: int = 0
    values: list[float] = field(default_factory=list)

    def figure(self, metric: str) -> float | None:
        if not self.n:
            return None
        return self.events / self.n if metric in SHARES else median(self.values)


class Watch:
    """For the loop's process: looks at every guard now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        watch()
        self._next = time.monotonic() + EVERY


def watch() -> list[Look]:
    """Look at every guard that is due; the looks that were an alarm."""
    alarms = []
    for guard in Guard.objects.filter(ended_at=None).select_related("deployment__project"):
        flip = watched(guard)
        if flip is None:
            continue
        look = Look.objects.filter(guard=guard, flip=flip, alarm=True).first()
        if look is None:
            look = _look(guard, flip)
        if look is not None and look.alarm:
            alarms.append(look)
            if not guard.tell_only and not look.acted:
                _roll_back(guard, flip, look)
    return alarms


def watched(guard: Guard) -> Flip | None:
    """The move that a guard watches: the alias's last, unless it was a roll-back or the first."""
    flip = guard.deployment.flips.select_related("before", "after").order_by("-pk").first()
    if flip is None or flip.before is None or "rolled_back" in flip.evidence:
        return None
    return flip if flip.after_id == guard.deployment.policy_id else None


def sample(guard: Guard, policy: Policy, since: datetime, until: datetime | None = None) -> Sample:
    """What the policy did for requests to the alias; nothing that a shadow wrote."""
    deployment = guard.deployment
    exchanges = Exchange.objects.filter(
        project=deployment.project, asked_for=deployment.alias, policy=policy, shadow=False
    )
    exchanges = _within(exchanges, since, until)
    match guard.metric:
        case Metric.ERRORS:
            return Sample(exchanges.count(), exchanges.filter(status__gte=500).count())
        case Metric.EMPTY:
            answered = exchanges.filter(status__lt=400, completion_tokens__isnull=False)
            empty = answered.filter(completion_tokens__lte=EMPTY_TOKENS)
            return Sample(answered.count(), empty.count())
        case Metric.DOWN:
            about = exchanges.filter(completion_id=OuterRef("completion_id")).order_by()
            said = Feedback.objects.filter(project=deployment.project, key=THUMBS)
            said = said.filter(Exists(about), score__isnull=False)
            return Sample(said.count(), said.filter(score__lte=0).count())
        case _:
            figure = "latency_ms" if guard.metric == Metric.LATENCY else "completion_tokens"
            answered = exchanges.filter(Q(status__lt=400) & ~Q(**{figure: None}))
            found = answered.order_by("-created_at").values_list(figure, flat=True)
            return Sample(answered.count(), values=[float(one) for one in found[:MOST]])


def _within(
    exchanges: QuerySet[Exchange], since: datetime, until: datetime | None
) -> QuerySet[Exchange]:
    found = exchanges.filter(created_at__gte=since)
    return found if until is None else found.filter(created_at__lt=until)


def _look(guard: Guard, flip: Flip) -> Look | None:
    """Test once, if as many requests as the guard wants have come since it was tested last."""
    assert flip.before is not None
    last = guard.looks.filter(flip=flip).order_by("-number").first()
    seen = sample(guard, flip.after, flip.at).n
    if seen < (last.seen if last else 0) + guard.least:
        return None
    window = timedelta(minutes=guard.minutes)
    now = sample(guard, flip.after, max(flip.at, timezone.now() - window))
    before = sample(guard, flip.before, flip.at - window, flip.at)
    number = last.number + 1 if last else 1
    watching = Guard.objects.filter(deployment=guard.deployment, ended_at=None).count()
    level = suspicion.level(number, watching)
    p_value = None
    if before.n >= guard.least and now.n >= guard.least:
        p_value = _p_value(guard.metric, now, before)
    alarm = p_value is not None and p_value <= level and _is_worse(guard, now, before)
    try:
        with transaction.atomic():
            look = Look.objects.create(
                guard=guard,
                flip=flip,
                number=number,
                seen=seen,
                p_value=p_value,
                level=level,
                alarm=alarm,
                evidence=_evidence(guard, flip, now, before),
            )
            if alarm:
                alias = guard.deployment.alias
                project = guard.deployment.project_id
                record("guard.alarm", guard, project=project, alias=alias, look=look.pk)
            return look
    except IntegrityError:  # another process looked at the same moment
        return None


def _p_value(metric: str, now: Sample, before: Sample) -> float:
    if metric in SHARES:
        return suspicion.more_often(now.events, now.n, before.events, before.n)
    if metric == Metric.LATENCY:
        return suspicion.larger(now.values, before.values)
    return suspicion.different(now.values, before.values)


def _is_worse(guard: Guard, now: Sample, before: Sample) -> bool:
    """By the margin at least."""
    new, old = now.figure(guard.metric), before.figure(guard.metric)
    if new is None or old is None:
        return False
    change = new - old if guard.metric in SHARES else (new - old) / max(old, 1.0)
    if guard.metric == Metric.LENGTH:
        change = abs(change)
    return change > 0 and change >= guard.margin


def _evidence(guard: Guard, flip: Flip, now: Sample, before: Sample) -> dict[str, Any]:
    assert flip.before is not None
    return {
        "metric": guard.metric,
        "policy": flip.after.name,
        "figure": now.figure(guard.metric),
        "requests": now.n,
        "previous": flip.before.name,
        "previous_figure": before.figure(guard.metric),
        "previous_requests": before.n,
        "minutes": guard.minutes,
        "margin": guard.margin,
    }


def sentence(look: Look) -> str:
    """What was seen, in a sentence."""
    told, metric = look.evidence, look.guard.get_metric_display()
    shown = [_shown(look.guard.metric, told[name]) for name in ("figure", "previous_figure")]
    words = f"{metric}: {shown[0]} in {told['requests']} requests"
    words += f", {shown[1]} in {told['previous_requests']} before"
    if look.p_value is None:
        return f"{words}; too few to compare."
    return f"{words} (p = {look.p_value:.2g}, alarm from {look.level:.2g})."


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "nothing"
    if metric in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.0f} {'ms' if metric == Metric.LATENCY else 'tokens'}"


def _roll_back(guard: Guard, flip: Flip, look: Look) -> None:
    """Tried again at every look until it is done, or somebody has moved the alias."""
    deployment = guard.deployment
    told = {**look.evidence, "p_value": look.p_value, "level": look.level, "look": look.number}
    try:
        serving.roll_back(
            deployment.project,
            actor=None,
            reason=f"A guard rolled it back. {sentence(look)}"[:300],
            alias=deployment.alias,
            evidence={"guard": told},
            leaving=flip.after,
        )
    except (serving.EngineError, ValueError) as error:
        log.warning("%s should be rolled back, but: %s", deployment, error)
        Look.objects.filter(pk=look.pk).update(trouble=str(error)[:300])
        return
    log.warning("%s was rolled back: %s", deployment, sentence(look))
    look.acted, look.trouble = True, ""
    look.save(update_fields=["acted", "trouble"])
