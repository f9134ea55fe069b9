"""What a round's page tells of decisions: those on its policy, retracted votes, rebuilds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect

from plumbline.audit.record import record
from plumbline.loop import decisions, folder, lineage, rebuilding
from plumbline.loop.models import Round
from plumbline.permissions import PlumblineRequest


def about(round: Round) -> dict[str, Any]:
    """For the templates that the page includes."""
    tainted = lineage.tainted(round.experiment.project)
    return {
        "decisions": decisions.history([round.policy_out]) if round.policy_out else [],
        "taint": next((one for one in tainted if one.round.pk == round.pk), None),
        "same_weights": rebuilding.same_weights(round),
    }


def export(
    request: PlumblineRequest, experiment: int, number: int
) -> StreamingHttpResponse | HttpResponse:
    """The round as a tar: config, data, figures, weights and a model card."""
    round = get_object_or_404(
        Round.objects.select_related(
            "experiment__project", "experiment__start", "policy_in", "policy_out", "reward_model"
        ),
        experiment__project=request.project,
        experiment=experiment,
        number=number,
    )
    pieces = folder.tar(round)
    try:
        first = next(pieces)  # what is wrong is found before anything is sent
    except ValueError as error:
        return _refused(request, round, str(error))
    record("export.downloaded", round, project=request.project, format="folder")
    body: Iterator[bytes] = chain([first], pieces)
    response = StreamingHttpResponse(body, content_type="application/x-tar")
    response["Content-Disposition"] = f'attachment; filename="{folder.name(round)}.tar"'
    return response


def _refused(request: PlumblineRequest, round: Round, why: str) -> HttpResponse:
    messages.error(request, f"Not exported: {why.rstrip('.')}.")
    return redirect("round", request.project.slug, round.experiment_id, round.number)
