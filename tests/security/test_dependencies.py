"""The audit of what is installed says "nothing known" only of what it has looked at."""

from __future__ import annotations

import http.server
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "audit.py"
NOWHERE = "http://127.0.0.1:9/v1/query"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("audit_of_packages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit = load()


class Service(http.server.BaseHTTPRequestHandler):
    """An advisory service that knows of what the test says."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name, version = asked["package"]["name"], asked["version"]
        self.server.asked.append((name, version))
        known = self.server.known.get((name, version))
        if self.server.broken == name:
            self.send_error(503)
            return
        body = json.dumps({"vulns": [known]} if known else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked, server.known, server.broken = [], {}, ""
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1/query"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True)


@pytest.fixture
def some(tmp_path) -> str:
    path = tmp_path / "some.txt"
    path.write_text("# three\ndjango==5.2.0\nnh3==0.3.7\ntorch==2.13.0\n")
    return str(path)


def test_all_that_is_installed_is_looked_at(service):
    done = run("--service", service.url)
    assert done.returncode == 0, done.stderr
    packages = audit.installed()
    assert len(packages) > 100
    assert done.stdout == f"{len(packages)} packages audited, 0 vulnerabilities\n"
    assert sorted(service.asked) == sorted(packages.items())


def test_a_known_vulnerability_is_named(service, some):
    service.known["django", "5.2.0"] = {
        "id": "PYSEC-1",
        "summary": "SQL by a keyword",
        "affected": [
            {
                "package": {"name": "django", "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "5.2.8"}]}],
            }
        ],
    }
    done = run("--list", some, "--service", service.url)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "django 5.2.0: PYSEC-1, mended in 5.2.8",
        "3 packages audited, 1 vulnerabilities",
    ]


def test_without_the_service_nothing_is_said_to_be_well(some):
    """Where pip-audit by itself says that there are no known vulnerabilities."""
    done = run("--list", some, "--service", NOWHERE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Nothing was audited: pip-audit gave no report.")


def test_one_answer_that_is_missing_is_an_error(service, some):
    service.broken = "nh3"
    done = run("--list", some, "--service", service.url)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("dependencies", "sentence"),
    [
        ([], "2 packages are installed and 0 were audited; the first that differs is a 1"),
        ([{"name": "a", "version": "1", "vulns": []}], "2 packages are installed and 1 were"),
        ([{"name": "a", "skip_reason": "no network"}], "a was skipped: no network"),
        (
            [
                {"name": "a", "version": "1", "vulns": []},
                {"name": "b", "version": "3", "vulns": []},
            ],
            "the first that differs is b 2",
        ),
    ],
)
def test_a_report_about_less_is_no_report(dependencies, sentence):
    with pytest.raises(audit.Unknown, match=sentence):
        audit.judge({"a": "1", "b": "2"}, {"dependencies": dependencies})


def test_the_bill_names_all_that_is_installed(tmp_path):
    packages = audit.installed()
    assert run("--bill", str(tmp_path / "bill"), "--write", str(tmp_path / "list")).returncode == 0
    told = json.loads((tmp_path / "bill").read_text())
    assert told["bomFormat"] == "CycloneDX"
    assert {one["name"]: one["version"] for one in told["components"]} == packages
    assert audit.listed(tmp_path / "list") == packages
