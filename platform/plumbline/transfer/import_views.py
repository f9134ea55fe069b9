"""Votes in: give files, look at what was found in them, import, undo.

The pages only show rows and set them moving; the work is done by a process of its own, and a page
about a file that is being worked on asks again every second.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from plumbline.permissions import PlumblineRequest
from plumbline.transfer import bringing, detecting, undoing, uploads
from plumbline.transfer.import_forms import FileForm, FilesForm, sets
from plumbline.transfer.models import Import, Upload

A_PAGE = 25
State = Upload.State
LATE = "Something else happened to this file meanwhile; this is how it is now."


def imports(request: PlumblineRequest) -> HttpResponse:
    """Files that wait, what was imported, and a form for more."""
    if request.method != "POST":
        return _list(request, FilesForm())
    form = FilesForm(request.POST, request.FILES)
    if not form.is_valid():
        return _list(request, form, status=422)
    said = {name: form.cleaned_data[name] for name in ("format", "set_name", "heldout")}
    said |= {name: form.cleaned_data[name] for name in ("campaign", "source", "licence")}
    made = []
    for file in form.cleaned_data["chosen"]:
        try:
            made.append(
                uploads.receive(
                    request.project, request.user, file.name or "", file.chunks(), **said
                )
            )
        except ValueError as error:
            messages.error(request, f"{file.name}: {error}")
    if len(made) == 1:
        return redirect("import-file", request.project.slug, made[0].pk)
    return redirect("imports", request.project.slug)


def file(request: PlumblineRequest, pk: UUID) -> HttpResponse:
    """What was found in one file, and what to do with it."""
    upload = _find(request, pk)
    if request.method != "POST":
        return _one(request, upload, FileForm(upload))
    do = request.POST.get("do", "")
    if do == "drop":
        if uploads.drop(upload):
            messages.success(request, f"{upload.filename} was dropped; nothing of it is kept.")
            return redirect("imports", request.project.slug)
        messages.warning(request, LATE)
        return redirect("import-file", request.project.slug, pk)
    form = FileForm(upload, request.POST)
    if not form.is_valid():
        return _one(request, upload, form, status=422)
    said = form.cleaned_data
    known = upload.state == State.CHECKED and upload.report.get("whole")
    if do == "check" or said["format"] != upload.format or not known:
        moved = uploads.check(upload, **said)
    else:
        moved = uploads.bring_in(upload, leave_out=do == "import-good", **said)
    if not moved:
        messages.warning(request, LATE)
    return redirect("import-file", request.project.slug, pk)


def undo(request: PlumblineRequest, pk: int) -> HttpResponse:
    """Take an import back."""
    record = get_object_or_404(Import, set__project=request.project, pk=pk)
    try:
        upload = uploads.undo(record, request.user)
    except ValueError as error:
        messages.error(request, f"{record.filename}: {error}")
        return redirect("imports", request.project.slug)
    return redirect("import-file", request.project.slug, upload.pk)


def _list(request: PlumblineRequest, form: FilesForm, status: int = 200) -> HttpResponse:
    waiting = Upload.objects.filter(project=request.project).exclude(
        state__in=(State.DONE, State.UNDONE)
    )
    done = Import.objects.filter(set__project=request.project).select_related("set")
    page = Paginator(done, A_PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {
        "form": form,
        "sets": sets(request.project),
        "waiting": [(one, _title(one.format), one.report) for one in waiting],
        "busy": any(one.busy for one in waiting),
        "page": page,
        "done": [(one, _title(one.format)) for one in page.object_list],
    }
    name = "transfer/imports.html#waiting" if request.htmx else "transfer/imports.html"
    return render(request, name, context, status=status)


def _one(
    request: PlumblineRequest, upload: Upload, form: FileForm, status: int = 200
) -> HttpResponse:
    record, report = upload.made, upload.report
    same = None
    if upload.state == State.CHECKED and report:
        earlier = Import.objects.filter(
            set__project=request.project, format=upload.format, sha256=report["sha256"]
        )
        same = earlier.filter(set__name=upload.set_name).first()
    context: dict[str, Any] = {
        "upload": upload,
        "form": form,
        "sets": sets(request.project),
        "title": _title(upload.format),
        "report": report,
        "good": report.get("rows", 0),
        "progress": bringing.progress(upload) if upload.busy else {},
        "same": same,
        "refusal": undoing.refusal(record) if record and upload.state == State.DONE else "",
    }
    name = "transfer/import.html#live" if request.htmx else "transfer/import.html"
    return render(request, name, context, status=status)


def _title(format: str) -> str:
    return detecting.title(format) if format else ""


def _find(request: PlumblineRequest, pk: UUID) -> Upload:
    return get_object_or_404(
        Upload.objects.select_related("made__set", "project"), project=request.project, pk=pk
    )
