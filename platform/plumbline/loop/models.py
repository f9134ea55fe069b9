"""Experiments, rounds and what they trained on: iteration is data, not a script."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Campaign, Completion, Prompt, PromptSet
from plumbline.fleet.models import Job
from plumbline.judges import models as judges
from plumbline.policies.models import Policy, RewardModel


class Experiment(models.Model):
    """What every round of it does the same way."""

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        FINISHED = "finished", "Finished"

    class Labels(models.TextChoices):
        PEOPLE = "people", "People compare fresh answers"
        BALLOTS = "ballots", "Ballots the prompt set already has"
        JUDGE = "judge", "An AI judge; people see a random slice"
        TRIAGE = "judge_and_people", "An AI judge where it is sure, people elsewhere"

    class Pairs(models.TextChoices):
        VOTES = "votes", "The voted pairs"
        REWARD_MODEL = "reward_model", "All samples, scored by the reward model"

    class Judge(models.TextChoices):
        REWARD_MODEL = "reward_model", "The round's reward model"
        PEOPLE = "people", "A blind vote by people"
        JUDGE = "judge", "An AI judge that labels nothing"

    class Reference(models.TextChoices):
        INITIAL = "initial", "The experiment's first policy"
        ROUND_START = "round_start", "The round's first policy"
        SOUP = "soup", "Its average with another policy"

    class RewardForm(models.TextChoices):
        TUNED = "tuned", "A head on a trained copy of the base"
        PROBE = "probe", "A linear probe of the base as it is"

    class Agreement(models.TextChoices):
        NONE = "none", "Keep every pair"
        KEEP = "keep", "Keep pairs that four in five agree on"
        WEIGHT = "weight", "Weigh pairs by how sure they are together"

    class Replay(models.TextChoices):
        NONE = "none", "None: this round's alone"
        ALL = "all", "All earlier rounds'"
        DECAY = "decay", "A share, smaller with age"

    project = models.ForeignKey(Project, models.CASCADE, related_name="experiments")
    name = models.CharField(max_length=80)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    algorithm = models.CharField(max_length=40)
    knobs = models.JSONField(default=dict)
    blend = models.JSONField(default=dict)  # of policies, instead of training: `loop/blending.py`
    start = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    prompt_set = models.ForeignKey(PromptSet, models.PROTECT, related_name="experiments")
    rounds_wanted = models.PositiveIntegerField(default=2)
    seed = models.PositiveIntegerField(default=0)
    # Sampling.
    prompts_per_round = models.PositiveIntegerField(default=64)
    samples_per_prompt = models.PositiveIntegerField(default=4)
    temperature = models.FloatField(default=1.0)
    other_temperature = models.FloatField(null=True)  # of half of the policy's answers
    max_tokens = models.PositiveIntegerField(default=96)
    # Labels.
    labels = models.CharField(max_length=16, choices=Labels, default=Labels.PEOPLE)
    labellers = models.ManyToManyField("judges.Judge", related_name="+")  # whose mix labels
    slice_percent = models.PositiveSmallIntegerField(
        default=10
    )  # people see, whatever a judge says
    judge_errors = models.PositiveSmallIntegerField(
        default=10
    )  # percent, where a judge is believed
    judge_dollars = models.FloatField(default=0.0)  # a round and judge, at most; 0: no cap
    votes_at_most = models.PositiveIntegerField(default=0)  # of people, a judged round; 0: no cap
    asked_as = models.ForeignKey(  # whose guidelines, questions and criteria round 1 takes over
        Campaign, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    prompts_compared = models.PositiveIntegerField(default=0)  # 0: all of the round's
    selection = models.CharField(max_length=40, default="random")  # a file of collect/selection
    stale_days = models.PositiveIntegerField(default=7)  # answers are asked about; 0: for good
    overlap = models.PositiveSmallIntegerField(default=1)
    deadline_minutes = models.PositiveIntegerField(default=0)  # 0: wait for every vote
    # Of a round's votes, one person's at most; 100: no cap.
    annotator_percent = models.PositiveSmallIntegerField(default=100, db_default=100)
    pairs_from = models.CharField(max_length=12, choices=Pairs, default=Pairs.VOTES)
    pair_rule = models.CharField(max_length=20, default="voted")
    length_penalty = models.FloatField(default=0.0)
    # Training.
    reference = models.CharField(max_length=12, choices=Reference, default=Reference.INITIAL)
    soup_with = models.ForeignKey(Policy, models.PROTECT, null=True, related_name="+")
    soup_share = models.FloatField(default=0.5)  # of `soup_with` in the averaged reference
    replay = models.CharField(max_length=5, choices=Replay, default=Replay.NONE)
    replay_share = models.FloatField(default=0.3)  # DECAY: of this round's count, from the last one
    replay_decay = models.FloatField(default=0.5)  # DECAY: each round further back gives this less
    anchor = models.FloatField(default=0.0)  # weight of the chosen answers' cross-entropy
    warm_start = models.BooleanField(default=True)  # from the round's policy, not the first one
    weights = models.JSONField(default=dict)  # fields of align.jobs.Weights
    optimiser = models.JSONField(default=dict)  # fields of align.jobs.Optimiser
    reward_optimiser = models.JSONField(default=dict)  # the same, for the reward model
    reward_form = models.CharField(max_length=5, choices=RewardForm, default=RewardForm.TUNED)
    reward_folds = models.PositiveSmallIntegerField(default=3)  # copies to find a temperature by
    reward_objective = models.CharField(max_length=40, default="bradley_terry")
    reward_knobs = models.JSONField(default=dict)
    reward_ensemble = models.JSONField(default=dict)  # fields of align.ensemble.Ensemble
    reward_labels = models.JSONField(default=dict)  # fields of align.labels.Labels
    agreement = models.CharField(max_length=6, choices=Agreement, default=Agreement.NONE)
    processes = models.PositiveSmallIntegerField(default=1)  # that share training; 0: all free GPUs
    candidates = models.PositiveSmallIntegerField(default=0)  # checkpoints an epoch to choose from
    # Evaluation and the gate.
    heldout_prompts = models.PositiveIntegerField(default=64)
    judge = models.CharField(max_length=12, choices=Judge, default=Judge.REWARD_MODEL)
    evaluator = models.ForeignKey("judges.Judge", models.PROTECT, null=True, related_name="+")
    face_off_percent = models.PositiveSmallIntegerField(default=0)  # of a judge's, people see too
    gate_win_rate = models.FloatField(default=0.5)  # the interval against current must clear this
    gate_kl = models.FloatField(default=100.0)  # nats to the base, at most
    # What reward hacking may do, at most (`loop/hacking.py`); each by the whole of an interval.
    gate_length = models.FloatField(default=2.0, db_default=2.0)  # times current's length
    gate_equal = models.FloatField(default=0.5, db_default=0.5)  # win rate at equal length, above
    gate_faults = models.FloatField(default=0.1, db_default=0.1)  # more answers cut off, repeating
    gate_form = models.FloatField(default=0.5, db_default=0.5)  # more answers with lists, bold
    gate_apart = models.FloatField(default=0.2, db_default=0.2)  # win rates of two judges
    # Hidden triggers and refusals (`loop/probing.py`).
    probe_phrases = models.PositiveSmallIntegerField(default=16, db_default=16)  # 0: no probes
    gate_probes = models.BooleanField(default=True, db_default=True)  # what they find blocks
    autopilot = models.BooleanField(default=False)  # promote by itself when the gate passes

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="one_experiment_name")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def judged(self) -> bool:
        """Whether AI judges label."""
        return self.labels in JUDGED

    @property
    def who_labels(self) -> list[judges.Judge]:
        """The judges whose mix labels; nobody asks the database where people label."""
        return list(self.labellers.order_by("pk")) if self.judged else []


JUDGED = (Experiment.Labels.JUDGE, Experiment.Labels.TRIAGE)
FRESH = (Experiment.Labels.PEOPLE, *JUDGED)  # of answers that the round draws


class Stage(models.TextChoices):
    """In order; `loop/advance.py` has one function for each but the last three."""

    PROMPTS = "prompts", "Choose prompts"
    SAMPLE = "sample", "Sample"
    SELECT = "select", "Open comparisons"
    LABEL = "label", "Label"
    REWARD = "reward", "Retrain reward model"
    SCORE = "score", "Score samples"
    PAIRS = "pairs", "Make pairs"
    TRAIN = "train", "Train"
    CHOOSE = "choose", "Choose checkpoint"
    EVALUATE = "evaluate", "Evaluate"
    GATE = "gate", "Gate"
    PROMOTE = "promote", "Promote"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


OVER = (Stage.DONE, Stage.FAILED, Stage.CANCELLED)


class Round(models.Model):
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="rounds")
    number = models.PositiveIntegerField()
    stage = models.CharField(max_length=10, choices=Stage, default=Stage.PROMPTS)
    policy_in = models.ForeignKey(Policy, models.PROTECT, related_name="rounds_begun")
    policy_out = models.OneToOneField(Policy, models.PROTECT, null=True, related_name="made_by")
    prompts = models.ManyToManyField(Prompt, related_name="rounds")
    campaign = models.OneToOneField(Campaign, models.PROTECT, null=True, related_name="round")
    evaluation_campaign = models.OneToOneField(
        Campaign, models.PROTECT, null=True, related_name="evaluated_round"
    )
    reward_model = models.ForeignKey(RewardModel, models.PROTECT, null=True, related_name="rounds")
    # Trained on votes that train nothing else: judges checkpoints and the candidate.
    validator = models.ForeignKey(RewardModel, models.PROTECT, null=True, related_name="+")
    ballots = models.ManyToManyField(Ballot, related_name="rounds")  # frozen when pairs are made
    ballots_sha256 = models.CharField(max_length=64, blank=True)  # of their sorted ids
    # Of a rebuild: the round whose snapshot it goes through again (`loop/rebuilding.py`).
    replays = models.ForeignKey("self", models.PROTECT, null=True, related_name="replayed_by")
    # Who the candidate is measured against, fixed when it is made: {"current": id, "base": id}.
    opponents = models.JSONField(default=dict)
    gate = models.JSONField(default=dict)  # checks with their evidence and the verdict
    figures = models.JSONField(default=dict)  # what was measured on the way, by name
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-started_at"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "number"], name="one_round_a_number"),
            models.UniqueConstraint(
                fields=["experiment"],
                condition=~Q(stage__in=["done", "failed", "cancelled"]),
                name="one_round_in_progress",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment} round {self.number}"

    @property
    def over(self) -> bool:
        return self.stage in OVER


class RoundStage(models.Model):
    """When each stage began and ended: the round's timeline."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="stages")
    stage = models.CharField(max_length=10, choices=Stage)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["started_at", "id"]
        constraints = [models.UniqueConstraint(fields=["round", "stage"], name="one_row_a_stage")]

    def __str__(self) -> str:
        return f"{self.round}: {self.stage}"


