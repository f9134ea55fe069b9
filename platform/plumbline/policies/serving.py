"""Which weights the engine serves, and which of them an alias points at.

The only file that speaks an engine's admin API; vLLM and `align.gpu.serve` answer the same one.
Weights are verified before they are loaded, a name never stands for other weights, and an alias
moves only after the policy has answered a real request. No call to the engine happens inside a
database transaction.
"""

from __future__ import annotations

import functools
import logging
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.db import transaction

from plumbline.accounts.models import Project, User
from plumbline.policies import manifest, routes
from plumbline.policies.models import Deployment, Flip, Loan, Policy

log = logging.getLogger(__name__)

CURRENT = "current"
LOAD_SECONDS = 120.0
PROBE_SECONDS = 30.0
SEEN_SECONDS = 0.1  # after an alias has moved or a loan is written, until every gateway goes by it
SLEEP_SECONDS = 120.0  # for the requests in progress to end
PROBE = [{"role": "user", "content": "What is the capital of France?"}]
PROBE_TOKENS = 2  # one of the prompt, one of what is kept of it: both ways that answers are made


class EngineError(Exception):
    """The engine cannot be reached, refuses, or serves something else than it should."""


class EngineRefusal(EngineError):
    """It answered, with an error."""


class EngineSlow(EngineError):
    """It may still do what it was asked."""


class EngineLent(EngineError):
    """It has lent its memory to a job: nothing is wrong, ask again later."""


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
    """Make the engine serve `policy`. Raises EngineError with a sentence when it cannot."""
    _check_base(policy)
    if _is_served(policy, served()):
        return
    if policy.weights == Policy.Weights.BASE:
        raise EngineError(f"the engine does not serve its base model as {settings.BASE_NAME!r}")
    if policy.weights == Policy.Weights.FULL and settings.ENGINE == "vllm":
        raise EngineError(
            f"{policy.name} has full weights, which vLLM cannot load while it runs; "
            "train with LoRA, or restart the engine with this policy as its base model"
        )
    _check_not_lent()
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
    try:
        _call("POST", "/v1/load_lora_adapter", body, LOAD_SECONDS)
    except EngineError:
        # Another process may have loaded it in between; what counts is what is served now.
        if not _is_served(policy, served()):
            raise


def release(policy: Policy) -> None:
    """Free the engine's memory of a policy that no alias needs. Raises ValueError if one does."""
    if policy.weights == Policy.Weights.BASE:
        raise ValueError("the base model stays loaded")
    if (needs := routes.why_needed(policy)) is not None:
        raise ValueError(f"{policy.name} is needed by {needs}")
    if policy.name in served():
        _check_not_lent()
        _call("POST", "/v1/unload_lora_adapter", {"lora_name": policy.name}, LOAD_SECONDS)


