"""Which tab of a project's bar is the one that a page stands under."""

from __future__ import annotations

from django import template
from django.http import HttpRequest

register = template.Library()

# By the beginning of a page's address below the project's.
TABS = {
    "campaigns": ("campaigns/",),
    "experiments": (
        *("lab/experiments/", "lab/rounds/", "lab/compare/", "lab/reward-models/", "lab/blends/"),
    ),
    "judges": ("lab/judges/",),
    "programs": ("evolve/",),
    "policies": ("lab/policies/", "lab/votes/", "lab/retractions/", "routing/"),
    "answers": ("lab/answers/",),
    "chat": ("chat/",),
    "jobs": ("lab/jobs/", "lab/workers/", "health/"),
    "data": ("data/",),
    "members": ("members/", "lab/audit/"),
    "keys": ("keys/", "usage/"),
    "my-work": ("lab/my-work/",),
}


@register.filter
def tab(request: HttpRequest) -> str:
    """A name of TABS, "project" for the project's own page, "" where no tab is the right one."""
    below = request.path_info.removeprefix("/").split("/", 2)[2:]  # /p/<project>/...
    if not below or not below[0]:
        return "project"
    return next((name for name, starts in TABS.items() if below[0].startswith(starts)), "")
