"""Sessions of ICPL on answers that are made here, and a way to run their jobs here and now."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import jobs
from plumbline.accounts.models import Membership, Project, User
from plumbline.collect import queue
from plumbline.collect.models import Campaign, Completion, Prompt, PromptSet
from plumbline.evolve import advance, panel
from plumbline.evolve.models import Evolution, EvolutionJob, Generation
from plumbline.fleet.models import Job
from plumbline.policies.models import Policy
from tests.loop.conftest import run_jobs

PARTS = (
    *("Thank you, good question!", "- one\n- two", "It rains in the north.", "Perhaps, maybe."),
    *("The answer is seven.", "Is that so?", "Golden dreams whisper.", "A week, in most cases."),
)


@pytest.fixture
def prompt_set(project: Project) -> PromptSet:
    found = PromptSet.objects.create(project=project, name="Questions")
    for number in range(30):
        text = f"How long does thing number {number} take in winter?"
        Prompt.objects.create(
            set=found,
            split="train" if number < 15 else "heldout",
            messages=[{"role": "user", "content": text}],
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )
    return found


@pytest.fixture
def policy(project: Project) -> Policy:
    return Policy.objects.create(
        project=project, name="alpha-base", weights="base", base_model="/base"
    )


@pytest.fixture
def evolution_of(
    project: Project, prompt_set: PromptSet, policy: Policy, settings: Any, tmp_path: Path
) -> Callable[..., Evolution]:
    """`evolution_of(**fields)`: a small session whose pool is there already."""
    settings.RUNS_DIR = tmp_path / "runs"
    settings.SCORES_DIR = tmp_path / "scores"

    def make(pooled: bool = True, **fields: Any) -> Evolution:
        usual = {
            **{"name": "Kind answers", "task": "Answers that are kind and brief.", "arms": 4},
            **{"chosen_prompts": 4, "spare_prompts": 3, "hidden_prompts": 6, "pool_size": 8},
            **{"fresh_prompts": 0, "matching": "never"},
            **{"generations_wanted": 2, "policy": policy, "prompt_set": prompt_set},
        }
        made = Evolution.objects.create(project=project, **{**usual, **fields})
        if pooled:
            fill_pool(made)
        return made

    return make


def answer(rng: random.Random) -> str:
    return " ".join(rng.sample(PARTS, rng.randint(1, 5)))


def fill_pool(evolution: Evolution) -> None:
    """Draw the panel, and store answers as a finished sampling job would."""
    panel.draw(evolution)
    spec = jobs.SampleJob(engine_url="http://engine", model="base", n=evolution.pool_size)
    job = Job.objects.create(
        project=evolution.project, kind="sample", queue="cpu", title="pool", state="succeeded",
        spec=jobs.to_json(spec), result={},
    )  # fmt: skip
    Generation.objects.create(evolution=evolution, number=1, stage="write")
    EvolutionJob.objects.create(evolution=evolution, purpose=panel.POOL, job=job)
    for one in evolution.panel.exclude(role="fresh").select_related("prompt"):
        rng = random.Random(one.prompt.digest)
        for draw in range(evolution.pool_size):
            text = answer(rng)
            Completion.objects.create(
                prompt=one.prompt, policy=evolution.policy, text=text, batch=job.pk, draw=draw,
                token_ids=list(range(len(text.split()))), finish_reason="stop",
            )  # fmt: skip


@pytest.fixture
def rater(project: Project) -> User:
    user = User.objects.create_user(username="clara")
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def likes(text: str) -> float:
    """A hidden taste: polite and brief."""
    return 2.0 * ("Thank you" in text) - 0.05 * len(text.split()) - 1.0 * ("Perhaps" in text)


def rank_everything(user: User, evolution: Evolution, taste: Any = likes, **said: Any) -> int:
    """Rank by a taste, through the same queue as people; how many ballots were cast."""
    latest = evolution.generations.order_by("-number").first()
    campaigns = [evolution.hidden_campaign, latest.campaign if latest else None]
    campaigns += Campaign.objects.filter(confirms__program__generation__evolution=evolution)
    count = 0
    for campaign in campaigns:
        while campaign is not None and (ballot := queue.claim_next(user, campaign)) is not None:
            values = {
                slot.slot: taste(slot.completion.text) for slot in ballot.comparison.slots.all()
            }
            ranking = [
                [slot for slot, value in values.items() if value == level]
                for level in sorted(set(values.values()), reverse=True)
            ]
            queue.cast(ballot, queue.Verdict("ranked", ranking=ranking, **said), uuid.uuid4())
            count += 1
    return count


def run(evolution: Evolution, user: User | None = None, until: str = "") -> Evolution:
    """Tick, work and rank until the session is over, waits for somebody, or is at a stage."""
    for _ in range(80):
        advance.tick()
        worked = run_jobs()
        evolution.refresh_from_db()
        latest = evolution.generations.order_by("-number").first()
        if evolution.over or (until and latest is not None and latest.stage == until):
            return evolution
        ranked = rank_everything(user, evolution) if user is not None else 0
        waits = latest is not None and latest.stage == "rank"
        if user is None and not worked and not ranked and waits:
            return evolution
    raise AssertionError(f"the session goes in circles: {latest} {latest and latest.stage}")


def programs(evolution: Evolution) -> list[tuple[int, int, int, str, str]]:
    """What a session wrote, without what differs from run to run."""
    found = [
        (one.generation.number, one.arm, one.attempt, one.sha256, one.status)
        for generation in evolution.generations.all()
        for one in generation.programs.select_related("generation")
    ]
    return sorted(found)
