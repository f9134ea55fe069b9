"""A session's prompts, drawn once, and the frozen answers to them that programs pick from."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from align import jobs
from plumbline.collect.models import Completion, Prompt
from plumbline.evolve import work
from plumbline.evolve.models import Evolution, PanelPrompt
from plumbline.loop import roundjobs, rows
from plumbline.policies import serving
from plumbline.policies.models import Policy

Role = PanelPrompt.Role
POOL = "pool"


@dataclass(frozen=True)
class Pool:
    """One prompt's answers in the order they were drawn; `texts` holds each different one once, as
    it was first drawn."""

    prompt: Prompt
    role: str
    draws: tuple[Completion, ...]

    @property
    def texts(self) -> list[Completion]:
        first: dict[str, Completion] = {}
        for one in self.draws:
            first.setdefault(one.text, one)
        return list(first.values())


def wanted(evolution: Evolution) -> dict[str, int]:
    """How many prompts of each role."""
    return {
        Role.CHOSEN: evolution.chosen_prompts,
        Role.SPARE: evolution.spare_prompts,
        Role.HIDDEN: evolution.hidden_prompts,
        Role.FRESH: evolution.fresh_prompts,
    }


def draw(evolution: Evolution) -> None:
    """Draw the panel, once: prompts that other sessions used least, by the seed among equals.
    Hidden ones are held-out prompts while there are any, and so are those that are kept fresh: no
    generation samples them. Raises ValueError where there are too few."""
    if evolution.panel.exists():
        return
    used = Counter(
        PanelPrompt.objects.filter(prompt__set=evolution.prompt_set).values_list(
            "prompt_id", flat=True
        )
    )
    prompts = list(evolution.prompt_set.prompts.order_by("digest"))
    random.Random(f"panel:{evolution.seed}").shuffle(prompts)
    prompts.sort(key=lambda one: used[one.pk])
    train = [one for one in prompts if one.split == Prompt.Split.TRAIN]
    heldout = [one for one in prompts if one.split == Prompt.Split.HELDOUT]
    sizes = wanted(evolution)
    shown = sizes[Role.CHOSEN] + sizes[Role.SPARE]
    kept = sizes[Role.HIDDEN] + sizes[Role.FRESH]
    hidden = [*heldout, *train[shown:]][:kept]
    if len(train) < shown or len(hidden) < kept:
        raise ValueError(
            f"{evolution.prompt_set} has {len(train)} training and {len(heldout)} held-out "
            f"prompts; the session needs {shown} to show, {sizes[Role.HIDDEN]} to hide and "
            f"{sizes[Role.FRESH]} to keep fresh."
        )
    roles = [role for role, size in sizes.items() for _ in range(size)]
    with transaction.atomic():
        PanelPrompt.objects.bulk_create(
            PanelPrompt(evolution=evolution, prompt=prompt, role=role, place=place)
            for place, (prompt, role) in enumerate(
                zip([*train[:shown], *hidden], roles, strict=True)
            )
        )


def sampled(evolution: Evolution) -> bool:
    """Whether the pool is there; asks for it and stores it. The policy is (re)loaded at every look,
    so an engine that restarted finds it again."""
    asked = evolution.jobs.filter(purpose=POOL).select_related("job").first()
    if asked is None or not asked.job.over:
        serving.ensure_loaded(evolution.policy)
    seen = evolution.panel.exclude(role=Role.FRESH)
    prompts = [one.prompt for one in seen.select_related("prompt")]
    spec = sampling(evolution, evolution.policy, evolution.seed)
    job = work.ask(evolution, None, POOL, spec, {jobs.PROMPTS: lambda: rows.prompt_rows(prompts)})
    if roundjobs.finished(job) is None:
        return False
    rows.import_completions(job, evolution.policy, {one.pk for one in prompts})
    return True


def sampling(evolution: Evolution, policy: Policy, seed: int) -> jobs.SampleJob:
    """How a session has prompts answered."""
    return jobs.SampleJob(
        engine_url=settings.ENGINE_URL,
        model=serving.engine_name(policy),
        n=evolution.pool_size,
        temperature=evolution.temperature,
        max_tokens=evolution.max_tokens,
        seed=seed,
    )


def pools(evolution: Evolution, purpose: str = POOL) -> list[Pool]:
    """Every prompt of the panel in order, with the answers that the job of a purpose drew."""
    asked = evolution.jobs.select_related("job").get(purpose=purpose)
    by_prompt: dict[int, list[Completion]] = {}
    found = Completion.objects.filter(batch=asked.job_id).order_by("prompt_id", "draw")
    for one in found.select_related("prompt"):
        by_prompt.setdefault(one.prompt_id, []).append(one)
    return [
        Pool(one.prompt, one.role, tuple(by_prompt[one.prompt_id]))
        for one in evolution.panel.select_related("prompt")
        if one.prompt_id in by_prompt
    ]