class RoundJob(models.Model):
    """The job a round asked for, by purpose; unique, so asking twice finds the first."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="jobs")
    purpose = models.CharField(max_length=60)
    job = models.OneToOneField(Job, models.PROTECT, related_name="asked_by")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "purpose"], name="one_job_a_purpose")
        ]

    def __str__(self) -> str:
        return f"{self.round}: {self.purpose}"


class Example(models.Model):
    """One training example, frozen before training begins: answers by role, and what is known of
    them. For a pair `p` is P(chosen > rejected)."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="examples")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="+")
    completions = models.ManyToManyField(Completion, through="ExampleAnswer", related_name="+")
    p = models.FloatField(default=1.0)
    weight = models.FloatField(default=1.0)
    facts = models.JSONField(default=dict)
    rule = models.CharField(max_length=20)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(p__gte=0.0, p__lte=1.0), name="example_label")
        ]

    def __str__(self) -> str:
        return f"{self.round}: example {self.pk}"


class ExampleAnswer(models.Model):
    """Which answer plays which role in an example."""

    example = models.ForeignKey(Example, models.CASCADE, related_name="answers")
    role = models.CharField(max_length=20)
    completion = models.ForeignKey(Completion, models.PROTECT, related_name="+")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["example", "role"], name="one_answer_a_role")
        ]

    def __str__(self) -> str:
        return f"{self.role} of example {self.example_id}"