def probe(policy: Policy) -> str:
    """A few tokens from a real generation: the proof that the policy answers, and its text."""
    _check_not_lent()
    name = engine_name(policy)
    body = {"model": name, "messages": PROBE, "max_tokens": PROBE_TOKENS, "temperature": 0.0}
    reply = _call("POST", "/v1/chat/completions", body, PROBE_SECONDS)
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
    EngineError before anything has moved, ValueError for a foreign policy.
    """
    if policy.project_id != project.pk:
        raise ValueError(f"{policy} is not a policy of {project}")
    ensure_loaded(policy)
    probe(policy)
    return _point(project, alias, policy, actor, reason, evidence)


def roll_back(
    project: Project, *, actor: User | None, reason: str, alias: str = CURRENT
) -> Deployment:
    """Point the alias back at the policy before; rolling back twice returns to where it was."""
    deployment = Deployment.objects.filter(project=project, alias=alias).first()
    if deployment is None or deployment.previous is None:
        raise ValueError(f"{alias} has no previous policy to roll back to")
    policy = deployment.previous
    ensure_loaded(policy)
    probe(policy)
    return _point(project, alias, policy, actor, reason, {"rolled_back": deployment.policy.name})


def reconcile() -> list[str]:
    """Load everything the aliases need (`routes.needed`); for use after an engine restart.

    Gives the names it loaded. One policy that cannot be loaded does not keep others from it;
    EngineError names all of those at the end.
    """
    here = served()
    loaded: list[str] = []
    failed: list[str] = []
    for policy in routes.needed():
        if engine_name(policy) in here:
            continue
        try:
            ensure_loaded(policy)
        except EngineError as error:
            log.error("%s cannot be served: %s", policy.name, error)
            failed.append(str(error))
        else:
            loaded.append(policy.name)
    if failed:
        raise EngineError("; ".join(failed))
    return loaded


def check_sleep() -> None:
    """Raises EngineError with a sentence when sleep would give no memory back: vLLM answers
    /sleep in any case, its CPU build too, and then keeps its memory."""
    if settings.ENGINE != "vllm":
        return
    with_both = "start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"
    try:
        told = _call("GET", "/server_info?config_format=json", None, LOAD_SECONDS)
    except EngineRefusal as error:
        raise EngineError(f"vLLM cannot be told to sleep: {with_both}") from error
    except EngineSlow as error:
        raise EngineError(f"it did not say whether it can sleep: {error}") from error
    model = told.get("vllm_config", {}).get("model_config", {})
    if not model.get("enable_sleep_mode"):
        raise EngineError(
            f"vLLM keeps its memory while it sleeps: {with_both} (its CPU build has no sleep mode)"
        )


def sleep() -> None:
    """Have the engine give its memory back; it answers what runs first, and queues the rest.

    vLLM: without mode=wait it would cut off what runs and call that an answer. At level 1 weights
    and adapters wait in the host's memory; level 2 forgets both, and its wake restores neither.
    """
    _call("POST", "/sleep?level=1&mode=wait", None, SLEEP_SECONDS)


def wake() -> None:
    """Have it take its weights up again, if it slept. Raises EngineError when it cannot."""
    if asleep():
        # One that is still on its way must arrive: vLLM would fall asleep after it was woken.
        sleep()
        _call("POST", "/wake_up", None, LOAD_SECONDS)


def asleep() -> bool:
    return bool(_call("GET", "/is_sleeping", None, PROBE_SECONDS).get("is_sleeping"))


def served() -> dict[str, dict[str, Any]]:
    """The engine's model cards by name."""
    reply = _call("GET", "/v1/models", None, PROBE_SECONDS)
    try:
        return {card["id"]: card for card in reply["data"]}
    except (KeyError, TypeError) as error:
        raise EngineError("the engine's list of models is not one") from error


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
        Flip.objects.create(
            deployment=deployment,
            before=before,
            after=policy,
            actor=actor,
            reason=reason,
            evidence=dict(evidence),
        )
        Policy.objects.filter(pk=policy.pk).update(state=Policy.State.PROMOTED)
    policy.state = Policy.State.PROMOTED
    time.sleep(SEEN_SECONDS)
    return deployment


def _check_base(policy: Policy) -> None:
    """An engine runs one base model; adapters of another, and other bases, are not its business."""
    if policy.weights == Policy.Weights.FULL:
        return
    if Path(policy.base_model).resolve() != Path(settings.BASE_MODEL).resolve():
        raise EngineError(
            f"{policy.name} belongs to the base model {policy.base_model}, "
            f"but the engine runs {settings.BASE_MODEL}"
        )


def _check_not_lent() -> None:
    if Loan.objects.exists():
        raise EngineLent("the engine's memory is lent to a GPU job; it is asked again afterwards")


def _is_served(policy: Policy, cards: Mapping[str, Mapping[str, Any]]) -> bool:
    card = cards.get(engine_name(policy))
    if card is None:
        return False
    if policy.weights != Policy.Weights.BASE and card.get("root") not in (None, policy.path):
        raise EngineError(
            f"the engine serves {card['root']} under the name {policy.name}, not {policy.path}"
        )
    return True


def _call(method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
    """One request to the engine; its JSON, or {} where it answers with words."""
    timeout = httpx.Timeout(seconds, connect=5.0)
    try:
        # Engines are on a private network: no proxy from the environment may stand between.
        with httpx.Client(timeout=timeout, trust_env=False, verify=_authorities()) as client:
            reply = client.request(method, settings.ENGINE_URL.rstrip("/") + path, json=body)
    except httpx.HTTPError as error:
        what = f"{type(error).__name__} {error}".strip()
        kind = EngineSlow if isinstance(error, httpx.ReadTimeout) else EngineError
        raise kind(f"the engine at {settings.ENGINE_URL} does not answer ({what})") from error
    if reply.is_error:
        raise EngineRefusal(f"the engine refused {path}: {_complaint(reply)}")
    if reply.headers.get("content-type", "").startswith("application/json"):
        try:
            data = reply.json()
        except ValueError as error:
            raise EngineError(f"the engine's answer to {path} is not JSON") from error
        if isinstance(data, dict):
            return data
    return {}


@functools.cache
def _authorities() -> ssl.SSLContext:
    """Reading the authorities' certificates takes longer than most calls do."""
    return httpx.create_ssl_context(trust_env=False)


def _complaint(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code} {reply.text[:200]}".strip()
