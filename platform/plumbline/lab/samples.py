"""The same held-out prompts answered before the round and after it, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.paginator import Page, Paginator

from plumbline.collect.models import Completion, Prompt
from plumbline.judges.models import Score
from plumbline.loop.models import Round, RoundJob
from plumbline.policies.models import Policy

A_PAGE = 5
ANSWERS = "answers:"  # purposes of the jobs that draw held-out answers


@dataclass(frozen=True)
class Answer:
    completion: Completion
    tokens: int | None
    score: float | None  # the round's reward model's


@dataclass(frozen=True)
class Sample:
    prompt: Prompt
    before: Answer | None
    after: Answer | None


@dataclass(frozen=True)
class Samples:
    """A page of samples and whose answers they are."""

    before: Policy
    after: Policy
    page: Page[Prompt]
    rows: list[Sample]


def samples(round: Round, asked: list[RoundJob], page: str | None) -> Samples | None:
    """A page of held-out prompts with both answers; None before the candidate has answered.

    "Before" is the policy the round started from, or what was deployed when that one was not
    sampled in the evaluation.
    """
    after = round.policy_out
    batches = [one.job_id for one in asked if one.purpose.startswith(ANSWERS)]
    if after is None or not batches:
        return None
    answered = Completion.objects.filter(batch__in=batches)
    prompts = Prompt.objects.filter(completions__in=answered.filter(policy=after))
    chosen = Paginator(prompts.order_by("pk").distinct(), A_PAGE).get_page(page)
    if not chosen.paginator.count:
        return None
    before = _before(round, [one.purpose for one in asked])
    found = {
        (answer.prompt_id, answer.policy_id): answer
        for answer in answered.filter(prompt__in=chosen.object_list, policy__in=(before, after))
    }
    scores = {
        score.completion_id: score.value
        for score in Score.objects.filter(
            completion__in=found.values(), reward_model=round.reward_model
        )
    }

    def answer(prompt: Prompt, policy: Policy) -> Answer | None:
        one = found.get((prompt.pk, policy.pk))
        if one is None:
            return None
        tokens = len(one.token_ids) if one.token_ids is not None else None
        return Answer(one, tokens, scores.get(one.pk))

    rows = [Sample(p, answer(p, before), answer(p, after)) for p in chosen.object_list]
    return Samples(before, after, chosen, rows)


def _before(round: Round, purposes: list[str]) -> Policy:
    current = round.opponents.get("current")
    if f"{ANSWERS}{round.policy_in.pk.hex}" in purposes or not current:
        return round.policy_in
    return Policy.objects.get(pk=current, project=round.experiment.project_id)
