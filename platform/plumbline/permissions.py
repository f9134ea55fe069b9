"""Who may call what: one table, deny by default, enforced before any view runs.

A URL name without a row here answers 404 to everyone, and a test enumerates the resolver against
the table. Inside a project (`<slug:project>` in the URL) strangers get 404, members whose role is
too low get 403. Views read `request.project` and `request.role`; they never check roles themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import SlugField
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from plumbline.accounts import second_factor
from plumbline.accounts.models import RANK, Membership, Project, Role, User
from plumbline.audit import record
from plumbline.compiled import Compiled, Given, given_id

PUBLIC = "public"
SIGNED_IN = "signed in"
ANNOTATOR, RESEARCHER, ADMIN = Role.ANNOTATOR, Role.RESEARCHER, Role.ADMIN

# URL name -> method -> least access. HEAD follows GET.
TABLE: dict[str, dict[str, str]] = {
    # accounts
    "home": {"GET": SIGNED_IN},
    "sign-in-link": {"GET": PUBLIC, "POST": PUBLIC},
    "accept-invitation": {"GET": PUBLIC, "POST": PUBLIC},
    "account_login": {"GET": PUBLIC, "POST": PUBLIC},
    "account_logout": {"GET": SIGNED_IN, "POST": PUBLIC},  # also instead of a code
    "account_change_password": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "account_reauthenticate": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_index": {"GET": SIGNED_IN},
    "session-end": {"POST": SIGNED_IN},
    "mfa_authenticate": {"GET": PUBLIC, "POST": PUBLIC},
    "mfa_reauthenticate": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_activate_totp": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_deactivate_totp": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "mfa_view_recovery_codes": {"GET": SIGNED_IN},
    "mfa_generate_recovery_codes": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "health": {"GET": PUBLIC},
    "project": {"GET": ANNOTATOR},
    "members": {"GET": ADMIN},
    "invite": {"POST": ADMIN},
    "member-factor-reset": {"GET": ADMIN, "POST": ADMIN},
    "keys": {"GET": RESEARCHER},
    "key-create": {"POST": RESEARCHER},
    "key": {"GET": RESEARCHER, "POST": RESEARCHER},
    "key-rotate": {"POST": RESEARCHER},
    "key-revoke": {"POST": RESEARCHER},
    # gateway
    "usage": {"GET": RESEARCHER},
    "usage-charts": {"GET": RESEARCHER},
    "usage-download": {"GET": RESEARCHER},
    "usage-prices": {"POST": ADMIN},
    "chat": {"GET": RESEARCHER},
    "chat-ask": {"POST": RESEARCHER},
    "chat-news": {"GET": RESEARCHER},
    "chat-stop": {"POST": RESEARCHER},
    "chat-say": {"POST": RESEARCHER},
    "routing": {"GET": RESEARCHER},
    "guards": {"GET": RESEARCHER, "POST": RESEARCHER},
    "guard-end": {"POST": RESEARCHER},
    "canary": {"POST": RESEARCHER},
    "canary-end": {"POST": RESEARCHER},
    "shadow": {"POST": RESEARCHER},
    "shadow-end": {"POST": RESEARCHER},
    "objective": {"POST": RESEARCHER},
    "objective-end": {"POST": RESEARCHER},
    # collect
    "campaign": {"GET": ANNOTATOR},
    "claim": {"POST": ANNOTATOR},
    "my-answers": {"GET": ANNOTATOR},
    "campaign-leave": {"POST": ANNOTATOR},
    "ballot": {"GET": ANNOTATOR, "POST": ANNOTATOR},
    "ballot-draft": {"POST": ANNOTATOR},
    "ballot-changes": {"POST": ANNOTATOR},
    "ballot-difference": {"GET": ANNOTATOR},
    "ballot-skip": {"POST": ANNOTATOR},
    "ballot-flag": {"POST": ANNOTATOR},
    "ballot-reopen": {"POST": ANNOTATOR},
    "ballot-news": {"GET": ANNOTATOR},
    "ballot-again": {"POST": ANNOTATOR},
    "live-write": {"GET": ANNOTATOR, "POST": ANNOTATOR},
    "my-keys": {"GET": ANNOTATOR, "POST": ANNOTATOR},
    "ballot-undo": {"POST": ANNOTATOR},
    "training": {"GET": ANNOTATOR},
    "campaign-invitation": {"GET": PUBLIC, "POST": PUBLIC},
    "campaigns": {"GET": RESEARCHER},
    "campaign-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "campaign-preview": {"POST": RESEARCHER},
    "campaign-manage": {"GET": RESEARCHER},
    "campaign-edit": {"GET": RESEARCHER, "POST": RESEARCHER},
    "campaign-step": {"POST": RESEARCHER},
    "campaign-bring-back": {"POST": RESEARCHER},
    "campaign-versions": {"GET": RESEARCHER},
    "campaign-fill": {"GET": RESEARCHER, "POST": RESEARCHER},
    "campaign-people": {"GET": RESEARCHER},
    "campaign-invite": {"POST": RESEARCHER},
    "campaign-people-change": {"POST": RESEARCHER},
    "comparisons": {"GET": RESEARCHER},
    "comparison": {"GET": RESEARCHER},
    "comparison-overlap": {"POST": RESEARCHER},
    "comparison-teach": {"POST": RESEARCHER},
    "comparison-retire": {"POST": RESEARCHER},
    "campaign-flags": {"GET": RESEARCHER},
    "flag-resolve": {"POST": RESEARCHER},
    "quality": {"GET": RESEARCHER},
    "quality-plant": {"POST": RESEARCHER},
    "quality-person": {"GET": RESEARCHER},
    "quality-place": {"POST": RESEARCHER},
    # gateway
    "campaign-feedback": {"GET": RESEARCHER, "POST": RESEARCHER},
    # transfer
    "export": {"GET": RESEARCHER},
    "export-download": {"GET": RESEARCHER},
    "export-check": {"POST": RESEARCHER},
    "imports": {"GET": RESEARCHER, "POST": RESEARCHER},
    "import-file": {"GET": RESEARCHER, "POST": RESEARCHER},
    "import-undo": {"POST": RESEARCHER},
    # evolve
    "evolutions": {"GET": RESEARCHER},
    "evolution-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "evolution": {"GET": RESEARCHER},
    "evolution-step": {"POST": RESEARCHER},
    "evolution-compare": {"GET": RESEARCHER},
    "evolution-lineage": {"GET": RESEARCHER},
    "evolution-generation": {"GET": RESEARCHER},
    "evolution-csv": {"GET": RESEARCHER},
    "evolution-program": {"GET": RESEARCHER},
    "evolution-program-step": {"POST": RESEARCHER},
    # lab
    "my-work": {"GET": ANNOTATOR},
    "audit": {"GET": ADMIN},
    "experiments": {"GET": RESEARCHER},
    "experiment-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "experiment-estimate": {"POST": RESEARCHER},
    "experiment": {"GET": RESEARCHER},
    "experiment-pause": {"POST": RESEARCHER},
    "experiment-autopilot": {"GET": RESEARCHER, "POST": RESEARCHER},
    "experiment-next": {"POST": RESEARCHER},
    "round": {"GET": RESEARCHER},
    "hierarchy-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "factor-weights": {"GET": RESEARCHER, "POST": RESEARCHER},
    "factor-weights-adopt": {"POST": RESEARCHER},
    "confidence": {"GET": RESEARCHER, "POST": RESEARCHER},
    "confidence-gather": {"POST": RESEARCHER},
    "tastes-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "pool-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "relevance-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "judges": {"GET": RESEARCHER},
    "judge-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "judge": {"GET": RESEARCHER},
    "judge-calibration": {"GET": RESEARCHER},
    "judge-calibrate": {"POST": RESEARCHER},
    "judge-attack": {"POST": RESEARCHER},
    "judge-curve": {"GET": RESEARCHER},
    "judge-edit": {"GET": RESEARCHER, "POST": RESEARCHER},
    "judge-versions": {"GET": RESEARCHER},
    "judge-try": {"POST": RESEARCHER},
    "judge-revise": {"POST": RESEARCHER},
    "judge-revisions": {"GET": RESEARCHER},
    "judge-include": {"POST": RESEARCHER},
    "judge-retire": {"POST": RESEARCHER},
    "judge-endpoints": {"GET": RESEARCHER, "POST": ADMIN},
    "judge-check": {"POST": ADMIN},
    "judge-unask": {"POST": ADMIN},
    "judge-constitutions": {"GET": RESEARCHER, "POST": RESEARCHER},
    "judge-constitution": {"GET": RESEARCHER, "POST": RESEARCHER},
    "judge-principle": {"GET": RESEARCHER, "POST": RESEARCHER},
    "reward-model": {"GET": RESEARCHER},
    "reward-models": {"GET": RESEARCHER},
    "reward-models-download": {"GET": RESEARCHER},
    "disputes": {"GET": RESEARCHER},
    "runs": {"GET": RESEARCHER},
    "runs-download": {"GET": RESEARCHER},
    "runs-diff": {"GET": RESEARCHER},
    "runs-view": {"POST": RESEARCHER},
    "runs-view-drop": {"POST": RESEARCHER},
    "compare": {"GET": RESEARCHER},
    "compare-download": {"GET": RESEARCHER},
    "round-curves": {"GET": RESEARCHER},
    "round-settings": {"GET": RESEARCHER},
    "round-curves-csv": {"GET": RESEARCHER},
    "round-close-labels": {"POST": RESEARCHER},
    "round-folder": {"GET": RESEARCHER},
    "round-cancel": {"POST": RESEARCHER},
    "round-retry": {"POST": RESEARCHER},
    "blend-new": {"GET": RESEARCHER, "POST": RESEARCHER},
    "blend-csv": {"GET": RESEARCHER},
    "answers": {"GET": RESEARCHER},
    "answers-read": {"POST": RESEARCHER},
    "answers-check": {"POST": RESEARCHER},
    "policies": {"GET": RESEARCHER},
    "policy": {"GET": RESEARCHER},
    "policy-hold": {"POST": RESEARCHER},
    "policy-votes": {"GET": RESEARCHER},
    "lineage": {"GET": RESEARCHER},
    "vote": {"GET": RESEARCHER},
    "retractions": {"GET": RESEARCHER, "POST": RESEARCHER},
    "retraction-undo": {"POST": RESEARCHER},
    "experiment-rebuild": {"POST": RESEARCHER},
    "policy-promote": {"POST": RESEARCHER},
    "policy-reject": {"POST": RESEARCHER},
    "policy-rollback": {"POST": RESEARCHER},
    "jobs": {"GET": RESEARCHER},
    "job": {"GET": RESEARCHER},
    "job-curves": {"GET": RESEARCHER},
    "job-curves-csv": {"GET": RESEARCHER},
    "job-log": {"GET": RESEARCHER},
    "workers": {"GET": RESEARCHER},
    "workers-engines": {"GET": RESEARCHER},
    "job-cancel": {"POST": RESEARCHER},
    # operations
    "health-page": {"GET": ADMIN},
    "health-engines": {"GET": ADMIN},
    "own-data": {"GET": SIGNED_IN},
    "own-data-download": {"POST": SIGNED_IN},
    "forget-me": {"GET": SIGNED_IN, "POST": SIGNED_IN},
    "forget-me-not": {"POST": SIGNED_IN},
    "wishes": {"GET": ADMIN},
    "member-forget": {"GET": ADMIN, "POST": ADMIN},
}

# Of a file with people's words: whatever opens it runs and loads nothing and is of no origin.
OF_FILES = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)

# What remains open to who must have a second factor and has none yet.
WITHOUT_FACTOR = ("account_", "mfa_", "session-end")

MEMBERSHIP = Compiled(
    lambda: Membership.objects.select_related("project").filter(
        project__slug=Given("project", SlugField()), user=given_id("user")
    )
)


class PlumblineRequest(HttpRequest):
    """A request that passed the table: signed in where that is asked, with its project and role."""

    user: User
    htmx: HtmxDetails
    project: Project
    role: Role


def allows(role: str, least: str) -> bool:
    return RANK[Role(role)] >= RANK[Role(least)]


class PermissionMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pages are somebody's own, and their nonces are good for one answer: nobody keeps them."""
        with record.acting(record.NOBODY):  # until `process_view` knows who it is
            response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if response.headers.get("Content-Disposition", "").startswith("attachment"):
            response.headers.setdefault("Content-Security-Policy", OF_FILES)
        return response

    def process_view(
        self, request: Any, view: object, args: object, kwargs: dict[str, Any]
    ) -> HttpResponseBase | None:
        """Answer for the view when the table does not let this request through."""
        name = request.resolver_match.view_name
        methods = TABLE.get(name)
        if methods is None:
            raise Http404
        method = "GET" if request.method == "HEAD" else request.method
        least = methods.get(method)
        if least is None:
            return HttpResponseNotAllowed(list(methods))
        known = least != PUBLIC or method == "POST"  # public pages are read by anybody
        if known and request.user.is_authenticated:
            record.become(f"user:{request.user.pk}")
        if least == PUBLIC:
            return None
        if not request.user.is_authenticated:
            return redirect_to_login(_page_of(request, "GET" in methods))
        role = None
        if least != SIGNED_IN:
            self._enter_project(request, kwargs.pop("project"), least)
            role = request.role
        if not name.startswith(WITHOUT_FACTOR) and second_factor.missing(request.user, role):
            return redirect("mfa_index")
        return None

    def _enter_project(self, request: Any, slug: str, least: str) -> None:
        membership = MEMBERSHIP.first(project=slug, user=request.user.pk)
        if membership is None:
            raise Http404
        if not allows(membership.role, least):
            raise PermissionDenied
        request.project, request.role = membership.project, Role(membership.role)


def _page_of(request: HttpRequest, readable: bool) -> str:
    """Where to go after signing in: the page asked for, or the one it was asked from where only a
    form can ask for it."""
    if readable:
        return request.get_full_path()
    before = request.headers.get("Referer", "")
    known = url_has_allowed_host_and_scheme(
        before, {request.get_host()}, require_https=request.is_secure()
    )
    return urlsplit(before).path if known else "/"
