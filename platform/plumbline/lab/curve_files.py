"""A chart's figures at every logged step, as CSV. Long runs are streamed, never held in memory."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.http import Http404, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.text import slugify

from plumbline.fleet.models import Job
from plumbline.lab import curves
from plumbline.loop.models import RoundJob
from plumbline.permissions import PlumblineRequest

PIECE = 1 << 16  # characters that are sent at once


def of_round(request: PlumblineRequest, experiment: int, number: int) -> StreamingHttpResponse:
    """`?chart=train:loss`: what the round's job for that purpose logged."""
    purpose, _, chart = request.GET.get("chart", "").rpartition(":")
    asked = get_object_or_404(
        RoundJob.objects.select_related("job"),
        round__experiment__project=request.project,
        round__experiment=experiment,
        round__number=number,
        purpose=purpose,
    )
    return _download(asked.job, chart)


def of_job(request: PlumblineRequest, pk: UUID) -> StreamingHttpResponse:
    """`?chart=train:loss`; before the colon stands what the job does, or nothing."""
    found = get_object_or_404(Job, project=request.project, pk=pk)
    return _download(found, request.GET.get("chart", "").rpartition(":")[2])


def _download(job: Job, chart: str) -> StreamingHttpResponse:
    try:
        heading, rows = curves.rows(job, chart)
    except ValueError as error:
        raise Http404(str(error)) from error
    response = StreamingHttpResponse(
        _pieces(itertools.chain([heading], rows)), content_type="text/csv; charset=utf-8"
    )
    name = slugify(f"{job.title} {chart}".replace("/", " "))
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def _pieces(rows: Iterable[list[Any]]) -> Iterator[str]:
    written = io.StringIO()
    writer = csv.writer(written)
    for row in rows:
        writer.writerow(row)
        if written.tell() > PIECE:
            yield written.getvalue()
            written.seek(0)
            written.truncate()
    yield written.getvalue()
