"""One's own data: what there is, a copy of it, and the wish to be forgotten; and for admins who
wishes it, and how they carry it out.

A person belongs to all their projects, so an admin may do so only where all of these are theirs;
for others an operator has `manage.py forget`.
"""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from plumbline.accounts import second_factor
from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.operations import farewells, own_data
from plumbline.operations.farewell_forms import ForgetForm, ForgetMeForm
from plumbline.operations.models import WITHIN, Farewell
from plumbline.permissions import PlumblineRequest
from plumbline.transfer.views import in_pieces


@never_cache
def own(request: PlumblineRequest) -> HttpResponse:
    context = {"kept": own_data.counts(request.user), **_wish(request.user)}
    return render(request, "operations/own_data.html", context)


def download(request: PlumblineRequest) -> HttpResponseBase:
    """All of it as a file."""
    record("own_data.downloaded", request.user)
    return StreamingHttpResponse(
        in_pieces(own_data.download(request.user)),
        content_type="application/json; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="plumbline-{timezone.now():%Y%m%d}.json"',
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        },
    )


@never_cache
@sensitive_post_parameters()
def forget_me(request: PlumblineRequest) -> HttpResponse:
    """What being forgotten means, and the wish for it."""
    form = ForgetMeForm(request, request.POST or None)
    if request.method == "POST" and form.is_valid():
        farewells.ask(request.user, withdraw_votes=form.cleaned_data["withdraw_votes"])
        messages.success(request, "Your wish is noted. You can withdraw it until it is done.")
        return redirect("own-data")
    context = {
        "form": form,
        "goes": farewells.GOES,
        "stays": farewells.STAYS,
        "days": WITHIN.days,
        **_wish(request.user),
    }
    status = 422 if form.errors else 200
    return render(request, "operations/forget_me.html", context, status=status)


def stay(request: PlumblineRequest) -> HttpResponse:
    """Withdraw the wish."""
    if farewells.withdraw(request.user):
        messages.success(request, "Your wish is withdrawn. Everything stays as it is.")
    else:
        messages.info(request, "There is no wish of yours to withdraw.")
    return redirect("own-data")


@never_cache
def wishes(request: PlumblineRequest) -> HttpResponse:
    """Members of the project who ask to be forgotten."""
    found = farewells.open_wishes().filter(user__membership__project=request.project)
    lines = [
        {
            "wish": wish,
            "due": wish.due,
            "late": wish.due < timezone.now(),
            "mine": second_factor.may_reset(request.user, wish.user),
            "hinders": _hinders(wish.user),
        }
        for wish in found
    ]
    return render(request, "operations/wishes.html", {"lines": lines})


@reauthentication_required(app="allauth.mfa")  # type: ignore[untyped-decorator]
def forget(request: PlumblineRequest, user: int) -> HttpResponse:
    """Carry out what a member asked for."""
    member = get_object_or_404(User, pk=user, membership__project=request.project)
    wish = farewells.open_wishes().filter(user=member).first()
    allowed = second_factor.may_reset(request.user, member)
    hinders = _hinders(member)
    may = wish is not None and allowed and not hinders
    form = ForgetForm(member, request.POST or None)
    if may and request.method == "POST" and form.is_valid():
        reason, votes = form.cleaned_data["reason"], form.cleaned_data["withdraw_votes"]
        try:
            done = farewells.forget(
                member, actor=request.user, reason=reason, withdraw_votes=votes, asked=True
            )
        except ValueError as refused:
            messages.warning(request, str(refused))
        else:
            messages.success(request, f"Done: that account is {done.done['name']} from now on.")
        return redirect("wishes", request.project.slug)
    if wish is not None and wish.withdraw_votes:
        form.fields["withdraw_votes"].initial = True
    context = {
        "member": member,
        "wish": wish,
        "allowed": allowed,
        "hinders": hinders,
        "may": may,
        "form": form,
        "stays": farewells.STAYS,
    }
    status = 403 if not allowed else 422 if form.errors else 200
    return render(request, "operations/forget_member.html", context, status=status)


def _wish(user: User) -> dict[str, Any]:
    wish: Farewell | None = farewells.open_wishes().filter(user=user).first()
    return {"wish": wish, "hinders": _hinders(user)}


def _hinders(user: User) -> str:
    """A sentence where the person cannot be forgotten as things are."""
    try:
        farewells.check(user)
    except ValueError as refused:
        return str(refused)
    return ""
