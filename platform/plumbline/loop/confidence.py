"""Confidence-aware votes (C2RM): a policy says how sure it is, and what is right and sure wins.

A set of prompts is asked anew with a line that wants the confidence; those prompts are a set of
their own, so that what is learned of stated confidence is learned where it was asked for. Whether
an answer is right, an imported answer to the same question says, or people's ratings do. The pairs
stand in a closed campaign as ballots of an AI account, with the strategy "confidence": an
experiment on that set that takes the votes there are learns from them as from any.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from align import confidence, jobs
from align.confidence import Stated
from plumbline.accounts.models import Membership, Project, Role, User
from plumbline.collect.models import (
    Ballot,
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.fleet import dispatch
from plumbline.fleet.models import Job
from plumbline.judges import factored
from plumbline.loop import rows
from plumbline.policies import serving
from plumbline.policies.models import Policy

ASKED = "confidence.jsonl"  # one row: who was asked, and what says what is right
SURE = 0.95  # P(better) of a right and confident answer; no pair says how much
TITLE = "Confidence of "
BALLOTS = uuid.UUID("f5d8a55a-63cf-5d53-8f3e-64f4fbb6a9a5")
RATED = "rating:"


@dataclass(frozen=True)
class Made:
    """campaign: None where no question gave a pair. untold: answers of which nobody says whether
    they are right; classes: how many answers each has."""

    campaign: Campaign | None
    pairs: int
    new: int
    untold: int
    classes: Mapping[str, int]


def begin(
    policy: Policy, source: PromptSet, truth: str, *, n: int = 5, limit: int = 200, seed: int = 0
) -> Job:
    """The job that asks a policy `n` times about up to `limit` of a set's training prompts.

    `truth` is the origin of imported answers that are right, or "rating:NAME" for people's ratings
    of at least a half. Raises ValueError for a set without prompts, and where fewer than two
    answers are asked for.
    """
    if n < 2:
        raise ValueError("Ask for two answers or more: one is right always or never.")
    train = source.prompts.filter(split=Prompt.Split.TRAIN).order_by("pk")
    if truth and not truth.startswith(RATED):
        train = train.filter(completions__policy=None, completions__origin=truth).distinct()
    prompts = _asking(source, list(train[:limit]))
    if not prompts:
        raise ValueError("None of these prompts can be asked: nothing says what is right of them.")
    serving.ensure_loaded(policy)
    spec = jobs.SampleJob(
        engine_url=settings.ENGINE_URL,
        model=serving.engine_name(policy),
        n=n,
        max_tokens=min(256, settings.MAX_MODEL_LEN // 2),
        seed=seed,
    )
    told = {"policy": str(policy.pk), "source": source.pk, "truth": truth}
    files: dict[str, Any] = {jobs.PROMPTS: rows.prompt_rows(prompts), ASKED: [told]}
    return dispatch.submit(source.project, spec, f"{TITLE}{policy.name}", files)


def asked(project: Project) -> list[Job]:
    """The project's jobs of this kind, the newest first."""
    found = Job.objects.filter(project=project, kind="sample", title__startswith=TITLE)
    return list(found.order_by("-created_at")[:20])


@transaction.atomic
def gather(job: Job) -> Made:
    """Keep a finished job's answers and make its pairs; again, once more is known of what is right.

    What is there is not made twice. Raises ValueError for a job that has not succeeded.
    """
    if job.state != Job.State.SUCCEEDED:
        raise ValueError(f"{job.title} has not succeeded; there are no answers yet.")
    told = json.loads((job.folder / ASKED).read_text())
    policy = Policy.objects.get(project=job.project, pk=told["policy"])
    source = PromptSet.objects.get(project=job.project, pk=told["source"])
    asked_rows = jobs.read_rows(job.folder / jobs.PROMPTS)
    rows.import_completions(job, policy, {int(row["id"]) for row in asked_rows})
    answers = list(
        Completion.objects.filter(batch=job.pk).select_related("prompt").order_by("prompt", "draw")
    )
    right = _right(answers, source, told["truth"])
    by_prompt: dict[int, list[Stated]] = {}
    for one in answers:
        if (is_right := right.get(one.pk)) is not None:
            sure = confidence.read(one.text)[1]
            said = Stated(str(one.pk), is_right, sure, policy.name)
            by_prompt.setdefault(one.prompt_id, []).append(said)
    pairs = {
        prompt: found
        for prompt, some in by_prompt.items()
        if (found := confidence.pairs(some, f"{job.pk}:{prompt}"))
    }
    everything = [one for some in by_prompt.values() for one in some]
    classes = confidence.shares(everything)
    untold = len(answers) - len(everything)
    if not pairs:
        return Made(None, 0, 0, untold, classes)
    campaign, _ = Campaign.objects.get_or_create(
        project=job.project,
        name=f"{TITLE}{policy.name} {str(job.pk)[:8]}"[:120],
        defaults={"closed_at": timezone.now()},
    )
    stated = {one.id: one for one in everything}
    voter, total, new = _voter(job.project), 0, 0
    for prompt, found in pairs.items():
        for chosen, rejected, name in found:
            total += 1
            new += _vote(campaign, voter, prompt, stated[chosen], stated[rejected], name)
    return Made(campaign, total, new, untold, classes)


