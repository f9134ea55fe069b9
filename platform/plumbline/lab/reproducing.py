"""How a round is done again: what its page shows of that, and the settings file to take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404

from plumbline.loop import reproduce
from plumbline.loop.models import Round, RoundJob
from plumbline.permissions import PlumblineRequest


def settings_file(request: PlumblineRequest, experiment: int, number: int) -> HttpResponse:
    """The experiment's settings and what was recorded of the round, for `manage.py launch`."""
    found = get_object_or_404(
        Round.objects.select_related("experiment__project", "policy_in", "policy_out"),
        experiment__project=request.project,
        experiment=experiment,
        number=number,
    )
    response = JsonResponse(reproduce.download(found), json_dumps_params={"indent": 2})
    name = reproduce.file_name(found)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def context(found: Round, asked: Sequence[RoundJob]) -> dict[str, Any]:
    """What the round's page shows."""
    return {
        "facts": reproduce.facts(found, asked),
        "file": reproduce.file_name(found),
        "launch": reproduce.launch_command(found),
        "train": reproduce.training_command(asked),
    }
