"""Secrets that were planted appear in no log, page, export or file of a job, and none lies in the
repository."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse
from sesame.utils import get_query_string

from align import jobs
from align.judge_jobs import AskJob
from plumbline.accounts import invitations, keys
from plumbline.audit.models import AuditEntry
from plumbline.fleet import dispatch, supervise
from plumbline.fleet.models import Event
from plumbline.judges import endpoints
from plumbline.logs import HIDDEN, Hiding, JsonFormatter
from tests.comparisons import open_campaign

ROOT = Path(__file__).resolve().parents[2]
PLANTED = {
    "SECRET_KEY": "planted\"secret'key\\" + "k" * 50,
    "DATABASE_PASSWORD": "planted/data base@password",
    "PLUMBLINE_ENDPOINT_BIG": "sk-planted-endpoint-key-0123456789",
}
FORMATS = {"line": Hiding, "json": JsonFormatter}


def logged(format: str, write) -> str:
    """What a logger with our formatter writes."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    kind = {"fmt": "{message}", "style": "{"} if format == "line" else {}
    handler.setFormatter(FORMATS[format](**kind, secrets=PLANTED.values()))
    log = logging.Logger("planted")
    log.addHandler(handler)
    write(log)
    return out.getvalue()


def fail(log: logging.Logger, secret: str) -> None:
    try:
        raise ValueError(f"could not connect with {secret!r}")
    except ValueError:
        log.exception("It failed: %s", secret, extra={"facts": {"url": f"x?key={secret}"}})


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", PLANTED)
def test_what_a_process_was_given_is_in_no_line_and_no_traceback(format, name):
    secret = PLANTED[name]
    text = logged(format, lambda log: fail(log, secret))
    text += logged(format, lambda log: log.error("postgresql://u:%s@host/db", quote(secret, "")))
    for written in (secret, quote(secret, ""), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert written not in text
    assert "could not connect" in text, "the rest stays"
    assert text.count(HIDDEN) >= 3


@pytest.mark.parametrize("format", FORMATS)
def test_what_plumbline_gives_out_is_in_no_line(format, project, alice, dana):
    _, key = keys.create(project, "app", ["infer"], alice)
    _, token = invitations.create(project, "annotator", dana)
    link = get_query_string(alice)
    session = "0123456789abcdefghij0123456789ab"
    for line, secret in [
        (f"GET /v1/models with Bearer {key}", key),
        (f"the key {key} is refused", key.rpartition("_")[2]),
        (f"GET /invitation/{token}/ 200", token),
        (f"GET /sign-in/{link} 200", link.partition("=")[2]),
        (f"Cookie: sessionid={session}; csrftoken={session}", session),
        ("redis://default:hunter22@redis:6379/0", "hunter22"),
    ]:
        text = logged(format, lambda log, line=line: log.warning("%s", line))
        assert secret not in text, line
        assert HIDDEN in text


@pytest.mark.parametrize("format", FORMATS)
def test_ordinary_lines_stay_as_they_are(format):
    for line in (
        "job 12:30:45 took http://127.0.0.1:8002/v1/models",
        "the bearer of news", "plk_ab", "at https://example.org/a:b/c@d",
    ):  # fmt: skip
        assert line in logged(format, lambda log, line=line: log.info("%s", line))


def test_the_settings_hide_what_the_environment_holds(tmp_path):
    """In a process of its own, by its own logging, in both formats."""
    program = (
        "import django, logging, os; django.setup()\n"
        "for name in ('SECRET_KEY', 'PLUMBLINE_ENDPOINT_BIG', 'DATABASE_URL'):\n"
        "    logging.getLogger('x').warning('%s', os.environ[name])\n"
    )
    for format in FORMATS:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "plumbline.settings",
            "PLUMBLINE_HOME": str(tmp_path),
            "LOG_FORMAT": format,
            "SECRET_KEY": PLANTED["SECRET_KEY"],
            "PLUMBLINE_ENDPOINT_BIG": PLANTED["PLUMBLINE_ENDPOINT_BIG"],
            "DATABASE_URL": "postgresql://u:planted%2Fpassword@nowhere/db",
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "planted" not in done.stderr + done.stdout
        assert done.stderr.count(HIDDEN) == 3


def test_an_error_page_tells_nothing(project, alice, client_for, monkeypatch):
    """Not even what the exception held."""
    client = client_for(alice)
    client.raise_request_exception = False

    def broken(*args, **kwargs):
        raise RuntimeError(PLANTED["SECRET_KEY"] + " in /srv/plumbline: SELECT * FROM users")

    monkeypatch.setattr("plumbline.collect.lifecycle.state", broken)
    campaign = open_campaign(project)
    page = client.get(reverse("campaign-manage", args=["alpha", campaign.pk]))
    body = page.content.decode()
    assert page.status_code == 500
    for told in ("planted", "SELECT", "/srv/", "Traceback", "RuntimeError", "Django"):
        assert told not in body


@pytest.mark.django_db
def test_no_page_shows_a_key_or_a_link_again(project, alice, dana, client_for):
    _, key = keys.create(project, "app", ["infer"], alice)
    _, token = invitations.create(project, "annotator", dana)
    client = client_for(dana)
    session = client.cookies["sessionid"].value
    names = ("keys", "members", "audit", "judge-endpoints", "usage", "export", "jobs", "workers")
    text = "".join(client.get(reverse(name, args=["alpha"])).content.decode() for name in names)
    text += str(list(AuditEntry.objects.values()))
    for secret in (key.rpartition("_")[2], token, session):
        assert secret not in text


@pytest.mark.django_db
def test_a_job_holds_the_name_of_a_key_and_never_the_key(project, settings, tmp_path, monkeypatch):
    settings.RUNS_DIR = tmp_path
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    made = endpoints.add(
        project, "Big", "https://api.example/v1", "m", key_variable="PLUMBLINE_ENDPOINT_BIG"
    )
    spec = AskJob(asked=endpoints.asked(made), max_tokens=5)
    job = dispatch.submit(project, spec, "Ask")
    stored = (job.folder / jobs.JOB).read_text() + str(job.spec)
    stored += str(list(Event.objects.values()))
    assert "PLUMBLINE_ENDPOINT_BIG" in stored
    assert not [name for name, value in PLANTED.items() if value in stored]
    child = supervise.child_environment()
    assert not [name for name, value in PLANTED.items() if value in child.values()]


def test_an_expired_session_and_a_wrong_link_say_nothing_of_themselves(db):
    page = Client().get("/sign-in/?sesame=planted-link-0123456789").content.decode()
    assert "planted-link" not in page


# What detect-secrets takes for secrets, looked at one by one: (file, kind) and how many.
REVIEWED = {
    ("README.md", "Basic Auth Credentials"): 1,  # postgresql://user:password@host, an example
    ("docs/operations.md", "Basic Auth Credentials"): 1,  # the same
    ("platform/plumbline/settings.py", "Basic Auth Credentials"): 1,  # the same, in a docstring
    ("workers/align/demo/base/recipe.json", "Hex High Entropy String"): 1,  # a digest
}


@pytest.mark.sqlite
def test_no_secret_lies_in_what_is_shipped():
    """Tests hold made-up passwords and are left out."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    kinds = (".py", ".md", ".yml", ".yaml", ".toml", ".html", ".js", ".json", ".env", ".sh", "")
    files = [
        name
        for name in tracked
        if name
        and not name.startswith("tests/")
        and Path(name).suffix in kinds
        and Path(name).name != "tokenizer.json"
        and (ROOT / name).is_file()
    ]
    command = [sys.executable, "-m", "detect_secrets", "scan", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: Counter[tuple[str, str]] = Counter()
    for name, lines in json.loads(done.stdout)["results"].items():
        found.update((name, line["type"]) for line in lines)
    assert not found - Counter(REVIEWED), "look at each: a secret goes, an example is listed here"


def test_files_that_hold_secrets_are_never_committed():
    names = [".env", "endpoints.env", ".plumbline/secret_key"]
    done = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names
