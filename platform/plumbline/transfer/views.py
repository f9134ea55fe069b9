"""Votes out: choose, look at the first rows, download as a stream; and check a file.

Everything on the page is in its address, so that an export can be sent to somebody as a link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone

from plumbline.audit.record import record
from plumbline.permissions import PlumblineRequest
from plumbline.transfer import formats, stream
from plumbline.transfer.forms import ExportForm, FileForm

SHOWN_PROBLEMS, MOST_LINES = 20, 200_000  # of a file that is checked on the page
PIECE = 1 << 16  # characters that are sent at once


def export(request: PlumblineRequest) -> HttpResponse:
    """What to export and how, with its first rows and what is left out."""
    return _page(request, ExportForm(request.project, request.GET), FileForm())


def download(request: PlumblineRequest) -> HttpResponseBase:
    """The rows as JSON lines, written while they are read."""
    form = ExportForm(request.project, request.GET)
    if not form.is_valid():
        return _page(request, form, FileForm(), status=422)
    lines = stream.lines(form.export(), form.exporter)
    record("export.downloaded", project=request.project, format=form.name)
    name = f"{request.project.slug}-{form.name}-{timezone.now():%Y%m%d-%H%M}.jsonl"
    return StreamingHttpResponse(
        in_pieces(lines),
        content_type="application/jsonl; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        },
    )


def check(request: PlumblineRequest) -> HttpResponse:
    """The lines and fields of a file that are wrong."""
    chosen, form = ExportForm(request.project, request.GET), FileForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, chosen, form, status=422)
    file = form.cleaned_data["file"]
    with NamedTemporaryFile() as copy:
        for piece in file.chunks():
            copy.write(piece)
        copy.flush()
        against = formats.find(form.cleaned_data["against"])
        checked = stream.validate(Path(copy.name), against, SHOWN_PROBLEMS, MOST_LINES)
    return _page(request, chosen, form, checked=(file.name, checked))


def in_pieces(lines: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """Lines put together, because each piece costs a write to the network."""
    waiting: list[str] = []
    length = 0
    for line in lines:
        waiting.append(line)
        length += len(line)
        if length >= size:
            yield "".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield "".join(waiting)


def _page(
    request: PlumblineRequest,
    form: ExportForm,
    file: FileForm,
    *,
    checked: tuple[str, stream.Checked] | None = None,
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "file": file, "checked": checked}
    if form.is_valid():
        preview = stream.preview(form.export(), form.exporter)
        context["preview"] = preview
        context["rows"] = [stream.pretty(row) for row in preview.shown]
        context["query"] = form.query.urlencode()
    name = "transfer/export.html#chosen" if request.htmx else "transfer/export.html"
    return render(request, name, context, status=status)
