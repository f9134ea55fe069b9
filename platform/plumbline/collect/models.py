"""What is compared, and what people said of it. Ballots are append-only: a change is a revision."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.utils.functional import cached_property

from align import jobs
from plumbline.accounts.models import Invitation, Project, User
from plumbline.compiled import Compiled, given_id
from plumbline.policies.models import Policy


def compare_only() -> list[str]:
    return ["compare"]


class PromptSet(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="prompt_sets")
    name = models.CharField(max_length=80)
    source = models.CharField(max_length=200, blank=True)
    licence = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_set_name")]

    def __str__(self) -> str:
        return self.name


class Prompt(models.Model):
    class Split(models.TextChoices):
        TRAIN = "train", "Training"
        HELDOUT = "heldout", "Held out"

    set = models.ForeignKey(PromptSet, models.CASCADE, related_name="prompts")
    messages = models.JSONField()
    split = models.CharField(max_length=7, choices=Split, default=Split.TRAIN)
    digest = models.CharField(max_length=64)  # SHA-256 of the canonical messages

    class Meta:
        constraints = [models.UniqueConstraint(fields=["set", "digest"], name="one_prompt_a_set")]
        indexes = [models.Index(fields=["set", "split"])]

    def __str__(self) -> str:
        return str(self.messages[-1]["content"])[:80]


class Completion(models.Model):
    """An answer. `policy` is None for imported text, whose writer `origin` names."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="completions")
    policy = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="completions")
    origin = models.CharField(max_length=120, blank=True)
    text = models.TextField()
    token_ids = models.JSONField(null=True)
    # stop, length, cut (a person had seen enough of a live answer); "" when imported
    finish_reason = models.CharField(max_length=12, blank=True)
    sampling = models.JSONField(default=dict)
    batch = models.UUIDField(null=True)  # the sampling job
    draw = models.PositiveIntegerField(default=0)  # 0..n-1 within the prompt and the batch
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["batch", "prompt", "draw"], name="one_completion_a_draw"
            )
        ]
        indexes = [models.Index(fields=["prompt", "policy"])]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def cut_off(self) -> bool:
        """Whether its writer would have gone on: nothing is learned of how it ends."""
        return self.finish_reason in jobs.CUT_OFF


class Campaign(models.Model):
    class Purpose(models.TextChoices):
        TRAIN = "train", "Training data"
        EVALUATE = "evaluate", "Evaluation"

    project = models.ForeignKey(Project, models.CASCADE, related_name="campaigns")
    name = models.CharField(max_length=120)
    guidelines = models.TextField(blank=True)  # markdown
    purpose = models.CharField(max_length=8, choices=Purpose, default=Purpose.TRAIN)
    # What people are asked for at once, of collect.asking.ASKS.
    asks = models.JSONField(default=compare_only)
    criteria = models.JSONField(default=list)  # fields of collect.asking.Criterion each
    reasons = models.JSONField(default=list)  # short ones to choose from, beside the words
    warning = models.CharField(max_length=200, blank=True)  # of content; texts are blurred first
    examples = models.JSONField(default=list)  # beside the guidelines: prompt, better, worse, why
    word_counts = models.BooleanField(default=False)  # shown with each answer; length biases
    review = models.BooleanField(default=False)  # people see what they said before it is saved
    training_pass = models.PositiveSmallIntegerField(default=80)  # % right, to pass the training
    live = models.JSONField(default=dict)  # fields of collect.live.settings.Live; {}: not live
    settings_version = models.PositiveIntegerField(default=1)  # stamped on each ballot
    overlap = models.PositiveSmallIntegerField(default=1)  # people wanted a comparison
    overlap_applied = models.PositiveSmallIntegerField(null=True)  # the one `full` was set by
    lease_seconds = models.PositiveIntegerField(default=900)
    stale_days = models.PositiveIntegerField(default=0)  # comparisons are asked for; 0: for good
    quality = models.JSONField(default=dict)  # fields of collect.quality.settings.Quality
    hourly_rate = models.DecimalField(max_digits=8, decimal_places=2, null=True, blank=True)
    invited_only = models.BooleanField(default=False)  # else every member of the project may answer
    deadline = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_campaign_name"),
            models.CheckConstraint(condition=Q(overlap__gte=1), name="overlap_at_least_one"),
            models.CheckConstraint(condition=Q(training_pass__lte=100), name="pass_in_percent"),
        ]

    def __str__(self) -> str:
        return self.name


