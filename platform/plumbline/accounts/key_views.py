"""Pages of API keys: the list, a key's own page with its limits, and what ends or renews it."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache

from plumbline.accounts import keys
from plumbline.accounts.forms import KeyForm, KeyLimitsForm, RotateForm
from plumbline.accounts.models import ApiKey
from plumbline.audit.record import record
from plumbline.permissions import PlumblineRequest


def api_keys(request: PlumblineRequest) -> HttpResponse:
    return _keys(request, KeyForm())


@never_cache
def create(request: PlumblineRequest) -> HttpResponse:
    """A new key; its secret is on this answer and nowhere else."""
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _keys(request, form, status=422)
    wanted = form.cleaned_data
    key, secret = keys.create(
        request.project, wanted["name"], wanted["scopes"], request.user, wanted["expires"]
    )
    return _keys(request, KeyForm(), key=key, secret=secret)


def _keys(
    request: PlumblineRequest,
    form: KeyForm,
    *,
    key: ApiKey | None = None,
    secret: str = "",
    status: int = 200,
) -> HttpResponse:
    existing = request.project.api_keys.select_related("created_by").order_by("-created_at")
    context = {"keys": existing, "form": form, "new": key, "secret": secret}
    return render(request, "accounts/keys.html", context, status=status)


def key_page(request: PlumblineRequest, key: int) -> HttpResponse:
    """One key: its limits, to be seen and changed."""
    row = _own(request, key)
    form = KeyLimitsForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            # These columns alone: a revocation or a new secret of the same moment stays.
            form.save(commit=False).save(update_fields=form._meta.fields)
            record("key.limited", row, project=request.project, changed=form.changed_data)
        messages.success(request, "Saved. The gateway goes by it within two seconds.")
        return redirect("key", request.project.slug, row.pk)
    return _key(request, row, form, status=422 if form.errors else 200)


@never_cache
def rotate(request: PlumblineRequest, key: int) -> HttpResponse:
    """A new secret for the key; it is on this answer and nowhere else."""
    row = _own(request, key)
    form = RotateForm(request.POST)
    if not form.is_valid():
        return _key(request, row, KeyLimitsForm(instance=row), rotating=form, status=422)
    try:
        secret = keys.rotate(row, timedelta(hours=form.cleaned_data["overlap"]))
        if form.cleaned_data["overlap"] == 0:
            keys.forgotten()
    except ValueError as refused:
        messages.error(request, str(refused))
        return redirect("key", request.project.slug, row.pk)
    row.refresh_from_db()
    return _key(request, row, KeyLimitsForm(instance=row), secret=secret)


def _key(
    request: PlumblineRequest,
    row: ApiKey,
    form: KeyLimitsForm,
    *,
    rotating: RotateForm | None = None,
    secret: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "key": row,
        "form": form,
        "rotating": rotating or RotateForm(),
        "secret": secret,
    }
    return render(request, "accounts/key.html", context, status=status)


def revoke(request: PlumblineRequest, key: int) -> HttpResponse:
    row = _own(request, key)
    if keys.revoke(row):
        keys.forgotten()  # so that "is revoked" is true of the very next request
    messages.success(request, f"“{row.name}” is revoked.")
    return redirect("keys", request.project.slug)


def _own(request: PlumblineRequest, key: int) -> ApiKey:
    return get_object_or_404(ApiKey, pk=key, project=request.project)
