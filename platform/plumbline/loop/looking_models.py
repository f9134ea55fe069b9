"""What researchers ask of answers they look at: rewards by token, and whether people agree."""

from __future__ import annotations

from django.db import models

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Campaign, Completion, PromptSet
from plumbline.fleet.models import Job
from plumbline.policies.models import Policy, RewardModel


class TokenRewards(models.Model):
    """An answer under the policy that wrote it and under another, by token; nats. The implicit
    reward of a token is beta times the difference."""

    completion = models.ForeignKey(Completion, models.CASCADE, related_name="token_rewards")
    reference = models.ForeignKey(Policy, models.CASCADE, related_name="+")
    pieces = models.JSONField()  # each token's text
    logps = models.JSONField()  # of its own policy, as many
    reference_logps = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["completion", "reference"], name="one_token_rewards_a_reference"
            )
        ]

    def __str__(self) -> str:
        return f"{self.completion_id} by token"


class Inspection(models.Model):
    """A job that reads answers by token, and scores them, because somebody looks at them."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="inspections")
    job = models.OneToOneField(Job, models.CASCADE, related_name="inspection")
    reference = models.ForeignKey(Policy, models.CASCADE, related_name="+")
    reward_model = models.ForeignKey(RewardModel, models.CASCADE, null=True, related_name="+")
    answers = models.PositiveIntegerField()
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    taken_at = models.DateTimeField(null=True)  # its results, into rows; or seen that it failed
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.answers} answers by token"


class SpotCheck(models.Model):
    """A campaign in which people judge blind a sample of two policies' answers: slot 0 is
    `policy`'s, slot 1 `against`'s. `reward_model` is the one whose word is put to the test."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="spot_checks")
    campaign = models.OneToOneField(Campaign, models.CASCADE, related_name="spot_check")
    prompt_set = models.ForeignKey(PromptSet, models.CASCADE, related_name="+")
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    against = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    reward_model = models.ForeignKey(RewardModel, models.SET_NULL, null=True, related_name="+")
    drawn_from = models.CharField(max_length=200)  # in words
    of = models.PositiveIntegerField()  # as many pairs, all of them
    asked_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(policy=models.F("against")), name="check_of_two_policies"
            )
        ]

    def __str__(self) -> str:
        return f"{self.policy} against {self.against}, blind"
