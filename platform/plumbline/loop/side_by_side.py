"""The same held-out prompts answered by several policies: which answers, in which order.

Of each policy the newest answer to a prompt counts. Scores are one reward model's; those of
another are never read beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from plumbline.accounts.models import Project
from plumbline.collect.models import Completion, Prompt, PromptSet
from plumbline.judges.models import Score
from plumbline.policies.models import Policy, RewardModel

MOST = 4  # policies beside each other
ORDERS = {
    "prompt": "The prompts' own order",
    "gain": "Most gained first",
    "loss": "Most lost first",
}
SHOWN = {
    "all": "All",
    "gained": "Gained",
    "lost": "Lost",
    "even": "Even",
}


@dataclass(frozen=True)
class Table:
    """Answers by (prompt, policy) as completion ids, their scores, and the policies in order; the
    first one is what others are compared with."""

    policies: Sequence[Policy]
    answers: Mapping[tuple[int, UUID], UUID]
    scores: Mapping[UUID, float]

    def score(self, prompt: int, policy: Policy) -> float | None:
        answer = self.answers.get((prompt, policy.pk))
        return None if answer is None else self.scores.get(answer)

    def gain(self, prompt: int) -> float | None:
        """The second policy's score less the first one's; None where one is missing."""
        if len(self.policies) < 2:
            return None
        first, second = (self.score(prompt, policy) for policy in self.policies[:2])
        return None if first is None or second is None else second - first

    def mean_score(self, policy: Policy) -> float | None:
        found = [
            value
            for (_, of), answer in self.answers.items()
            if of == policy.pk and (value := self.scores.get(answer)) is not None
        ]
        return fmean(found) if found else None

    def count(self, policy: Policy) -> int:
        return sum(of == policy.pk for _, of in self.answers)


def written(project: Project, prompts: PromptSet) -> QuerySet[Completion]:
    """Answers of the project's policies to a set's held-out prompts."""
    return Completion.objects.filter(
        prompt__set=prompts, prompt__split=Prompt.Split.HELDOUT, policy__project=project
    )


def authors(project: Project, prompts: PromptSet) -> list[Policy]:
    """Policies that have answered held-out prompts of the set, the newest first."""
    ids = written(project, prompts).order_by().values("policy").distinct()
    return list(
        Policy.objects.filter(pk__in=ids)
        .select_related("made_by__experiment")
        .order_by("-created_at", "-pk")
    )


def scorers(project: Project, prompts: PromptSet) -> list[RewardModel]:
    """The project's reward models, the newest first; those that know such answers before others."""
    ids = set(
        Score.objects.filter(completion__in=written(project, prompts))
        .order_by()
        .values_list("reward_model", flat=True)
        .distinct()
    )
    models = RewardModel.objects.filter(project=project).order_by("-created_at", "-pk")
    return sorted(models, key=lambda one: one.pk not in ids)


def table(
    project: Project, prompts: PromptSet, policies: Sequence[Policy], model: RewardModel | None
) -> Table:
    found = written(project, prompts).filter(policy__in=policies)
    newest = found.order_by("created_at", "-draw", "pk").values_list("prompt", "policy", "pk")
    answers = {(prompt, policy): pk for prompt, policy, pk in newest if policy is not None}
    scores: dict[UUID, float] = {}
    if model is not None:
        kept = set(answers.values())
        known = Score.objects.filter(reward_model=model, completion__in=found).order_by()
        told = known.values_list("completion", "value")
        scores = {answer: value for answer, value in told if answer in kept}
    return Table(policies, answers, scores)


def chosen(prompts: PromptSet, table: Table, order: str, shown: str, words: str) -> list[int]:
    """Ids of the prompts to show, in order: answered by one of the policies, with all of `words`
    in them, and where the second policy gained or lost as `shown` says. Prompts without a gain
    come last where gains decide."""
    answered = {prompt for prompt, _ in table.answers}
    held = prompts.prompts.filter(split=Prompt.Split.HELDOUT).order_by("pk")
    if words.strip():
        found = [
            pk
            for pk, messages in held.values_list("pk", "messages")
            if pk in answered and says(messages, words)
        ]
    else:
        found = [pk for pk in held.values_list("pk", flat=True) if pk in answered]
    gains = {pk: table.gain(pk) for pk in found}
    if shown in ("gained", "lost", "even"):
        found = [pk for pk in found if _is(gains[pk], shown)]
    if order in ("gain", "loss"):
        sign = -1.0 if order == "gain" else 1.0
        known = [pk for pk in found if gains[pk] is not None]
        known.sort(key=lambda pk: sign * (gains[pk] or 0.0))
        found = [*known, *(pk for pk in found if gains[pk] is None)]
    return found


def says(messages: Sequence[Mapping[str, Any]], words: str) -> bool:
    """Whether each of the words stands somewhere in the conversation, whatever its case."""
    text = " ".join(str(message["content"]) for message in messages).casefold()
    return all(word in text for word in words.casefold().split())


def _is(gain: float | None, shown: str) -> bool:
    if gain is None:
        return False
    return {"gained": gain > 0, "lost": gain < 0, "even": gain == 0}[shown]
