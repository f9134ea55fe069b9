"""What client apps said, for researchers, and putting it before a campaign's people."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Avg, Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render

from plumbline.accounts.models import Project
from plumbline.collect import campaigns
from plumbline.gateway import review
from plumbline.gateway.models import Feedback
from plumbline.permissions import PlumblineRequest

MOST_KEYS, MOST_COMMENTS = 25, 20


class FillForm(forms.Form):
    most = forms.IntegerField(
        label="Comparisons",
        min_value=1,
        max_value=review.MOST,
        initial=100,
        help_text="At most; the oldest first.",
        error_messages={
            "required": "Comparisons: say how many.",
            "invalid": "Comparisons must be a whole number.",
            "min_value": f"Comparisons must be between 1 and {review.MOST}.",
            "max_value": f"Comparisons must be between 1 and {review.MOST}.",
        },
    )
    each = forms.IntegerField(
        label="Of one user, at most",
        required=False,
        min_value=1,
        max_value=review.MOST,
        help_text="In this campaign, however often it is filled: nobody’s taste is asked about "
        "alone then. Of an app that names no users, of its key. Empty: no limit.",
        error_messages={
            "invalid": "Of one user: a whole number, or nothing.",
            "min_value": f"Of one user: between 1 and {review.MOST}, or nothing.",
            "max_value": f"Of one user: between 1 and {review.MOST}, or nothing.",
        },
    )


def fill(request: PlumblineRequest, campaign: int) -> HttpResponse:
    """Add comparisons from what clients said with consent."""
    row = campaigns.find(request, campaign)
    form = FillForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            most, each = form.cleaned_data["most"], form.cleaned_data["each"] or 0
            done = review.fill(row, most, random.SystemRandom(), each)
        except ValueError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, told(done))
            return redirect("campaign-manage", request.project.slug, row.pk)
    waiting = review.waiting(request.project)
    context = {
        **campaigns.frame(row, "fill"),
        "form": form,
        "waiting": waiting,
        "some": any(count for _, count in waiting),
        "keys": by_key(request.project),
        "comments": Feedback.objects.filter(project=request.project)
        .exclude(comment="")
        .select_related("user")
        .order_by("-created_at")[:MOST_COMMENTS],
    }
    status = 422 if form.is_bound else 200
    return render(request, "gateway/feedback.html", context, status=status)


def told(done: review.Done) -> str:
    """What filling did, in a sentence or a few."""
    said = [f"{done.made} {'comparison is' if done.made == 1 else 'comparisons are'} added."]
    if done.asked:
        said.append(f"{done.asked} had been asked about already.")
    if done.beyond:
        said.append(f"{done.beyond} are beyond what one user may have asked about here.")
    if done.raised:
        said.append(f"{done.raised} signals moved comparisons forward.")
    if done.left:
        said.append(
            f"{done.left} cannot be asked here: a text is missing, the answers are the same, or "
            "the prompt is of the other split."
        )
    return " ".join(said)


def by_key(project: Project) -> list[Mapping[str, Any]]:
    """Each kind of signal with its figures, the most frequent first."""
    found = Feedback.objects.filter(project=project).values("key")
    figures = found.annotate(
        n=Count("pk"),
        score=Avg("score"),
        consented=Count("pk", filter=Q(consent_train=True)),
        used=Count("comparison"),
    )
    return [*figures.order_by("-n", "key")[:MOST_KEYS]]
