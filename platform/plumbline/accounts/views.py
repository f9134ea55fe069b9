"""Sign-in, the projects a person belongs to, members and invitations."""

from __future__ import annotations

import sys

from allauth.account.utils import perform_login
from django.contrib import messages
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from sesame.utils import get_user

from plumbline.accounts import guesses, invitations, second_factor, trouble, visits
from plumbline.accounts.forms import ChangePasswordForm, InviteForm, JoinForm
from plumbline.accounts.models import Invitation, Membership, User
from plumbline.audit.record import record
from plumbline.permissions import PlumblineRequest


def home(request: PlumblineRequest) -> HttpResponse:
    """A person's projects; with just one, that one."""
    memberships = list(
        Membership.objects.select_related("project")
        .filter(user=request.user)
        .order_by("project__name")
    )
    if len(memberships) == 1:
        return redirect("project", memberships[0].project.slug)
    return render(request, "accounts/home.html", {"memberships": memberships})


@never_cache
def sign_in_link(request: HttpRequest) -> HttpResponse:
    """A link from an operator. Opening it changes nothing, so that a mail scanner's prefetch does
    not sign in; the button does."""
    token = request.GET.get("sesame", "")
    if guesses.too_many_links(request):
        return too_many(request)
    user = get_user(token, update_last_login=False) if token else None
    if not isinstance(user, User):
        guesses.wrong_link(request)
        return render(request, "accounts/link_expired.html", status=404)
    if request.method == "POST":
        user.backend = "plumbline.accounts.backends.ByLink"
        response: HttpResponse = perform_login(request, user)  # asks for the second factor
        return response
    return render(request, "accounts/sign_in_link.html", {"person": user})


@never_cache
@sensitive_post_parameters("password1", "password2")
def accept_invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Join a project: as who is signed in, or as a new person."""
    if guesses.too_many_links(request):
        return too_many(request)
    invitation = invitations.find(token)
    if invitation is None:
        guesses.wrong_link(request)
        return render(request, "accounts/link_expired.html", {"invitation": True}, status=404)
    if isinstance(request.user, User):
        return _join_as(request, invitation, request.user)
    form = JoinForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                user = form.save()
                invitations.accept(invitation, user)
        except (ValueError, IntegrityError):  # somebody was faster with the link, or with the name
            return redirect(request.path)
        visits.begin(request, user)
        return redirect("project", invitation.project.slug)
    status = 422 if form.errors else 200
    context = {"invitation": invitation, "form": form}
    return render(request, "accounts/accept_invitation.html", context, status=status)


def _join_as(request: HttpRequest, invitation: Invitation, user: User) -> HttpResponse:
    if request.method != "POST":
        return render(request, "accounts/accept_invitation.html", {"invitation": invitation})
    try:
        invitations.accept(invitation, user)
    except ValueError as refused:
        messages.warning(request, str(refused))
    return redirect("home")


@sensitive_post_parameters()
def change_password(request: PlumblineRequest) -> HttpResponse:
    """For somebody who came by a link, choosing a first password; else changing it."""
    form: SetPasswordForm[User]
    if request.user.has_usable_password():
        form = ChangePasswordForm(request, request.POST or None)
    else:
        form = SetPasswordForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            form.save()
            visits.end_others(request, request.user)
            record("password.changed", request.user, actor=request.user)
        messages.success(request, "Your password is changed. You are signed in only here now.")
        return redirect("home")
    status = 422 if form.errors else 200
    return render(request, "account/password_change.html", {"form": form}, status=status)


def health(request: HttpRequest) -> JsonResponse:
    """Whether this process answers and reaches the database; for load balancers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def members(request: PlumblineRequest) -> HttpResponse:
    return _members(request, InviteForm())


@never_cache
def invite(request: PlumblineRequest) -> HttpResponse:
    """A new invitation; its link is on this answer and nowhere else."""
    form = InviteForm(request.POST)
    if not form.is_valid():
        return _members(request, form, status=422)
    try:
        guesses.inviting(request.user.pk)
    except guesses.TooMany:
        return too_many(request)
    _, token = invitations.create(request.project, form.cleaned_data["role"], request.user)
    link = request.build_absolute_uri(reverse("accept-invitation", args=[token]))
    return _members(request, InviteForm(), link=link)


def _members(
    request: PlumblineRequest, form: InviteForm, *, link: str = "", status: int = 200
) -> HttpResponse:
    open_invitations = Invitation.objects.filter(
        project=request.project, accepted_by=None, expires_at__gt=timezone.now()
    )
    context = {
        "memberships": Membership.objects.select_related("user")
        .filter(project=request.project)
        .order_by("user__username"),
        "invitations": open_invitations.select_related("created_by").order_by("-created_at"),
        "secured": second_factor.of_members(request.project),
        "form": form,
        "link": link,
    }
    return render(request, "accounts/members.html", context, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "errors/400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "errors/403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "errors/404.html", status=404)


def too_many(request: HttpRequest) -> HttpResponse:
    response = render(request, "errors/429.html", status=429)
    response["Retry-After"] = str(guesses.LINKS.seconds)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Asks the database nothing: it may be what broke."""
    request.user = AnonymousUser()
    if trouble.passing(sys.exc_info()[1]):
        return trouble.come_back(request)
    return render(request, "errors/500.html", status=500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A stale form: say so and keep what was typed in the browser's own history."""
    return render(request, "errors/csrf.html", status=403)
