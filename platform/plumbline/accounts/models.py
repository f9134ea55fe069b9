"""People, projects and keys. A project isolates everything below it; a role is held per project."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac


class Role(models.TextChoices):
    ANNOTATOR = "annotator", "Annotator"
    RESEARCHER = "researcher", "Researcher"
    ADMIN = "admin", "Admin"


# What each role may do includes what the ones before it may.
RANK = {Role.ANNOTATOR: 1, Role.RESEARCHER: 2, Role.ADMIN: 3}


class User(AbstractUser):
    class Kind(models.TextChoices):
        PERSON = "person", "Person"
        SIMULATED = "simulated", "Simulated rater"
        AI = "ai", "AI judge"
        IMPORT = "import", "Imported ballots"

    kind = models.CharField(max_length=10, choices=Kind, default=Kind.PERSON)
    preferences = models.JSONField(default=dict, blank=True)  # of pages: keys, how texts are shown
    sessions_ended = models.PositiveIntegerField(default=0, db_default=0)  # how often all of them

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session must hold to be this person's: ends with the password, and with
        `visits.end_all`."""
        digest: str = super()._get_session_auth_hash(secret)  # type: ignore[misc]
        if not self.sessions_ended:
            return digest
        held = f"{digest}{self.sessions_ended}"
        return salted_hmac("plumbline.sessions", held, secret, algorithm="sha256").hexdigest()


class Project(models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="projects")
    # What a million tokens of the API cost; without both the pages show no cost.
    price_in = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)
    price_out = models.DecimalField(max_digits=10, decimal_places=4, null=True, blank=True)
    currency = models.CharField(max_length=3, default="USD")
    # What all its keys may use together; None or 0: no limit but the keys' own.
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    tokens_per_month = models.PositiveBigIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE)
    user = models.ForeignKey(User, models.CASCADE)
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_membership"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class Invitation(models.Model):
    """A link that lets one new person in. Only the digest of its token is kept."""

    project = models.ForeignKey(Project, models.CASCADE)
    role = models.CharField(max_length=10, choices=Role)
    digest = models.CharField(max_length=64, unique=True)
    created_by = models.ForeignKey(User, models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return f"invitation to {self.project} as {self.role}"


class Tally(models.Model):
    """How often something was tried until a time; `plumbline.accounts.guesses` says what."""

    digest = models.CharField(max_length=64, unique=True)
    count = models.PositiveIntegerField()
    until = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.count} until {self.until:%Y-%m-%d %H:%M:%S}"


class Visit(models.Model):
    """Whose a session is, for the list of one's own."""

    user = models.ForeignKey(User, models.CASCADE)
    session_key = models.CharField(max_length=40, unique=True)
    address = models.CharField(max_length=45)
    agent = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.user} from {self.address}"


class SecondFactorReset(models.Model):
    """Somebody took the second factor off a person; `by` is nobody at the command line."""

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    reason = models.CharField(max_length=300)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"second factor of {self.user} reset by {self.by or 'the command line'}"


class Scope(models.TextChoices):
    INFER = "infer", "Query policies"
    FEEDBACK = "feedback", "Send feedback"
    MANAGE = "manage", "Manage the project"


class ApiKey(models.Model):
    """A client app's key: `plk_<prefix>_<secret>`. The secret is shown once; its keyed digest
    (HMAC-SHA-256 under SECRET_KEY) is what is stored. Rotation gives it a new secret, and the old
    one goes on until `old_until`.

    A limit of its own that is null is the one that the settings give to every key. A cap that is
    null is what the API takes from anybody.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    old_digest = models.CharField(max_length=64, blank=True)
    old_until = models.DateTimeField(null=True, blank=True)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_day = models.PositiveBigIntegerField(null=True, blank=True)
    tokens_per_month = models.PositiveBigIntegerField(null=True, blank=True)
    most_choices = models.PositiveSmallIntegerField(null=True, blank=True)
    most_tokens = models.PositiveIntegerField(null=True, blank=True)
    longest_prompt = models.PositiveIntegerField(null=True, blank=True)  # characters

    def __str__(self) -> str:
        return f"{self.name} (plk_{self.prefix})"

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def live(self) -> bool:
        return self.revoked_at is None and not self.expired

    @property
    def overlapping(self) -> bool:
        """Whether the secret before the last rotation still works."""
        return self.old_until is not None and self.old_until > timezone.now()
