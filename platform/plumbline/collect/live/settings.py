"""Whether a campaign is live, and what its two sides are then sampled from.

Kept as JSON on the campaign; an empty one means that it is not. A side names an alias, which is
followed at the start of each comparison, or a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from django.conf import settings as site

from plumbline.accounts.models import Project
from plumbline.collect.models import Campaign, PromptSet
from plumbline.policies.models import Deployment, Policy
from plumbline.policies.serving import CURRENT

MOST_NAMED = 50  # adapters to choose from, the latest
MOST_TOKENS = min(2048, site.MAX_MODEL_LEN)


@dataclass(frozen=True)
class Live:
    """Prompts come from a set, from the people themselves, or from either."""

    first: str = CURRENT
    second: str = CURRENT
    prompts: int | None = None  # a prompt set
    writing: bool = True  # people write messages of their own
    temperature: float = 1.0
    max_tokens: int = min(256, MOST_TOKENS)

    def __post_init__(self) -> None:
        if not (self.writing or self.prompts):
            raise ValueError("Prompts: choose a prompt set, or let people write their own.")
        if not 0 <= self.temperature <= 2:
            raise ValueError("Temperature must be between 0 and 2.")
        if self.first == self.second and self.temperature == 0:
            raise ValueError(
                "Temperature: two samples of one policy are the same at 0; take a higher one."
            )
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"Longest answer must be between 1 and {MOST_TOKENS} tokens.")

    @property
    def json(self) -> dict[str, Any]:
        return asdict(self)


def of(campaign: Campaign) -> Live | None:
    """The campaign's live settings; None where it is not live."""
    return read(campaign.live) if campaign.live else None


def read(values: Mapping[str, Any]) -> Live:
    """Settings from JSON. Raises ValueError."""
    if unknown := values.keys() - {field.name for field in fields(Live)}:
        raise ValueError(f"There is no live setting called {', '.join(sorted(unknown))}.")
    return Live(**values)


def words(values: Mapping[str, Any]) -> str:
    """The settings as the list of versions tells them."""
    one = read(values)
    source = "people’s own prompts" if one.writing else ""
    if one.prompts:
        found = PromptSet.objects.filter(pk=one.prompts).first()
        source = " and ".join(part for part in (f"prompts of {found or 'a set'}", source) if part)
    return (
        f"{one.first} against {one.second}, {source}, temperature {one.temperature:g}, "
        f"{one.max_tokens} tokens at most"
    )


def samplable(project: Project) -> dict[str, str]:
    """What a side may name, with how to call it: aliases, the policies they point at, bases, and
    the latest adapters, which the engine loads when they are first asked."""
    found = {CURRENT: "current, whichever policy that is then"}
    named: dict[str, str] = {}
    for one in Deployment.objects.filter(project=project).select_related("policy", "previous"):
        found[one.alias] = f"{one.alias}, whichever policy that is then"
        for policy in (one.policy, one.previous):
            if policy is not None and not _foreign(policy):
                named[policy.name] = policy.name
    adapters = Policy.objects.filter(project=project, weights=Policy.Weights.LORA)
    named |= {one.name: one.name for one in adapters[:MOST_NAMED]}
    bases = Policy.objects.filter(project=project, weights=Policy.Weights.BASE)
    named |= {base.name: base.name for base in bases if not _foreign(base)}
    return found | named


def resolve(project: Project, name: str) -> Policy | None:
    """The immutable policy that a side means now."""
    deployed = Deployment.objects.filter(project=project, alias=name).select_related("policy")
    deployment = deployed.first()
    policy = deployment.policy if deployment else None
    if policy is None:
        policy = Policy.objects.filter(project=project, name=name).first()
    return None if policy is None or _foreign(policy) else policy


def _foreign(policy: Policy) -> bool:
    """A base that the engine no longer runs: another one would answer under its name."""
    return policy.weights == Policy.Weights.BASE and policy.base_model != site.BASE_MODEL
