"""The page of an alias's guards: what is watched after it moves, what was seen, what was done."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from plumbline.audit.record import record
from plumbline.gateway import guarding, suspicion
from plumbline.permissions import PlumblineRequest
from plumbline.policies.models import Deployment, Guard, Look

A_PAGE = 30


class GuardForm(forms.Form):
    metric = forms.ChoiceField(
        label="Figure",
        choices=Guard.Metric.choices,
        help_text="Failed: status 500 and above. Empty: nothing but an end of turn. Length: a "
        "change in either direction.",
    )
    minutes = forms.IntegerField(
        label="Window, minutes",
        min_value=1,
        max_value=60 * 24 * 30,
        initial=1440,
        help_text="How far back requests count, after the move and before it.",
    )
    least = forms.IntegerField(
        label="Least number of requests",
        min_value=20,
        max_value=1_000_000,
        initial=100,
        help_text="On either side; and how many more until the next look. Of thumbs, if those are "
        "watched.",
    )
    margin = forms.FloatField(
        label="Margin, %",
        min_value=0,
        max_value=1000,
        initial=1,
        help_text="A smaller difference changes nothing: points of a share, per cent of a median.",
    )
    tell_only = forms.BooleanField(
        label="Tell only",
        required=False,
        help_text="Show the alarm here and on the policy's page, and leave the alias alone.",
    )


def guards(request: PlumblineRequest, alias: str) -> HttpResponse:
    """The page; a POST adds a guard."""
    deployment = get_object_or_404(
        Deployment.objects.select_related("policy", "previous"),
        project=request.project,
        alias=alias,
    )
    form = GuardForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        fields = {**form.cleaned_data, "margin": form.cleaned_data["margin"] / 100}
        try:
            with transaction.atomic():
                made = Guard.objects.create(
                    deployment=deployment, created_by=request.user, **fields
                )
                record("guard.made", made, project=request.project, alias=alias)
        except IntegrityError:
            form.add_error("metric", "This figure is watched already; end that guard first.")
        else:
            messages.success(request, "It is watched from now on.")
            return redirect("guards", request.project.slug, alias)
    return _page(request, deployment, form, 422 if form.errors else 200)


def end(request: PlumblineRequest, alias: str, pk: int) -> HttpResponse:
    """Watch no longer; what was seen stays."""
    guard = get_object_or_404(
        Guard, pk=pk, deployment__project=request.project, deployment__alias=alias
    )
    open_ones = Guard.objects.filter(pk=guard.pk, ended_at=None)
    with transaction.atomic():
        ended = open_ones.update(ended_at=timezone.now(), ended_by=request.user)
        if ended:
            record("guard.ended", guard, project=request.project, alias=alias)
    if ended:
        messages.success(request, f"{guard.get_metric_display()}: watched no longer.")
    else:
        messages.info(request, "It was ended already.")
    return redirect("guards", request.project.slug, alias)


def _page(
    request: PlumblineRequest, deployment: Deployment, form: GuardForm, status: int
) -> HttpResponse:
    watching = list(deployment.guards.filter(ended_at=None).select_related("created_by"))
    looks = Look.objects.filter(guard__deployment=deployment)
    looks = looks.select_related("guard__deployment", "flip__after", "flip__before")
    page = Paginator(looks, A_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "deployment": deployment,
        "form": form,
        "watching": [(one, guarding.watched(one), one.looks.first()) for one in watching],
        "page": page,
        "looks": [(one, guarding.sentence(one)) for one in page.object_list],
        "alarm": suspicion.ALARM,
    }
    return render(request, "gateway/guards.html", context, status=status)
