"""Sign-in, the projects a person belongs to, members, invitations and API keys."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A stale form: say so and keep what was typed in the browser's own history."""
    return render(request, "errors/csrf.html", status=403)
