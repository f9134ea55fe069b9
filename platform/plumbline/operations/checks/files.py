"""Run folders, files on their way in and kept scores against the rows that name them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from django.conf import settings

from plumbline.fleet.models import Job
from plumbline.operations.check import Check, Finding
from plumbline.policies.models import RewardModel
from plumbline.transfer.models import Upload

YOUNG = 900.0  # seconds for which a file may be there before its row is
State = Upload.State
NEEDED = (State.CHECKING, State.CHECKED, State.WRITING)


class FilesCheck(Check):
    title = "Every file has its row, and every row that needs a file has it."

    def look(self) -> Iterator[Finding]:
        for path in strays():
            yield self.found(
                path,
                f"No row names {path}.",
                "`manage.py retain --delete` removes it, once it is older than a day.",
            )
        open_jobs = Job.objects.filter(state__in=(Job.State.QUEUED, Job.State.RUNNING))
        for job in open_jobs.iterator():
            self.seen += 1
            if not (job.folder / "job.json").is_file():
                yield self.found(
                    job.pk,
                    f"The job {job} has no folder at {job.folder}, so nobody can do it.",
                    "Cancel it on its page and try its round again.",
                )
        for upload in Upload.objects.filter(state__in=NEEDED).iterator():
            self.seen += 1
            if not upload.path.is_file():
                yield self.found(
                    upload.pk,
                    f"The uploaded file {upload.filename} is not at {upload.path}.",
                    "Drop it on the page Data and upload it again.",
                )


def strays(older: float = YOUNG) -> Iterator[Path]:
    """What lies in the folders of runs, uploads and scores that no row names, by name."""
    before = time.time() - older
    jobs = set(Job.objects.values_list("pk", flat=True))
    yield from (path for path in _entries(settings.RUNS_DIR, before) if _id(path) not in jobs)
    uploads = set(Upload.objects.values_list("pk", flat=True))
    yield from (path for path in _entries(settings.UPLOADS_DIR, before) if _id(path) not in uploads)
    scored = [path for path in _entries(settings.SCORES_DIR, before) if path.suffix == ".jsonl"]
    if scored:
        known = set(RewardModel.objects.values_list("sha256", flat=True)) | set(_in_runs())
        yield from (path for path in scored if path.name[:64] not in known)


def _entries(folder: Path, before: float) -> list[Path]:
    """What lies there since before some time; nothing where there is no folder."""
    found = []
    for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
        try:
            if path.lstat().st_mtime < before:
                found.append(path)
        except FileNotFoundError:  # it has just gone
            continue
    return found


def _id(path: Path) -> UUID | None:
    """The row's id in a name: of a folder, a file, or what lies beside a file."""
    try:
        return UUID(path.name.partition(".")[0])
    except ValueError:
        return None


def _in_runs() -> Iterator[str]:
    """Hashes of weights whose job has ended and whose row is not there yet, or that have none."""
    for path in Path(settings.RUNS_DIR).glob("*/weights/manifest.json"):
        try:
            yield str(json.loads(path.read_bytes())["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
