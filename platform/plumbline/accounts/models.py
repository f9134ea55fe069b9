"""People, projects and keys. A project isolates everything below it; a role is held per project."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q


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


class Project(models.Model):
    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="projects")

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


class Scope(models.TextChoices):
    INFER = "infer", "Query policies"
    FEEDBACK = "feedback", "Send feedback"
    MANAGE = "manage", "Manage the project"


class ApiKey(models.Model):
    """A client app's key: `plk_<prefix>_<secret>`. The secret is shown once; its keyed digest
    (HMAC-SHA-256 under SECRET_KEY) is what is stored."""

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

    def __str__(self) -> str:
        return f"{self.name} (plk_{self.prefix})"
