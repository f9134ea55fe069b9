"""Sessions of ICPL: generations of reward programs, what each picked, and what people made of it.

Rankings are ballots of a campaign like any other's; what they mean for programs is worked out anew
whenever it is asked for. A program never changes: its hash is what a judge is later pinned by.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from align import programs
from align.icpl.emphases import EMPHASES
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Campaign, Completion, Prompt, PromptSet
from plumbline.fleet.models import Job
from plumbline.judges.models import Endpoint, JudgeVersion
from plumbline.policies.models import Policy


class Evolution(models.Model):
    """A session: what is wanted, who writes programs, who ranks what they pick."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        CONFIRM = "confirm", "Being confirmed"
        PAUSED = "paused", "Paused"
        FINISHED = "finished", "Finished"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Writer(models.TextChoices):
        ENDPOINT = "endpoint", "A language model"
        SEEDED = "seeded", "The seeded writer, without a model"

    class Matching(models.TextChoices):
        WHEN_LONG = "auto", "Where a program goes by length"
        ALWAYS = "always", "Always"
        NEVER = "never", "Never"

    project = models.ForeignKey(Project, models.CASCADE, related_name="evolutions")
    name = models.CharField(max_length=80)
    task = models.TextField()  # what is wanted, in words, for the writer
    prompt_set = models.ForeignKey(PromptSet, models.PROTECT, related_name="+")
    prompts = models.ManyToManyField(Prompt, through="PanelPrompt", related_name="+")
    # Whose answers the pool is.
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    writer = models.CharField(max_length=8, choices=Writer, default=Writer.SEEDED)
    writer_endpoint = models.ForeignKey(Endpoint, models.PROTECT, null=True, related_name="+")
    rubric_endpoint = models.ForeignKey(Endpoint, models.PROTECT, null=True, related_name="+")
    rater = models.ForeignKey(
        JudgeVersion, models.PROTECT, null=True, related_name="+"
    )  # or people
    overlap = models.PositiveSmallIntegerField(default=1)  # rankings wanted of each card set
    arms = models.PositiveSmallIntegerField(default=6)  # programs a generation
    chosen_prompts = models.PositiveSmallIntegerField(default=6)  # ranked each generation
    spare_prompts = models.PositiveSmallIntegerField(default=6)  # more, where that was not enough
    hidden_prompts = models.PositiveSmallIntegerField(default=30)  # never shown to the writer
    # Prompts that no generation sees; 0: none. Code of the release before draws none.
    fresh_prompts = models.PositiveSmallIntegerField(default=30, db_default=0)
    # What a confirmation's lower bound must clear.
    least_win_rate = models.FloatField(default=0.5, db_default=0.5)
    incumbent = models.ForeignKey(
        JudgeVersion, models.PROTECT, null=True, related_name="+"
    )  # whose picks the winner's are compared with; None: one of the answers at random
    matching = models.CharField(
        max_length=8, choices=Matching, default=Matching.WHEN_LONG, db_default=Matching.NEVER
    )
    pool_size = models.PositiveSmallIntegerField(default=16)  # answers to each prompt
    temperature = models.FloatField(default=1.0)  # of the pool
    max_tokens = models.PositiveIntegerField(default=96)
    generations_wanted = models.PositiveSmallIntegerField(default=5)
    seed = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=9, choices=State, default=State.ACTIVE)
    ended = models.CharField(max_length=300, blank=True)  # why it stopped
    hidden_campaign = models.OneToOneField(
        Campaign, models.PROTECT, null=True, related_name="hidden_of"
    )
    best = models.ForeignKey("Program", models.PROTECT, null=True, related_name="+")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_evolution_name"),
            models.CheckConstraint(
                condition=Q(writer="endpoint", writer_endpoint__isnull=False)
                | Q(writer="seeded", writer_endpoint__isnull=True),
                name="evolution_has_its_writer",
            ),
            models.CheckConstraint(
                condition=Q(arms__range=(3, 8), overlap__gte=1, chosen_prompts__gte=1),
                name="evolution_can_rank",
            ),
            models.CheckConstraint(
                condition=Q(pool_size__gte=2, generations_wanted__gte=1),
                name="evolution_has_a_pool",
            ),
            models.CheckConstraint(
                condition=Q(least_win_rate__gte=0, least_win_rate__lt=1),
                name="evolution_may_confirm",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def over(self) -> bool:
        return self.state in (self.State.FINISHED, self.State.FAILED, self.State.CANCELLED)


class PanelPrompt(models.Model):
    """A prompt of a session's panel, drawn once: what it is for never changes."""

    class Role(models.TextChoices):
        CHOSEN = "chosen", "Ranked"
        SPARE = "spare", "Ranked if it is not clear"
        HIDDEN = "hidden", "Hidden from the writer"
        FRESH = "fresh", "Kept fresh for the confirmation"

    UNSEEN = (Role.HIDDEN, Role.FRESH)  # by the writer, and by whoever ranks

    evolution = models.ForeignKey(Evolution, models.CASCADE, related_name="panel")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="+")
    role = models.CharField(max_length=6, choices=Role)
    place = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["place"]
        constraints = [
            models.UniqueConstraint(fields=["evolution", "prompt"], name="one_panel_prompt"),
            models.UniqueConstraint(fields=["evolution", "place"], name="one_panel_place"),
        ]

    def __str__(self) -> str:
        return f"{self.prompt} ({self.role})"


