"""A person's own security page: second factor and sessions; and an admin's help for who is locked
out. The steps of the second factor are allauth's, in our templates."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from allauth.account.decorators import reauthentication_required
from allauth.account.views import reauthenticate
from allauth.mfa.base import views as codes
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.views import GenerateRecoveryCodesView, ViewRecoveryCodesView
from allauth.mfa.totp.views import ActivateTOTPView, DeactivateTOTPView
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache

from plumbline.accounts import second_factor, visits
from plumbline.accounts.forms import ResetForm
from plumbline.accounts.models import SecondFactorReset, User
from plumbline.audit.record import record
from plumbline.permissions import PlumblineRequest


def security(request: PlumblineRequest) -> HttpResponse:
    user = request.user
    codes = Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).first()
    on = second_factor.on(user)
    context = {
        "on": on,
        "must": not on and second_factor.must_have(user),
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
        "resets": SecondFactorReset.objects.select_related("by").filter(user=user)[:3],
        "visits": visits.of(user),
        "here": request.session.session_key,
    }
    return render(request, "accounts/security.html", context)


def end_session(request: PlumblineRequest) -> HttpResponse:
    """End one of one's own sessions, or all but this one."""
    which = request.POST.get("which", "")
    if which == "others":
        visits.end_others(request, request.user)
        record("sessions.ended", request.user)
        messages.success(request, "You are signed in only here now.")
    elif which.isdecimal() and len(which) < 19 and visits.end(request.user, int(which)):
        record("session.ended", request.user)
        messages.success(request, "That session has ended.")
    else:
        messages.error(request, "That session is no longer there.")
    return redirect("mfa_index")


def again(request: PlumblineRequest) -> HttpResponse:
    """The password once more, of who has one."""
    if not request.user.has_usable_password():
        return redirect("mfa_index")
    response: HttpResponse = reauthenticate(request)
    return response


def code_again(request: PlumblineRequest) -> HttpResponse:
    """A code once more, of who has no password."""
    if request.user.has_usable_password() or not second_factor.on(request.user):
        return redirect("mfa_index")
    response: HttpResponse = codes.reauthenticate(request)
    return response


def turn_off(request: PlumblineRequest) -> HttpResponse:
    if not second_factor.on(request.user):
        return redirect("mfa_index")
    response: HttpResponse = Deactivate.as_view()(request)
    return response


@never_cache
def recovery_codes(request: PlumblineRequest) -> HttpResponse:
    if not second_factor.on(request.user):
        return redirect("mfa_index")
    response: HttpResponse = RecoveryCodes.as_view()(request)
    return response


class Activate(ActivateTOTPView):  # type: ignore[misc]  # allauth ships no types
    """Sessions from before asked for no code, so they end."""

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response: HttpResponse = super().form_valid(form)
            visits.end_others(self.request, self.request.user)
            record("second_factor.on", self.request.user)
        return response

    def get_context_data(self, **named: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**named)
        secret = context["form"].secret
        groups = " ".join(secret[k : k + 4] for k in range(0, len(secret), 4))
        return {**context, "secret": groups}


class Deactivate(DeactivateTOTPView):  # type: ignore[misc]
    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response: HttpResponse = super().form_valid(form)
            record("second_factor.off", self.request.user)
        return response


class NewRecoveryCodes(GenerateRecoveryCodesView):  # type: ignore[misc]
    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response: HttpResponse = super().form_valid(form)
            record("recovery_codes.made", self.request.user)
        return response


class RecoveryCodes(ViewRecoveryCodesView):  # type: ignore[misc]
    def get_context_data(self, **named: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**named)
        lines = ["Recovery codes for Plumbline, each good for once:", *context["unused_codes"], ""]
        return {**context, "file": quote("\n".join(lines))}


@reauthentication_required(app="allauth.mfa")  # type: ignore[untyped-decorator]
def reset(request: PlumblineRequest, user: int) -> HttpResponse:
    """Take the second factor off a member who lost it."""
    member = get_object_or_404(User, pk=user, membership__project=request.project)
    allowed = second_factor.may_reset(request.user, member)
    form = ResetForm(request.POST or None)
    if allowed and request.method == "POST" and form.is_valid():
        try:
            second_factor.reset(member, form.cleaned_data["reason"], request.user)
        except ValueError as refused:
            messages.warning(request, str(refused))
        else:
            messages.success(request, f"{member} signs in without a second factor now.")
        return redirect("members", request.project.slug)
    status = 403 if not allowed else 422 if form.errors else 200
    context = {"member": member, "allowed": allowed, "form": form}
    return render(request, "accounts/reset_factor.html", context, status=status)