class CampaignVersion(models.Model):
    """A campaign's guidelines and settings as they were; what a ballot's `settings_version` means.
    Written whenever one of them changes, never edited."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    settings = models.JSONField()  # by name of the campaign's fields
    author = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["campaign", "number"], name="one_version_a_number")
        ]

    def __str__(self) -> str:
        return f"{self.campaign}, version {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        assert self._state.adding, "a version is never edited"
        super().save(*args, **kwargs)


class Enrolment(models.Model):
    """A person's place in a campaign, from the first time they open it or are invited."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="enrolments")
    user = models.ForeignKey(User, models.CASCADE, related_name="enrolments")
    joined_at = models.DateTimeField(auto_now_add=True)
    trained_at = models.DateTimeField(null=True)  # has passed the training comparisons
    paused_at = models.DateTimeField(null=True)  # by the pause rule or by a researcher
    pause_reason = models.CharField(max_length=300, blank=True)
    excluded_at = models.DateTimeField(null=True)  # the person's votes are not used from then on
    left_at = models.DateTimeField(null=True)
    # Standing ones in earnest, and on hidden tests; None: not counted yet.
    votes = models.PositiveIntegerField(null=True)
    tests = models.PositiveIntegerField(null=True)
    # The queue's: where in the campaign's order the person last was, and since when they go on.
    cursor_priority = models.IntegerField(null=True)
    cursor_comparison = models.BigIntegerField(null=True)
    cursor_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "user"], name="one_enrolment_a_campaign")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.campaign}"


class CampaignInvitation(models.Model):
    """An invitation to a project that also enrols whoever accepts it."""

    invitation = models.OneToOneField(Invitation, models.CASCADE, related_name="+")
    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="invitations")

    def __str__(self) -> str:
        return f"{self.invitation}, for {self.campaign}"


class Comparison(models.Model):
    """1..9 answers to one prompt, put before people. `why` is for researchers only.

    Gold, repeats and training comparisons look like any other and never train a model: `expected`
    is what a gold or training one should be answered, as the fields of a verdict; `only_for` is who
    a repeat is meant for, and who alone sees a live one until their first word (`collect.live`).
    `full`: no more votes are wanted; it is written under the comparison's lock with every vote.
    """

    class Kind(models.TextChoices):
        ORDINARY = "ordinary", "Ordinary"
        LIVE = "live", "Live"
        GOLD = "gold", "Gold"
        REPEAT = "repeat", "Repeat"
        TRAINING = "training", "Training"

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="comparisons")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="comparisons")
    candidates = models.ManyToManyField(Completion, through="Candidate")
    priority = models.IntegerField(default=0)
    strategy = models.CharField(max_length=40, default="random")
    p_select = models.FloatField(default=1.0)
    why = models.JSONField(default=dict)  # figures that the strategy chose by
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.ORDINARY)
    overlap = models.PositiveSmallIntegerField(null=True, blank=True)  # None: the campaign's
    expected = models.JSONField(null=True, blank=True)
    explanation = models.TextField(blank=True)  # shown in training, after the answer
    repeats = models.ForeignKey("self", models.CASCADE, null=True, related_name="repeated")
    only_for = models.ForeignKey(User, models.CASCADE, null=True, related_name="+")
    full = models.BooleanField(default=False)
    expires_at = models.DateTimeField(null=True, blank=True)  # not asked any more from then on
    retired_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["campaign", "-priority", "id"]),
            models.Index(
                fields=["campaign", "-priority", "id"],
                condition=Q(full=False, retired_at__isnull=True, only_for__isnull=True),
                name="comparisons_wanting",
            ),
            models.Index(
                fields=["only_for", "campaign"],
                condition=Q(only_for__isnull=False),
                name="comparisons_for_one",
            ),
            models.Index(
                fields=["campaign", "kind"],
                condition=~Q(kind="ordinary"),
                name="comparisons_special",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(overlap__isnull=True) | Q(overlap__gte=1), name="own_overlap_at_least_1"
            ),
            models.CheckConstraint(
                condition=~Q(kind="repeat") | Q(repeats__isnull=False, only_for__isnull=False),
                name="repeat_of_something_for_someone",
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=["gold", "training"]) | Q(expected__isnull=False),
                name="expected_where_it_is_known",
            ),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk}"

    @cached_property
    def replies(self) -> list[Candidate]:
        """The candidates with what people read of them, by slot; asked for once."""
        return REPLIES.all(comparison=self.pk)


class Candidate(models.Model):
    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="slots")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="+")
    slot = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["slot"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "slot"], name="one_candidate_a_slot"),
            models.UniqueConstraint(
                fields=["comparison", "completion"], name="candidate_once_a_comparison"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.comparison_id}[{self.slot}]"


