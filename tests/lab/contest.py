"""Policies that met: held-out answers with reward models' scores, people's and judges' votes."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison, Completion
from plumbline.judges.models import Score
from plumbline.loop.models import Stage
from plumbline.policies.models import RewardModel
from tests.lab import laboratory as lab


def reward_model(project, name: str = "alpha-reward", **fields) -> RewardModel:
    settings = {"objective": "bradley_terry", "path": "/r", "sha256": "ef" * 32, "ballots_used": 64}
    return RewardModel.objects.create(project=project, name=name, **{**settings, **fields})


def answer(prompt, policy, text: str) -> Completion:
    return Completion.objects.create(
        prompt=prompt, policy=policy, text=text, token_ids=[1, 2], finish_reason="stop"
    )


def score(completion, model, value: float, members=()) -> Score:
    spread = max(members) - min(members) if members else None
    return Score.objects.create(
        completion=completion, reward_model=model, value=value, members=list(members),
        spread=spread,
    )  # fmt: skip


def vote(
    first, second, ranking, *, campaign=None, by=None, kind="person", probability=None, **fields
):
    """A standing vote on two answers: [[0], [1]] prefers the first."""
    prompt = first.prompt
    if campaign is None:
        campaign, _ = Campaign.objects.get_or_create(
            project=prompt.set.project, name="Face-offs", purpose="evaluate"
        )
    comparison = Comparison.objects.create(campaign=campaign, prompt=prompt, **fields)
    for slot, completion in enumerate((first, second)):
        Candidate.objects.create(comparison=comparison, completion=completion, slot=slot)
    now = timezone.now()
    by = by or User.objects.create_user(username=f"voter-{uuid4().hex[:8]}", kind=kind)
    Ballot.objects.create(
        comparison=comparison, annotator=by, seat=0, shown=[0, 1], claimed_at=now,
        expires_at=now + timedelta(minutes=5), cast_at=now, outcome="ranked", ranking=ranking,
        probability=probability,
    )  # fmt: skip
    return comparison


def ladder(project, rungs: int = 4, prompts: int = 24):
    """An experiment whose rounds gain less and less for more and more KL: (base, policies, model).

    On each held-out prompt the reward model scores a policy by its rung, with a wobble by prompt;
    people prefer higher rungs to the base on most prompts.
    """
    base = lab.policy(project)
    experiment = lab.experiment(
        project, name="Ladder", start=base, gate_kl=30.0,
        prompt_set=lab.prompt_set(project, train=2, heldout=prompts, name="Ladder's prompts"),
    )  # fmt: skip
    held = list(experiment.prompt_set.prompts.filter(split="heldout").order_by("pk"))
    model = reward_model(project, temperature=2.0)
    first = {one.pk: answer(one, base, f"Plain {one.pk}") for one in held}
    for place, one in enumerate(held):
        score(first[one.pk], model, 0.0, (0.1 * (place % 3), 0.0))
    made = []
    for rung in range(1, rungs + 1):
        policy = lab.policy(project, f"alpha-rung-{rung}", parent=base)
        round = lab.round_at(experiment, Stage.DONE, policy_out=policy, reward_model=model)
        lab.evaluation(round, "current", base, kl=float(4 * rung * rung))
        for place, one in enumerate(held):
            mine = answer(one, policy, f"Rung {rung} of {one.pk}, and longer" + "!" * place)
            score(mine, model, rung * 0.5 + 0.3 * (place % 5 - 2), (rung * 0.1, 0.0))
            better = place % 6 >= 3 - min(rung, 2)
            vote(mine, first[one.pk], [[0], [1]] if better else [[1], [0]])
        made.append(policy)
    return base, made, model
