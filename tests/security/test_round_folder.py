"""The folder in which a round leaves holds data alone, and no secret of the installation."""

from __future__ import annotations

import io
import tarfile

import pytest
from django.conf import settings as site_settings
from django.db import connection
from django.urls import reverse

from plumbline.accounts import invitations, keys
from tests.loop.test_folder import made  # noqa: F401  # a fixture

pytestmark = pytest.mark.django_db


def test_a_rounds_folder_is_data_and_tells_no_secret(
    made,  # noqa: F811
    alice,
    dana,
    client_for,
    monkeypatch,
):
    project = made.experiment.project
    _, key = keys.create(project, "app", ["infer"], alice)
    _, token = invitations.create(project, "annotator", dana)
    browser = client_for(alice)
    planted = {"PLUMBLINE_ENDPOINT_BIG": "sk-planted-endpoint-0123456789"}
    monkeypatch.setenv(*next(iter(planted.items())))
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "planted-database-password")
    secrets = [
        *(*planted.values(), "planted-database-password", site_settings.SECRET_KEY, token),
        *(key.rpartition("_")[2], browser.cookies["sessionid"].value),
    ]
    where = ["alpha", made.experiment.pk, made.number]
    answer = browser.get(reverse("round-folder", args=where))
    assert answer.status_code == 200
    assert "sandbox" in answer["Content-Security-Policy"]
    with tarfile.open(fileobj=io.BytesIO(b"".join(answer))) as archive:
        members = archive.getmembers()
        texts = {one.name: archive.extractfile(one).read() for one in members if one.isfile()}
    assert len(texts) > 5
    for one in members:
        assert one.isfile() or one.isdir(), one.name
        assert not one.name.startswith("/")
        assert ".." not in one.name.split("/")
    kinds = {name.rsplit(".", 1)[-1] for name in texts}
    assert kinds <= {"json", "jsonl", "md", "csv", "txt", "safetensors", "jinja"}
    for name, body in texts.items():
        assert not [secret for secret in secrets if secret.encode() in body], name
