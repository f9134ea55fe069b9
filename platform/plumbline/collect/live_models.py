"""The sides of a live comparison until somebody has judged it; then `collect.live` keeps them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.policies.models import Policy


class LiveAnswer(models.Model):
    """A side of a live comparison while a policy writes it; the gateway does that, under `writer`.
    What a person could have seen of it is in `text`, always."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Writing"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        KEPT = "kept", "Kept"  # a completion holds it, as far as it was seen

    comparison = models.ForeignKey(
        "collect.Comparison", models.CASCADE, related_name="live_answers"
    )
    slot = models.PositiveSmallIntegerField()
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    sampling = models.JSONField()
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    attempt = models.PositiveSmallIntegerField(default=1)
    writer = models.UUIDField(null=True)
    text = models.TextField(blank=True)
    token_ids = models.JSONField(null=True)
    finish_reason = models.CharField(max_length=12, blank=True)
    trouble = models.CharField(max_length=12, blank=True)  # of collect.live.answers.TROUBLES
    grown_at = models.DateTimeField(auto_now_add=True)  # asked for, begun, or last longer
    beat_at = models.DateTimeField(null=True)  # its writer was there

    class Meta:
        ordering = ["slot"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "slot"], name="one_live_answer_a_slot")
        ]
        indexes = [
            models.Index(
                fields=["state"], condition=Q(state__in=["waiting", "writing"]), name="live_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.comparison_id}[{self.slot}]: {self.state}"

    @property
    def upto(self) -> int:
        """How much of it there is to see: code points, and one more when it has ended."""
        return len(self.text) + (self.state == self.State.DONE)