class Stage(models.TextChoices):
    """In order; `evolve/advance.py` has one function for each but the last three."""

    POOL = "pool", "Sample the pool"
    WRITE = "write", "Write programs"
    CHECK = "check", "Check and score"
    MERGE = "merge", "Compare picks"
    ASK = "ask", "Open the ranking"
    RANK = "rank", "Rank"
    AGGREGATE = "aggregate", "Work out the order"
    REPORT = "report", "Report"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


OVER = (Stage.DONE, Stage.FAILED, Stage.CANCELLED)


class Generation(models.Model):
    evolution = models.ForeignKey(Evolution, models.CASCADE, related_name="generations")
    number = models.PositiveSmallIntegerField()
    stage = models.CharField(max_length=9, choices=Stage, default=Stage.POOL)
    failed_at = models.CharField(max_length=9, choices=Stage, blank=True)  # where it goes on
    messages = models.JSONField(default=list)  # what the writer was told, but for each emphasis
    prompt_sha256 = models.CharField(max_length=64, blank=True)  # of them
    campaign = models.OneToOneField(Campaign, models.PROTECT, null=True, related_name="generation")
    retries = models.PositiveSmallIntegerField(default=0)  # each gives the writer its calls again
    asked_prompts = models.PositiveSmallIntegerField(default=0)  # card sets opened so far
    length_ratio = models.FloatField(null=True)  # at most, of a prompt's cards; None: any
    good = models.ForeignKey("Program", models.PROTECT, null=True, related_name="+")
    also_good = models.ForeignKey("Program", models.PROTECT, null=True, related_name="+")
    bad = models.ForeignKey("Program", models.PROTECT, null=True, related_name="+")
    difference = models.TextField(blank=True)  # from the good program before, by the machine
    sentence = models.CharField(max_length=300, blank=True)  # the same, in the writer's words
    figures = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["evolution", "number"], name="one_generation_a_number"),
            models.UniqueConstraint(
                fields=["evolution"],
                condition=~Q(stage__in=["done", "failed", "cancelled"]),
                name="one_generation_in_progress",
            ),
            models.CheckConstraint(
                condition=~Q(stage="done") | Q(good__isnull=False), name="done_generation_has_good"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.evolution}, generation {self.number}"

    @property
    def over(self) -> bool:
        return self.stage in OVER


class Program(models.Model):
    """A reply of the writer, and the program in it where there is one."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        VALIDATED = "validated", "Validated"
        INVALID = "invalid", "Invalid"
        SHOWN = "shown", "Shown"
        GOOD = "good", "Good"
        BAD = "bad", "Bad"
        NEUTRAL = "neutral", "Neutral"
        CANDIDATE_JUDGE = "candidate_judge", "Candidate judge"
        ACTIVE = "active", "Judge"
        RETIRED = "retired", "Retired"

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="programs")
    arm = models.PositiveSmallIntegerField()
    attempt = models.PositiveSmallIntegerField()  # calls of the writer for this arm
    emphasis = models.CharField(max_length=12, choices=[(name, name) for name in EMPHASES])
    program = models.JSONField(
        null=True
    )  # of align.programs.RewardProgram; None: none in the reply
    sha256 = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=15, choices=Status, default=Status.DRAFT)
    good_parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    bad_parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    repairs = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    same_as = models.ForeignKey("self", models.PROTECT, null=True, related_name="+")
    reply = models.TextField(blank=True)  # the writer's, as it came
    problems = models.JSONField(default=list)
    report = models.JSONField(default=dict)
    tokens_in = models.PositiveIntegerField(default=0)
    tokens_out = models.PositiveIntegerField(default=0)
    job = models.ForeignKey(Job, models.SET_NULL, null=True, related_name="+")  # that wrote it
    judge = models.OneToOneField(JudgeVersion, models.PROTECT, null=True, related_name="program")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["generation__number", "arm", "attempt"]
        constraints = [
            models.UniqueConstraint(
                fields=["generation", "arm", "attempt"], name="one_program_a_call"
            ),
            models.CheckConstraint(
                condition=Q(status="invalid") | Q(program__isnull=False),
                name="only_an_invalid_reply_has_no_program",
            ),
            models.CheckConstraint(
                condition=Q(status="active", judge__isnull=False) | ~Q(status="active"),
                name="active_program_has_its_judge",
            ),
            models.CheckConstraint(
                condition=Q(repairs__isnull=True) | ~Q(repairs=F("id")), name="repairs_another"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.generation.number}.{self.arm + 1}"

    @property
    def reward(self) -> programs.RewardProgram:
        assert self.program is not None
        return programs.from_json(self.program)


class ProgramScore(models.Model):
    """What a program says of one answer of the pool."""

    program = models.ForeignKey(Program, models.CASCADE, related_name="scores")
    completion = models.ForeignKey(Completion, models.CASCADE, related_name="+")
    total = models.FloatField()
    components = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["program", "completion"], name="one_program_score")
        ]

    def __str__(self) -> str:
        return f"{self.total:.3f}"


class Pick(models.Model):
    """The answer that a program scores highest of a prompt's pool."""

    program = models.ForeignKey(Program, models.CASCADE, related_name="picks")
    prompt = models.ForeignKey(Prompt, models.CASCADE, related_name="+")
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["program", "prompt"], name="one_pick")]

    def __str__(self) -> str:
        return f"{self.program_id} picks {self.completion_id}"


