"""Files that people bring are never shown as pages, and what is downloaded opens as nothing."""

from __future__ import annotations

import io

import pytest
from django.urls import reverse

from plumbline.permissions import TABLE
from plumbline.transfer.models import Upload

pytestmark = pytest.mark.django_db
ACTS = b"<script>document.title='ran'</script>"
FILES = {
    "page.html": b"<!doctype html>" + ACTS,
    "image.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + ACTS + b"</svg>",
    "code.js": b"document.title='ran'//" + ACTS,
    "rows.jsonl": b'{"prompt": "'
    + ACTS.replace(b"'", b"_")
    + b'", "chosen": "a", "rejected": "b"}',
    "page.xhtml": b'<html xmlns="http://www.w3.org/1999/xhtml">' + ACTS + b"</html>",
}


def content(response) -> bytes:
    return b"".join(response) if response.streaming else response.content


@pytest.mark.parametrize("name", FILES)
def test_an_uploaded_file_is_shown_as_words_or_not_at_all(
    name, project, alice, client_for, settings, tmp_path
):
    settings.UPLOADS_DIR = tmp_path
    browser = client_for(alice)
    file = io.BytesIO(FILES[name])
    file.name = name
    answer = browser.post(reverse("imports", args=["alpha"]), {"file": file, "name": "Mine"})
    assert answer.status_code in (302, 303, 422), answer.content[:500]
    there = [reverse("imports", args=["alpha"])]
    there += [reverse("import-file", args=["alpha", one.pk]) for one in Upload.objects.all()]
    for address in there:
        page = browser.get(address)
        assert page["X-Content-Type-Options"] == "nosniff"
        assert ACTS not in content(page)
    assert browser.get(f"/static/../{name}").status_code == 404
    for one in tmp_path.iterdir():
        for guess in (f"/uploads/{one.name}", f"/static/uploads/{one.name}", f"/{one.name}"):
            assert browser.get(guess).status_code == 404


def test_what_is_downloaded_is_of_no_origin_and_runs_nothing(world, callers):
    """An attachment, `nosniff`, and a policy with a sandbox."""
    found = []
    for name, methods in TABLE.items():
        if "GET" not in methods:
            continue
        response = callers["researcher"]().get(world[0].path(name))
        if not response.get("Content-Disposition", "").startswith("attachment"):
            continue
        policy = [part.strip() for part in response["Content-Security-Policy"].split(";")]
        assert "sandbox" in policy, name
        assert "default-src 'none'" in policy, name
        assert not any(part.startswith("script-src") for part in policy), name
        assert response["X-Content-Type-Options"] == "nosniff", name
        found.append(name)
    assert len(found) > 5
