"""Where imported data came from, and files on their way in. A failed import leaves nothing."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models import Q

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt, PromptSet


class Import(models.Model):
    """One row a finished import. `says_*` is everything its rows hold, made by it or known before:
    undoing it takes back what no other import says and nothing else uses."""

    set = models.ForeignKey(PromptSet, models.CASCADE, related_name="imports")
    format = models.CharField(max_length=40)
    filename = models.CharField(max_length=255)
    campaign = models.CharField(max_length=120, blank=True)  # its votes' campaign, if one was named
    sha256 = models.CharField(max_length=64)  # of the lines that were read
    source = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=80, blank=True)
    rows = models.PositiveIntegerField()
    left_out = models.PositiveIntegerField(default=0)  # bad rows, where a person chose so
    prompts = models.PositiveIntegerField()  # how many were new, here and below
    completions = models.PositiveIntegerField()
    ballots = models.PositiveIntegerField()
    says_prompts = models.ManyToManyField(Prompt, related_name="imports")
    says_completions = models.ManyToManyField(Completion, related_name="imports")
    says_ballots = models.ManyToManyField(Ballot, related_name="imports")
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


class Upload(models.Model):
    """A file that a researcher gave to a page, from the first look at it to its import's undoing.

    Whatever is long is done by a process of its own (`bringing.py`): what the row says is what is
    to be done, so that process may be killed anywhere and started again. `turn` grows with every
    word of a person; a process that began in an earlier turn changes nothing.
    """

    class State(models.TextChoices):
        CHECKING = "checking", "Being read"
        CHECKED = "checked", "Waiting for you"
        WRITING = "writing", "Being imported"
        DONE = "done", "Imported"
        UNDOING = "undoing", "Being undone"
        UNDONE = "undone", "Undone"
        FAILED = "failed", "Failed"

    BUSY = (State.CHECKING, State.WRITING, State.UNDOING)
    OPEN = (State.CHECKING, State.CHECKED, State.FAILED)  # may be dropped: nothing is imported

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, models.CASCADE, related_name="uploads")
    author = models.ForeignKey(User, models.PROTECT, related_name="+")
    filename = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField()  # bytes, as it was sent
    format = models.CharField(max_length=40, blank=True)  # "": to be found out
    guess = models.JSONField(default=dict)  # fields of detecting.Guess
    set_name = models.CharField(max_length=80)
    campaign = models.CharField(max_length=120, blank=True)  # "": named after the set
    heldout = models.FloatField(default=0.1)
    source = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=80, blank=True)
    leave_out = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.CHECKING)
    turn = models.PositiveIntegerField(default=1)
    attempts = models.PositiveSmallIntegerField(default=0)  # in this turn
    report = models.JSONField(default=dict)  # what the check found: see bringing.py
    error = models.TextField(blank=True)
    made = models.ForeignKey(Import, models.SET_NULL, null=True, related_name="uploads")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(
                fields=["changed_at"],
                condition=Q(state__in=["checking", "writing", "undoing"]),
                name="uploads_to_be_worked_on",
            )
        ]

    def __str__(self) -> str:
        return f"{self.filename} ({self.state})"

    @property
    def path(self) -> Path:
        return Path(settings.UPLOADS_DIR) / str(self.pk)

    @property
    def busy(self) -> bool:
        return self.state in self.BUSY

    @property
    def open(self) -> bool:
        return self.state in self.OPEN
