"""A live campaign of a project whose current policy is the demo's base model."""

from __future__ import annotations

from typing import Any

from plumbline.collect.live.settings import Live
from plumbline.collect.models import Campaign, LiveAnswer, Prompt, PromptSet
from plumbline.collect.prompts import digest
from plumbline.policies import serving
from plumbline.policies.models import Deployment


def serve_base(project, alias: str = "current") -> Any:
    """An alias, set without asking any engine."""
    policy = serving.base_policy(project)
    Deployment.objects.get_or_create(project=project, alias=alias, defaults={"policy": policy})
    return policy


def live_campaign(project, *, prompts: int = 2, **settings) -> Campaign:
    """A campaign that asks "Question n?" live; without prompts people write their own."""
    serve_base(project)
    number = Campaign.objects.count()
    source = PromptSet.objects.create(project=project, name=f"Live prompts {number}")
    for n in range(prompts):
        messages = [{"role": "user", "content": f"Question {n}?"}]
        Prompt.objects.create(set=source, messages=messages, digest=digest(messages))
    given = {key: settings.pop(key) for key in Live.__dataclass_fields__ if key in settings}
    live = Live(**{"prompts": source.pk if prompts else None, "writing": not prompts, **given})
    return Campaign.objects.create(
        project=project, name=f"Live {number}", live=live.json, **settings
    )


def grow(ballot, slot: int, text: str, state: str = "writing", **more) -> None:
    """What a writer would have stored of one side."""
    LiveAnswer.objects.filter(comparison=ballot.comparison, slot=slot).update(
        text=text, state=state, **more
    )
