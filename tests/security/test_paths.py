"""No text of a client, of a file or of a setting becomes a way to a file that it is not about."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from align import model_folder
from plumbline.operations import archive
from plumbline.permissions import TABLE
from plumbline.policies import manifest
from plumbline.transfer import uploads
from plumbline.transfer.models import Upload
from tests.security.paths import corpus
from tests.security.world import URLS

CANARY = "canary-8c1f0e"
PATHS = corpus()
SOME = PATHS[::5]  # where each costs a page
# Pages that give files, or look one up by a text of an address.
GIVING = [
    name
    for name, methods in TABLE.items()
    if "GET" in methods
    and any(word in name for word in ("download", "csv", "curves", "log", "folder", "export"))
]
FIELDS = ("round", "campaign", "campaigns", "key", "name", "format", "file", "path", "part", "set")


def content(response) -> bytes:
    return b"".join(response) if response.streaming else response.content


@pytest.fixture
def canary(tmp_path, settings, monkeypatch) -> Path:
    """A file beside and above everything, that nobody asked for."""
    settings.HOME = tmp_path / "home"
    for name in ("runs", "uploads", "scores", "rubrics"):
        setattr(settings, f"{name.upper()}_DIR", settings.HOME / name)
        (settings.HOME / name).mkdir(parents=True)
        (settings.HOME / name / "canary").write_text(CANARY)
    for folder in (tmp_path, settings.HOME):
        for name in ("canary", "secret_key"):
            (folder / name).write_text(CANARY)
    monkeypatch.chdir(settings.HOME / "runs")
    return tmp_path


def test_the_corpus_is_large():
    assert len(PATHS) > 1000


@pytest.mark.django_db
def test_no_query_of_a_download_is_a_path(canary, world, callers, undone):
    """A piece of the corpus for each page, in turn."""
    assert len(GIVING) >= 8
    browser, found, asked = callers["admin"](), {}, 0
    for number, text in enumerate(SOME):
        name = GIVING[number % len(GIVING)]
        with undone():
            response = browser.get(world[0].path(name), dict.fromkeys(FIELDS, text))
            body = content(response)
        asked += 1
        said = response.get("Content-Disposition", "")
        if response.status_code >= 500 or CANARY.encode() in body or b"root:x:" in body:
            found[name, text] = response.status_code
        elif any(mark in said for mark in ("..", "/", "\\", "\0", "\r", "\n")):
            found[name, text] = said
    assert not found
    assert asked > 200


@pytest.mark.django_db
def test_no_part_of_an_address_is_a_path(canary, world, callers, undone):
    """In the place of each name in an address that is a text."""
    browser, found = callers["admin"](), {}
    textual = [
        (name, one)
        for name in TABLE
        if "GET" in TABLE[name]
        for one in URLS[name]
        if one in ("project", "part", "token", "alias", "name")
    ]
    assert len(textual) > 20
    for number, text in enumerate(SOME):
        name, _ = textual[number % len(textual)]
        before = world[0].path(name)
        for place in ("alpha", "frontier"):
            with undone():
                response = browser.get(before.replace(place, text, 1) or "/")
                body = content(response)
            if response.status_code >= 500 or CANARY.encode() in body or b"root:x:" in body:
                found[name, text] = response.status_code
    assert not found


@pytest.mark.django_db
def test_a_file_is_kept_under_a_name_of_ours_whatever_it_is_called(
    canary, world, undone, monkeypatch
):
    monkeypatch.setattr(uploads, "MOST_WAITING", len(PATHS) + 1)
    before = set(canary.rglob("*"))
    project, author = world[0].project, world[0].people["researcher"]
    with undone():
        kept = [uploads.receive(project, author, text, [b"{}\n"]) for text in PATHS]
        names = list(Upload.objects.filter(pk__in=[one.pk for one in kept]))
    made = set(canary.rglob("*")) - before
    assert made == {upload.path for upload in kept}
    assert all(path.parent == canary / "home" / "uploads" for path in made)
    assert (canary / "home" / "canary").read_text() == CANARY
    assert len(names) == len(PATHS)
    for upload in names:
        assert not set(upload.filename) & set("\0\r\n"), repr(upload.filename)


def test_no_name_in_a_manifest_leads_out_of_its_folder(tmp_path, canary):
    """Of a backup, and of weights: refused, or a file of the folder that is not there."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for text in PATHS:
        body = {"schema": archive.SCHEMA, "files": {text: {"size": 13, "sha256": "0" * 64}}}
        path = folder / archive.MANIFEST
        path.write_text(_sealed(body))
        with pytest.raises((archive.Refused, OSError, ValueError)) as refused:
            archive.read(folder)
        assert CANARY not in str(refused.value)
        with pytest.raises((ValueError, OSError)):
            manifest.verify(folder, "0" * 64)


def _sealed(body: dict) -> str:
    return json.dumps({**body, "sha256": archive._digest(body)})


@pytest.mark.parametrize("of", ["BASE_MODEL", "a folder that a hub's name leads to"])
def test_no_setting_of_a_model_reads_what_is_no_model(tmp_path, canary, of):
    """Every text is refused in a sentence that tells nothing of what is there."""
    (tmp_path / "hub").mkdir()
    for text in PATHS:
        place = Path(text) if of == "BASE_MODEL" else tmp_path / "hub" / text.lstrip("/")
        if text.strip("./") == "" or "/." in text and of == "BASE_MODEL":
            continue  # a folder that is there
        with pytest.raises(ValueError, match="is not a folder") as refused:
            model_folder.check(place)
        assert CANARY not in str(refused.value)


def test_a_link_in_the_place_of_a_model_leads_nowhere_else(tmp_path, canary):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    model_folder.check(model)
    for number, to in enumerate((canary / "canary", Path("../canary"), Path("/etc/passwd"))):
        link = model / f"tokenizer-{number}.json"
        os.symlink(to, link)
        with pytest.raises(ValueError, match="leads out of the model's folder"):
            model_folder.check(model)
        link.unlink()
