"""A person's own keys for the ballot page."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render

from plumbline.collect import keys
from plumbline.collect.ballots import SeeOther
from plumbline.permissions import PlumblineRequest


def my_keys(request: PlumblineRequest) -> HttpResponse:
    """See and change one's keys; an empty row has no key, and all go back at once."""
    if request.method != "POST":
        return render(request, "collect/keys.html", {"rows": keys.bound(request.user), "wrong": ""})
    try:
        own = {} if "reset" in request.POST else keys.read(request.POST)
    except ValueError as wrong:
        rows = [
            keys.Bound(one.action, tuple(request.POST.get(one.action.name, "").split()))
            for one in keys.bound(request.user)
        ]
        context = {"rows": rows, "wrong": str(wrong)}
        return render(request, "collect/keys.html", context, status=422)
    request.user.preferences = {**request.user.preferences, "keys": own}
    request.user.save(update_fields=["preferences"])
    messages.success(request, "Your keys are kept.")
    return SeeOther(request.path)