REPLIES = Compiled(
    lambda: (
        Candidate.objects.filter(comparison=given_id("comparison"))
        .select_related("completion")
        .only("slot", "comparison_id", "completion__text", "completion__finish_reason")
        .order_by("slot")
    )
)


class Ballot(models.Model):
    """Claim and vote in one row.

    Shown = the row exists; abandoned = `expires_at` passed with no outcome; cast = `outcome` set.
    `ranking` lists tie groups of slots, best first: [[1], [0]] prefers slot 1, [[0, 1]] is a tie.
    What else a campaign asks for stands beside it, by slot: `mark` of the best answer, `ratings`
    ({slot: {criterion: value}}), `corrections` ({slot: text}), `spans` (fields of
    collect.asking.Span each). `seat` (0..overlap-1) is held by a live claim or a standing vote, and
    the database keeps them unique. A person's later revision replaces the earlier.
    """

    class Outcome(models.TextChoices):
        RANKED = "ranked", "Ranked"
        ALL_BAD = "all_bad", "All bad"
        ABSOLUTE = "absolute", "Rated, not ranked"
        SKIPPED = "skipped", "Skipped"
        FLAGGED = "flagged", "Flagged"
        WITHDRAWN = "withdrawn", "Undone"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Both begin an index below. One of the person alone would be taken for everything they said.
    comparison = models.ForeignKey(
        Comparison, models.CASCADE, related_name="ballots", db_index=False
    )
    annotator = models.ForeignKey(User, models.PROTECT, related_name="ballots", db_index=False)
    revision = models.PositiveIntegerField(default=1)
    revises = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    seat = models.PositiveSmallIntegerField(null=True)
    shown = models.JSONField()  # slots in the order on the screen
    settings_version = models.PositiveIntegerField(default=1)
    claimed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    cast_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=9, choices=Outcome, blank=True)
    ranking = models.JSONField(default=list)
    strength = models.PositiveSmallIntegerField(null=True)  # 1 slightly, 2 clearly, 3 much better
    # P(slot 0 beats slot 1) where the voter gave one, as AI judges do; it says more than `ranking`.
    probability = models.FloatField(null=True)
    mark = models.PositiveSmallIntegerField(null=True)  # of the best answer: 1 bad, 2 ok, 3 good
    ratings = models.JSONField(default=dict)
    corrections = models.JSONField(default=dict)
    spans = models.JSONField(default=list)
    reasons = models.JSONField(default=list)
    reason = models.CharField(max_length=300, blank=True)  # why it was skipped or flagged
    comment = models.TextField(blank=True)
    active_ms = models.PositiveIntegerField(null=True)
    idempotency_key = models.UUIDField(null=True, unique=True)

    class Meta:
        ordering = ["-cast_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "annotator", "revision"], name="one_ballot_a_revision"
            ),
            models.UniqueConstraint(fields=["comparison", "seat"], name="one_ballot_a_seat"),
            models.CheckConstraint(
                condition=Q(outcome="", cast_at__isnull=True)
                | ~Q(outcome="") & Q(cast_at__isnull=False),
                name="cast_with_outcome",
            ),
            models.CheckConstraint(condition=Q(expires_at__gt=F("claimed_at")), name="claim_lasts"),
            models.CheckConstraint(
                condition=Q(probability__isnull=True) | Q(probability__gte=0, probability__lte=1),
                name="probability_in_range",
            ),
        ]
        indexes = [
            models.Index(fields=["annotator", "-cast_at", "-claimed_at"], name="ballots_by_person"),
            models.Index(
                fields=["-cast_at"], condition=Q(cast_at__isnull=False), name="ballots_by_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.annotator_id} on {self.comparison_id}: {self.outcome or 'open'}"


class Draft(models.Model):
    """What a person has filled in so far, kept by the server until the ballot is cast."""

    ballot = models.OneToOneField(Ballot, models.CASCADE, related_name="draft")
    fields = models.JSONField()  # by name of the form's fields
    saved_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"draft of {self.ballot_id}"


class Flag(models.Model):
    """A comparison that somebody called harmful or broken, until a researcher has looked."""

    ballot = models.OneToOneField(Ballot, models.CASCADE, related_name="flag")
    reason = models.CharField(max_length=300)
    words = models.TextField(blank=True)
    raised_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    resolution = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.reason} on {self.ballot_id}"


from plumbline.collect.live_models import LiveAnswer as LiveAnswer  # noqa: E402  # for Django