def _asking(source: PromptSet, prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts with the line that wants the confidence, in the set that holds such."""
    made, _ = PromptSet.objects.get_or_create(
        project=source.project,
        name=f"{source.name[:60]}, with confidence",
        defaults={"source": f"{source.name}, asked how sure", "licence": source.licence},
    )
    found = []
    for prompt in prompts:
        messages = confidence.asked(prompt.messages)
        digest = hashlib.sha256(f"confidence:{prompt.digest}".encode()).hexdigest()
        there, _ = Prompt.objects.get_or_create(
            set=made, digest=digest, defaults={"messages": messages}
        )
        found.append(there)
    return found


def _right(answers: Iterable[Completion], source: PromptSet, truth: str) -> dict[uuid.UUID, bool]:
    """Of each answer whether it is right, as far as that is known."""
    answers = list(answers)
    if truth.startswith(RATED):
        rated = factored.ratings([one.pk for one in answers], [truth])
        return {answer: given[truth] >= 0.5 for answer, given in rated.items()}
    known = Completion.objects.filter(prompt__set=source, policy=None, origin=truth)
    references: dict[str, list[str]] = {}
    for digest, text in known.values_list("prompt__digest", "text"):
        key = hashlib.sha256(f"confidence:{digest}".encode()).hexdigest()
        references.setdefault(key, []).append(text)
    return {
        one.pk: any(
            confidence.right(confidence.read(one.text)[0], reference)
            for reference in references[one.prompt.digest]
        )
        for one in answers
        if one.prompt.digest in references
    }


def _vote(
    campaign: Campaign, voter: User, prompt: int, chosen: Stated, rejected: Stated, name: str
) -> bool:
    """A comparison with its ballot, unless it is there; the answer that is better is in a slot that
    its id decides, so that no side is always the better one."""
    key = uuid.uuid5(BALLOTS, f"{campaign.pk}:{chosen.id}:{rejected.id}")
    if Ballot.objects.filter(idempotency_key=key).exists():
        return False
    order = (chosen, rejected) if key.int % 2 else (rejected, chosen)
    comparison = Comparison.objects.create(
        campaign=campaign,
        prompt_id=prompt,
        strategy="confidence",
        full=True,
        why={
            "chosen": confidence.TRUE_SURE,
            "rejected": name,
            "confidence": [chosen.confidence, rejected.confidence],
        },
    )
    for slot, one in enumerate(order):
        Candidate.objects.create(comparison=comparison, completion_id=cast(Any, one.id), slot=slot)
    now, best = timezone.now(), order.index(chosen)
    Ballot.objects.create(
        comparison=comparison,
        annotator=voter,
        seat=0,
        shown=[0, 1],
        claimed_at=now,
        expires_at=now + timedelta(seconds=1),
        cast_at=now,
        outcome=Ballot.Outcome.RANKED,
        ranking=[[best], [1 - best]],
        probability=SURE if best == 0 else 1 - SURE,
        idempotency_key=key,
    )
    return True


def _voter(project: Project) -> User:
    """Who casts these ballots: a member whom nobody can sign in as."""
    voter, new = User.objects.get_or_create(
        username=f"confidence-{project.slug[:100]}",
        defaults={"kind": User.Kind.AI, "is_active": False, "first_name": "Stated confidence"},
    )
    if new:
        voter.set_unusable_password()
        voter.save()
        Membership.objects.create(project=project, user=voter, role=Role.ANNOTATOR)
    return voter
