"""Which weights the engines serve, and which of them an alias points at.

Weights are verified before they are loaded, a name never stands for other weights, and an alias
moves only after the policy has answered a real request on every engine that is up. What no alias
needs any more is unloaded later, by `retire`, and loaded again when somebody asks for it by name.
No call to an engine happens inside a database transaction.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from align import failpoints
from plumbline.accounts.models import Project, User
from plumbline.audit.record import record
from plumbline.policies import engines, manifest, routes, seats
from plumbline.policies.engines import EngineError as EngineError
from plumbline.policies.engines import EngineLent as EngineLent
from plumbline.policies.models import Deployment, Flip, Policy
from plumbline.policies.seats import SEEN_SECONDS as SEEN_SECONDS

log = logging.getLogger(__name__)

CURRENT = "current"
ROLLED_BACK = "rolled_back"  # in a flip's evidence: what the alias pointed at before
PROBE_SECONDS = 30.0
PROBE = [{"role": "user", "content": "What is the capital of France?"}]
PROBE_TOKENS = 2  # one of the prompt, one of what is kept of it: both ways that answers are made
Cards = Mapping[str, Mapping[str, Any]]


def base_policy(project: Project) -> Policy:
    """The project's policy for the base model the engine runs; made at the first call.

    Names are never reused: when settings.BASE_MODEL has changed, the new base gets a new name.
    """
    bases = Policy.objects.filter(project=project, weights=Policy.Weights.BASE)
    found = bases.filter(base_model=settings.BASE_MODEL).first()
    if found is not None:
        return found
    count = bases.count()
    name = f"{project.slug}-base" if not count else f"{project.slug}-base-{count + 1}"
    policy, _ = Policy.objects.get_or_create(
        name=name,
        defaults={
            "project": project,
            "weights": Policy.Weights.BASE,
            "base_model": settings.BASE_MODEL,
        },
    )
    return policy


def engine_name(policy: Policy) -> str:
    """What the engine calls it."""
    return settings.BASE_NAME if policy.weights == Policy.Weights.BASE else policy.name


def ensure_loaded(policy: Policy) -> None:
    """Make every engine that is up serve `policy`. Raises EngineError with a sentence when one of
    them cannot, or none is up."""
    _check_base(policy)
    here = engines.up()
    if seats.one_at_a_time() and (wrong := seats.wrong(policy, here)):
        seats.restore(policy, wrong)
        here = engines.up()
    lacking = [url for url, cards in here.items() if not _is_served(policy, cards)]
    if lacking:
        _load(policy, lacking)


def _load(policy: Policy, lacking: list[str]) -> None:
    if policy.weights == Policy.Weights.BASE:
        raise EngineError(f"the engine does not serve its base model as {settings.BASE_NAME!r}")
    seats.check_not_lent()
    body = {"lora_name": policy.name, "lora_path": policy.path}
    try:
        if policy.weights == Policy.Weights.FULL:
            # The embedded engine reads and hashes every byte itself, against this manifest.
            manifest.outline(Path(policy.path), policy.sha256)
            body["sha256"] = policy.sha256
        else:
            manifest.verify(Path(policy.path), policy.sha256)
    except (ValueError, OSError) as error:
        raise EngineError(f"{policy.name} was not loaded: {error}") from error

    def load(url: str) -> None:
        try:
            engines.call(url, "POST", "/v1/load_lora_adapter", body, engines.LOAD_SECONDS)
        except EngineError:
            # Another process may have loaded it in between; what counts is what is served now.
            if not _is_served(policy, engines.cards(url)):
                raise

    engines.each(lacking, load)


def release(policy: Policy) -> None:
    """Free the engines' memory of a policy that no alias needs. Raises ValueError if one does.

    The engines drain it: its name takes no new request from then on, and what runs on it ends on
    the weights it began with.
    """
    if policy.weights == Policy.Weights.BASE:
        raise ValueError("the base model stays loaded")
    if (needs := routes.why_needed(policy)) is not None:
        raise ValueError(f"{policy.name} is needed by {needs}")
    if policy.weights == Policy.Weights.FULL and seats.one_at_a_time():
        return  # its weights stay until others take their place
    holding = [url for url, cards in engines.up().items() if policy.name in cards]
    if holding:
        seats.check_not_lent()
        engines.each(holding, lambda url: _unload(url, policy.name))


def _unload(url: str, name: str) -> None:
    path, body = "/v1/unload_lora_adapter", {"lora_name": name}
    try:
        engines.call(url, "POST", path, body, engines.LOAD_SECONDS)
    except EngineError:
        if name in engines.cards(url):  # else another process was faster
            raise


def retire(keep: Collection[Policy] = ()) -> list[str]:
    """Unload what was promoted once, or rejected, and is needed by no alias now; the names.

    `keep`: what the caller needs beside the aliases. Safe at any time, in any process and as often
    as one likes, so a promotion that was killed leaves nothing behind. A request on its way to
    what is unloaded has it loaded again (`load_again`).
    """
    served = {name for cards in engines.up().values() for name in cards}
    over = Q(state__in=(Policy.State.PROMOTED, Policy.State.REJECTED), name__in=served)
    kept = needed() | {policy.name for policy in keep}
    gone = []
    for policy in Policy.objects.filter(over).exclude(weights=Policy.Weights.BASE):
        if policy.name in kept:
            continue
        try:
            release(policy)
            failpoints.reach("promotion.drained")
        except ValueError:  # an alias has just moved to it
            continue
        gone.append(policy.name)
    return gone


def needed() -> set[str]:
    """Names of the policies that requests may reach without naming them."""
    return set(routes.needed().values_list("name", flat=True))


def load_again(name: str) -> bool:
    """Have the engines serve a policy that was unloaded and is asked for by its name; False when
    there is no such policy, or it is too large to be loaded for one request.

    Raises EngineError when it cannot be loaded.
    """
    policy = Policy.objects.filter(name=name).exclude(weights=Policy.Weights.BASE).first()
    if policy is None:
        return False
    if policy.weights == Policy.Weights.FULL and name not in needed():
        return False
    ensure_loaded(policy)
    return True


def probe(policy: Policy) -> str:
    """A few tokens from a real generation on every engine that is up: the proof that the policy
    answers, and its text."""
    seats.check_not_lent()
    return engines.each(list(engines.up()), lambda url: _probe(url, policy))[0]


def _probe(url: str, policy: Policy) -> str:
    name = engine_name(policy)
    body = {"model": name, "messages": PROBE, "max_tokens": PROBE_TOKENS, "temperature": 0.0}
    reply = engines.call(url, "POST", "/v1/chat/completions", body, PROBE_SECONDS)
    try:
        text = str(reply["choices"][0]["message"]["content"] or "")
        answered_by = reply["model"]
    except (KeyError, IndexError, TypeError) as error:
        raise EngineError(f"{policy.name} gave no chat completion when probed") from error
    if answered_by != name:
        raise EngineError(f"{policy.name} was probed but {answered_by} answered")
    if not text.strip():
        raise EngineError(f"{policy.name} answered the probe with nothing")
    return text


def promote(
    project: Project,
    policy: Policy,
    *,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any],
    alias: str = CURRENT,
) -> Deployment:
    """Load, probe, then move the alias in one transaction with its audit row.

    A request that is sent after this returns is answered by the new policy. Promoting what the
    alias already points at changes nothing, so a caller that crashed may call again. Raises
    EngineError before anything has moved, ValueError for a foreign policy. The policies that it
    displaces stay loaded until `retire` comes round.
    """
    if policy.project_id != project.pk:
        raise ValueError(f"{policy} is not a policy of {project}")
    return _move(project, alias, policy, actor, reason, evidence)


def roll_back(
    project: Project,
    *,
    actor: User | None,
    reason: str,
    alias: str = CURRENT,
    evidence: Mapping[str, Any] | None = None,
    leaving: Policy | None = None,
) -> Deployment:
    """Point the alias back at the policy before; rolling back twice returns to where it was.

    `leaving`: only while it still points at this one, so that who saw its figures cannot move it
    the other way after somebody has been faster. Raises ValueError where it does not.
    """
    deployment = Deployment.objects.filter(project=project, alias=alias).first()
    if leaving is not None and (deployment is None or deployment.policy != leaving):
        raise ValueError(f"{alias} is no longer {leaving.name}")
    if deployment is None or deployment.previous is None:
        raise ValueError(f"{alias} has no previous policy to roll back to")
    policy = deployment.previous
    told = {**(evidence or {}), ROLLED_BACK: deployment.policy.name}
    return _move(project, alias, policy, actor, reason, told)


def reconcile() -> list[str]:
    """Load everything the aliases need (`routes.needed`) on every engine that is up and lacks it;
    for use after an engine restart.

    Gives the names it loaded. One policy that cannot be loaded does not keep others from it;
    EngineError names all of those at the end.
    """
    here = engines.up()
    loaded: list[str] = []
    failed: list[str] = []
    for policy in routes.needed():
        if all(engine_name(policy) in cards for cards in here.values()):
            continue
        try:
            ensure_loaded(policy)
        except engines.EngineReloading:  # somebody is at it already
            return loaded
        except EngineError as error:
            log.error("%s cannot be served: %s", policy.name, error)
            failed.append(str(error))
        else:
            loaded.append(policy.name)
    if failed:
        raise EngineError("; ".join(failed))
    return loaded


def served() -> dict[str, dict[str, Any]]:
    """Model cards by name of all that some engine serves."""
    return {name: card for cards in engines.up().values() for name, card in cards.items()}


def _move(
    project: Project,
    alias: str,
    policy: Policy,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any],
) -> Deployment:
    _check_base(policy)
    with seats.taken(project, alias, policy):
        ensure_loaded(policy)
        failpoints.reach("promotion.loaded")
        probe(policy)
        failpoints.reach("promotion.probed")
        return _point(project, alias, policy, actor, reason, evidence)


def _point(
    project: Project,
    alias: str,
    policy: Policy,
    actor: User | None,
    reason: str,
    evidence: Mapping[str, Any],
) -> Deployment:
    with transaction.atomic():
        deployment, new = Deployment.objects.select_for_update().get_or_create(
            project=project, alias=alias, defaults={"policy": policy}
        )
        before = None if new else deployment.policy
        if before == policy:
            return deployment
        routes.settle(deployment, policy, actor, reason)
        deployment.policy, deployment.previous = policy, before
        deployment.save()
        flip = Flip.objects.create(
            deployment=deployment,
            before=before,
            after=policy,
            actor=actor,
            reason=reason,
            evidence=dict(evidence),
        )
        Policy.objects.filter(pk=policy.pk).update(state=Policy.State.PROMOTED)
        failpoints.reach("promotion.flipping")
        what = "policy.rolled_back" if ROLLED_BACK in evidence else "policy.promoted"
        came_from = {"before": before.pk if before else None, "flip": flip.pk}
        record(what, policy, project=project, actor=actor, alias=alias, **came_from)
    failpoints.reach("promotion.flipped")
    policy.state = Policy.State.PROMOTED
    time.sleep(SEEN_SECONDS)
    return deployment


def _check_base(policy: Policy) -> None:
    """An engine runs one base model; adapters of another, and other bases, are not its business."""
    if policy.weights == Policy.Weights.FULL and not seats.one_at_a_time():
        return
    if Path(policy.base_model).resolve() != Path(settings.BASE_MODEL).resolve():
        raise EngineError(
            f"{policy.name} belongs to the base model {policy.base_model}, "
            f"but the engine runs {settings.BASE_MODEL}"
        )


def _is_served(policy: Policy, cards: Cards) -> bool:
    card = cards.get(engine_name(policy))
    if card is None:
        return False
    if policy.weights != Policy.Weights.BASE and card.get("root") not in (None, policy.path):
        raise EngineError(
            f"the engine serves {card['root']} under the name {policy.name}, not {policy.path}"
        )
    return True