class EvolutionJob(models.Model):
    """The job a session asked for, by purpose; unique, so asking twice finds the first."""

    evolution = models.ForeignKey(Evolution, models.CASCADE, related_name="jobs")
    generation = models.ForeignKey(Generation, models.CASCADE, null=True, related_name="jobs")
    purpose = models.CharField(max_length=60)
    job = models.OneToOneField(Job, models.PROTECT, related_name="evolves")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["evolution", "purpose"], name="one_evolution_job_a_purpose"
            )
        ]

    def __str__(self) -> str:
        return f"{self.evolution}: {self.purpose}"


class Trial(models.Model):
    """A program held against votes it has never seen, before it may judge."""

    program = models.ForeignKey(Program, models.CASCADE, related_name="trials")
    number = models.PositiveSmallIntegerField()
    temperature = models.FloatField(null=True)  # P(first) = sigmoid((R1 - R2) / temperature)
    checks = models.JSONField(default=list)  # each with its evidence
    passed = models.BooleanField(null=True)  # None: its job runs
    figures = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["program", "number"], name="one_trial_a_number"),
            models.UniqueConstraint(
                fields=["program"],
                condition=Q(finished_at__isnull=True),
                name="one_trial_in_progress",
            ),
            models.CheckConstraint(
                condition=Q(temperature__isnull=True) | Q(temperature__gt=0),
                name="trial_temperature_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"trial {self.number} of {self.program}"


class Confirmation(models.Model):
    """A program's picks among fresh answers to prompts that no generation has seen, before people,
    blind, beside the incumbent's."""

    program = models.ForeignKey(Program, models.CASCADE, related_name="confirmations")
    number = models.PositiveSmallIntegerField()
    policy = models.ForeignKey(Policy, models.PROTECT, related_name="+")  # that answered
    incumbent = models.ForeignKey(JudgeVersion, models.PROTECT, null=True, related_name="+")
    campaign = models.OneToOneField(Campaign, models.PROTECT, null=True, related_name="confirms")
    picks = models.JSONField(default=list)  # {"prompt", "program", "incumbent", "same"}
    figures = models.JSONField(default=dict)
    passed = models.BooleanField(null=True)  # None: under way, or too little to say
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["program", "number"], name="one_confirmation_a_number"),
            models.UniqueConstraint(
                fields=["program"],
                condition=Q(finished_at__isnull=True),
                name="one_confirmation_in_progress",
            ),
        ]

    def __str__(self) -> str:
        return f"confirmation {self.number} of {self.program}"

    @property
    def said(self) -> str:
        """What it found, in a sentence or two, once it is finished."""
        if self.error:
            return f"Not confirmed: {self.error}"
        told = self.figures
        if not told["prompts"]:
            return "Not confirmed: nobody said which picks are better."
        rate = (
            f"Its picks won {told['rate']:.1%} on {told['prompts']} fresh prompts "
            f"({told['low']:.1%} to {told['high']:.1%})"
        )
        if self.passed:
            return f"Confirmed. {rate}; the lower end had to lie above {told['least']:.0%}."
        if self.passed is None:
            return f"Not confirmed: too few. {rate}; {told['needed']} prompts are needed."
        return f"Not confirmed. {rate}; the lower end must lie above {told['least']:.0%}."
