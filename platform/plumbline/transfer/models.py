"""Where imported data came from. A failed import leaves nothing."""

from __future__ import annotations

from django.db import models

from plumbline.collect.models import Comparison, PromptSet


class Import(models.Model):
    """One row a finished import."""

    set = models.ForeignKey(PromptSet, models.CASCADE, related_name="imports")
    format = models.CharField(max_length=40)
    filename = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)  # of the lines that were read
    rows = models.PositiveIntegerField()
    prompts = models.PositiveIntegerField()  # how many were new, here and below
    completions = models.PositiveIntegerField()
    ballots = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["set", "format", "sha256"], name="one_import_a_file")
        ]

    def __str__(self) -> str:
        return f"{self.filename} into {self.set}"


class ImportedComparison(models.Model):
    """A comparison by its identity in the source, so that the votes on it find each other."""

    key = models.UUIDField(primary_key=True)  # made from the set, the source's name and the answers
    comparison = models.OneToOneField(Comparison, models.CASCADE, related_name="imported")

    def __str__(self) -> str:
        return f"{self.comparison} as {self.key}"
