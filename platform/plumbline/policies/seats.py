"""Whose weights vLLM runs on: the base model's, with all adapters beside it, or one policy's own.

It holds one model at a time, under that model's name (`align.reloading`). So a policy with full
weights takes the seat of whatever was there, which only a promotion may do, and only where nothing
else that clients reach needs the old weights. Meanwhile gateways let no request through. The
database says whose seat it is; whoever finds other weights in an engine puts the right ones back.
The embedded engine holds several models, each under its name, and knows no seats.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import DateTimeField, ExpressionWrapper, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from plumbline.accounts.models import Project
from plumbline.policies import engines, manifest, tensors
from plumbline.policies.models import Deployment, Loan, Objective, Policy, Reload

log = logging.getLogger(__name__)

SEEN_SECONDS = 0.1  # after an alias has moved or a row is written, until every gateway goes by it
LEASE_SECONDS = 15.0  # without a sign of life from whoever changes the weights
PROVING_SECONDS = 60.0  # for the probe and the alias's move, once the weights are there
BEAT_SECONDS = 3.0
Cards = Mapping[str, Mapping[str, Any]]


def one_at_a_time() -> bool:
    """Whether the engines hold one model only."""
    return bool(settings.ENGINE == "vllm")


def name(policy: Policy | None) -> str:
    """What vLLM calls the weights that `policy` runs on; None is the base model."""
    if policy is not None and policy.weights == Policy.Weights.FULL:
        return policy.name
    return str(settings.BASE_NAME)


def holder() -> Policy | None:
    """The policy with full weights whose seat it is, by the database; None: the base model's.
    What an alias points at has it, and all aliases agree; of old ones that do not, the newest."""
    moved = Deployment.objects.select_related("policy").order_by("-updated_at", "-pk").first()
    if moved is None or moved.policy.weights != Policy.Weights.FULL:
        return None
    return moved.policy


def fitting(policies: QuerySet[Policy]) -> QuerySet[Policy]:
    """Those of them that run on the weights whose seat it is."""
    if not one_at_a_time():
        return policies
    mine = holder()
    if mine is None:
        return policies.exclude(weights=Policy.Weights.FULL)
    return policies.filter(pk=mine.pk)


def changing() -> bool:
    """Whether the engines' weights are being changed now."""
    return Reload.objects.filter(until__gte=Now()).exists()


def wrong(policy: Policy, here: Mapping[str, Cards]) -> list[str]:
    """Engines that hold other weights than those that `policy` runs on."""
    wanted = name(policy)
    full = policy.weights == Policy.Weights.FULL
    return [
        url
        for url, cards in here.items()
        if wanted not in cards or (full and cards[wanted].get("root") != policy.path)
    ]


def restore(policy: Policy, where: list[str]) -> None:
    """Have engines hold again what the database says, where `policy` runs on that. Raises
    EngineTaken where it runs on other weights, which only a promotion may bring."""
    mine = holder()
    if name(policy) != name(mine):
        raise engines.EngineTaken(
            f"{policy.name} was not loaded: vLLM holds one model\u2019s weights at a time, and "
            f"those are {mine.name if mine else 'the base model'}\u2019s, which an alias needs"
        )
    _check(mine)
    with _shut() as change:
        change.take_up(mine, where)


@contextmanager
def taken(project: Project, alias: str, policy: Policy) -> Iterator[None]:
    """The weights that `policy` runs on in every engine, for an alias that moves to it within.

    Does nothing where they are there. Else no request is let through until the alias has moved,
    and the old weights are put back where that fails. Raises EngineError.
    """
    if not one_at_a_time():
        yield
        return
    if not wrong(policy, engines.up()) and name(policy) == name(holder()):
        yield
        return
    _check(policy)
    with _shut() as change:
        if (other := _in_the_way(project, alias, policy)) is not None:
            raise engines.EngineTaken(
                f"{policy.name} was not loaded: vLLM holds one model\u2019s weights at a time, and "
                f"{other}, which runs on others; move that first"
            )
        try:
            change.take_up(policy, wrong(policy, engines.up()))
            change.renew(PROVING_SECONDS)
            yield
        except BaseException:
            change.put_back()
            raise


