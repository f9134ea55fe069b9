"""A small experiment on the demo base, and a way to run its jobs here and now.

Jobs are real: the same claim, child process and run directory a worker uses, without the queue's
message in between.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from align.demo import prompts, raters
from align.demo.raters import Vote
from plumbline.accounts.models import Membership, Project, User
from plumbline.collect import queue
from plumbline.collect.models import Prompt, PromptSet
from plumbline.fleet import claims
from plumbline.fleet.supervise import supervise
from plumbline.loop import advance
from plumbline.loop.models import Experiment, Round
from plumbline.policies import serving

SMALL = {"learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4, "checkpoint_every": 1}


@pytest.fixture
def prompt_set(project: Project) -> PromptSet:
    found = PromptSet.objects.create(project=project, name="Questions")
    for split in ("train", "heldout"):
        for text in prompts.texts(split)[:12]:
            Prompt.objects.create(
                set=found,
                split=split,
                messages=[{"role": "user", "content": text}],
                digest=hashlib.sha256(text.encode()).hexdigest(),
            )
    return found


@pytest.fixture
def experiment_of(
    project: Project, prompt_set: PromptSet, settings: Any, tmp_path: Path
) -> Callable[..., Experiment]:
    """`experiment_of(**settings)`: an experiment of tiny rounds from the base policy."""
    settings.RUNS_DIR = tmp_path / "runs"

    def make(**fields: Any) -> Experiment:
        defaults = {
            "name": "Try",
            "algorithm": "dpo",
            "start": serving.base_policy(project),
            "prompt_set": prompt_set,
            "rounds_wanted": 1,
            "prompts_per_round": 10,
            "samples_per_prompt": 2,
            "heldout_prompts": 6,
            "max_tokens": 24,
            "weights": {"mode": "lora", "rank": 4, "alpha": 8},
            "optimiser": SMALL,
            "reward_optimiser": SMALL,
            "reward_folds": 0,  # they take three times as long
            "gate_win_rate": -1.0,  # such small rounds learn nothing: let every one pass
            "autopilot": True,
            "probe_phrases": 0,  # they take as long as a round's other jobs
        }
        return Experiment.objects.create(project=project, **{**defaults, **fields})

    return make


@pytest.fixture
def rater(project: Project) -> User:
    user = User.objects.create_user(username="clara", kind=User.Kind.SIMULATED)
    Membership.objects.create(project=project, user=user, role="annotator")
    return user


def vote_on_everything(user: User, campaign: Any) -> int:
    """Vote like a person, through the same queue; how many ballots were cast."""
    count = 0
    while (ballot := queue.claim_next(user, campaign)) is not None:
        slots = [slot.completion.text for slot in ballot.comparison.slots.all()]
        rng = random.Random(f"{ballot.comparison.prompt.digest}:{slots}")  # ids differ by database
        vote: Vote = raters.PANEL[0].vote(ballot.comparison.prompt.messages, slots, rng)
        outcome = "ranked" if vote.verdict == "ok" else "all_bad"
        verdict = queue.Verdict(outcome, ranking=vote.ranking, strength=vote.strength)
        queue.cast(ballot, verdict, uuid4())
        count += 1
    return count


def run_jobs() -> int:
    """Do every job that is due, as a worker would."""
    count = 0
    for name in ("cpu", "gpu"):
        while (job := claims.claim(name, "here")) is not None:
            supervise(job, lambda: False)
            count += 1
    return count


def run_round(round: Round, user: User | None) -> Round:
    """Tick, work and vote until the round is over or waits for somebody."""
    for _ in range(40):
        before = round.stage
        advance.tick()
        worked = run_jobs()
        round.refresh_from_db()
        voted = 0
        for campaign in (round.campaign, round.evaluation_campaign):
            if user is not None and campaign is not None and campaign.closed_at is None:
                voted += vote_on_everything(user, campaign)
        if round.error and not round.over:
            time.sleep(1)  # a busy engine; the loop would look again just like this
        elif round.over or (round.stage == before and not worked and not voted):
            return round
    raise AssertionError(f"the round is going in circles at {round.stage}: {round.error}")