class Evaluation(models.Model):
    """The round's candidate against one other policy on held-out prompts."""

    class Against(models.TextChoices):
        CURRENT = "current", "Current policy"
        BASE = "base", "Base model"

    round = models.ForeignKey(Round, models.CASCADE, related_name="evaluations")
    against = models.CharField(max_length=8, choices=Against)
    opponent = models.ForeignKey(Policy, models.PROTECT, related_name="+")
    judge = models.CharField(max_length=12, choices=Experiment.Judge)
    wins = models.PositiveIntegerField()
    ties = models.PositiveIntegerField()
    losses = models.PositiveIntegerField()
    rate = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    kl = models.FloatField(null=True)  # candidate to base, nats a sequence, k1 on fresh samples
    kl_k3 = models.FloatField(null=True)  # the same by the k3 estimator, which is never negative
    kl_start = models.FloatField(null=True)  # k1 to the policy that the round started from
    tokens = models.FloatField(null=True)  # mean length of the candidate's answers
    opponent_tokens = models.FloatField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "against"], name="one_evaluation_a_side")
        ]

    def __str__(self) -> str:
        return f"{self.round} vs {self.against}: {self.rate:.0%}"


from plumbline.loop.decision_models import Decision as Decision  # noqa: E402  # for Django
from plumbline.loop.decision_models import Rebuild as Rebuild  # noqa: E402
from plumbline.loop.decision_models import Retraction as Retraction  # noqa: E402
from plumbline.loop.judge_models import RoundJudge as RoundJudge  # noqa: E402
from plumbline.loop.judge_models import Sent as Sent  # noqa: E402
from plumbline.loop.looking_models import (  # noqa: E402  # for Django, which looks here
    Inspection as Inspection,
)
from plumbline.loop.looking_models import SpotCheck as SpotCheck  # noqa: E402
from plumbline.loop.looking_models import TokenRewards as TokenRewards  # noqa: E402
from plumbline.loop.pilot_models import Autopilot as Autopilot  # noqa: E402
from plumbline.loop.pilot_models import PilotChange as PilotChange  # noqa: E402
from plumbline.loop.pilot_models import PilotDecision as PilotDecision  # noqa: E402
from plumbline.loop.view_models import SavedView as SavedView  # noqa: E402