class _Change:
    """The right to change the engines' weights, as long as `renew` is called in time."""

    def __init__(self, row: Reload) -> None:
        self._row = row

    def renew(self, seconds: float = LEASE_SECONDS) -> None:
        if not Reload.objects.filter(pk=self._row.pk).update(until=_after(seconds)):
            raise engines.EngineError("changing the weights took too long; another one does it")

    def take_up(self, policy: Policy | None, where: list[str]) -> None:
        """Change what the engines at these addresses hold, when what they answer has ended."""
        full = policy is not None and policy.weights == Policy.Weights.FULL
        path = policy.path if policy is not None and full else str(settings.BASE_MODEL)
        wanted = name(policy)
        self._beating(lambda: engines.each(where, lambda url: engines.reload(url, wanted, path)))

    def put_back(self) -> None:
        """What the database says, after a failure. What fails here the loop tries again."""
        mine = holder()
        try:
            held = engines.up()
            where = [url for url, cards in held.items() if name(mine) not in cards]
            if where:
                self.take_up(mine, where)
        except engines.EngineError as error:
            log.error("the weights of %s were not put back: %s", name(mine), error)

    def _beating(self, ask: Callable[[], object]) -> None:
        """`ask`, which speaks to engines only, while the right is renewed."""
        self.renew()
        with ThreadPoolExecutor(max_workers=1) as aside:
            asked = aside.submit(ask)
            while not wait([asked], timeout=BEAT_SECONDS).done:
                self.renew()
            asked.result()


@contextmanager
def _shut() -> Iterator[_Change]:
    """No gateway lets a request through within. Raises EngineReloading when somebody else is at
    it, EngineLent while the engines sleep."""
    check_not_lent()
    with transaction.atomic():
        Reload.objects.filter(until__lt=Now()).delete()
    try:
        with transaction.atomic():
            row = Reload.objects.create(until=_after(LEASE_SECONDS))
    except IntegrityError:
        said = "the engine is taking up other weights at the moment; ask again"
        raise engines.EngineReloading(said) from None
    try:
        time.sleep(SEEN_SECONDS)
        yield _Change(row)
    finally:
        Reload.objects.filter(pk=row.pk).delete()


def check_not_lent() -> None:
    """Raises EngineLent while a job has the engines' memory."""
    if Loan.objects.exists():
        said = "the engine's memory is lent to a GPU job; it is asked again afterwards"
        raise engines.EngineLent(said)


def _check(policy: Policy | None) -> None:
    """Raises EngineError unless the folder is what was registered and fits the model."""
    if policy is None or policy.weights != Policy.Weights.FULL:
        return
    try:
        manifest.verify(Path(policy.path), policy.sha256)
        tensors.check_same(Path(policy.path), Path(settings.BASE_MODEL))
    except (ValueError, OSError) as error:
        raise engines.EngineError(f"{policy.name} was not loaded: {error}") from error


def _in_the_way(project: Project, alias: str, policy: Policy) -> str | None:
    """What else clients reach that runs on other weights, in words. An average of adapters is not:
    it is made when it is asked for."""
    wanted = name(policy)
    for one in Deployment.objects.select_related("policy", "canary", "shadow"):
        moving = one.project_id == project.pk and one.alias == alias
        # A canary ends as its alias moves.
        for other in [one.shadow] if moving else [one.policy, one.canary, one.shadow]:
            if other is not None and name(other) != wanted:
                return f"{one} needs {other.name}"
    for objective in Objective.objects.select_related("policy"):
        if name(objective.policy) != wanted:
            return f"the objective {objective} needs {objective.policy.name}"
    return None


def _after(seconds: float) -> Combinable:
    """A moment on the database's clock."""
    later: Combinable = ExpressionWrapper(
        Now() + timedelta(seconds=seconds), output_field=DateTimeField()
    )
    return later
