"""A real Chromium on a real server process: what a person has in front of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from django.conf import settings as site_settings
from django.db import connection

from tests.comparisons import shared_db  # noqa: F401  # a fixture
from tests.faulty_engine import FaultyEngine
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

AXE = Path(sys.prefix) / "axe" / "package" / "axe.min.js"  # `make test` fetches it through npm
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FOUND = """async (tags) => (await axe.run({runOnly: tags})).violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`)"""


@pytest.fixture(scope="module")
def chromium():
    """One browser for a file of tests; each test gets a context of its own from it.

    Closed with the file: Playwright keeps an event loop in this thread as long as it runs.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine (apt: chromium)")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's loop runs in this thread
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Servers:
    """The pages, served by granian. One process serves all tests of a file that share a database,
    for most of what such a test takes would be its start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], str]] = {}

    def of(self, database: str) -> str:
        if database not in self._running or self._running[database][0].poll() is not None:
            self._running[database] = self._start(database)
        return self._running[database][1]

    def _start(self, database: str) -> tuple[subprocess.Popen[bytes], str]:
        port = free_port()
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port)]
        log = self._folder / f"web-{port}.log"
        with log.open("wb") as out:
            server = subprocess.Popen(
                [*command, "--blocking-threads", "4", "plumbline.wsgi:application"],
                env={**os.environ, "DATABASE_URL": database},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        _wait(f"http://127.0.0.1:{port}/health/", server, log)
        return server, f"http://127.0.0.1:{port}"

    def stop(self, database: str) -> None:
        server, _ = self._running.pop(database)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def stop_all(self) -> None:
        for database in list(self._running):
            self.stop(database)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("web"))
    yield running
    running.stop_all()


@pytest.fixture
def site(shared_db: Path | None, servers: Servers) -> Iterator[str]:  # noqa: F811
    """Where the pages are served, on the test's database."""
    if shared_db is None:
        yield servers.of(f"postgresql://postgres@/{connection.settings_dict['NAME']}")
        return
    database = f"sqlite:///{shared_db}"  # each test has a file of its own
    yield servers.of(database)
    servers.stop(database)


@pytest.fixture
def browse(chromium, site: str, client_for: Callable) -> Iterator[Callable]:
    """`browse(user, width=1280, dark=False)`: a page signed in as the user. Whatever breaks the
    content security policy, throws, or leaves the site fails the test at its end."""
    troubles: list[str] = []
    contexts = []

    def open_page(user, *, width: int = 1280, dark: bool = False, **options):
        context = chromium.new_context(
            base_url=site,
            viewport={"width": width, "height": 844 if width < 600 else 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        if user is not None:
            cookie = client_for(user).cookies["sessionid"].value
            context.add_cookies([{"name": "sessionid", "value": cookie, "url": site}])
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: troubles.append(f"threw: {error}"))
        page.on(
            "console",
            lambda line: troubles.append(line.text) if line.type == "error" else None,
        )
        page.on(
            "request",
            lambda sent: (
                None
                if sent.url.startswith((site, "data:", "about:"))
                else troubles.append(f"asked {sent.url}")
            ),
        )
        return page

    open_page.troubles = troubles
    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


@pytest.fixture
def relay(site: str, engine: Any) -> Iterator[FaultyEngine]:
    faulty = FaultyEngine(engine.port)
    yield faulty
    faulty.close()


@pytest.fixture
def live_gateway(
    site: str,
    shared_db: Path | None,  # noqa: F811
    relay: FaultyEngine,
    tmp_path: Path,
) -> Iterator[Any]:
    """The gateway in a process of its own, on the test's database, before the faulty engine."""
    name = connection.settings_dict["NAME"]
    database = f"sqlite:///{shared_db}" if shared_db else f"postgresql://postgres@/{name}"
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), "--log-level", "warning"]
    log = tmp_path / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "plumbline.gateway.asgi:application"],
            env={**os.environ, "DATABASE_URL": database, "ENGINE_URL": relay.url},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    _wait(f"http://127.0.0.1:{port}/health", process, log)
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def babbling(project: Any, engine: Any, settings: Any, commit_weights: Callable) -> Any:
    """A policy that goes on to the length limit, served as current."""
    from plumbline.policies import serving
    from plumbline.policies.models import Policy

    settings.ENGINE_URL = engine.url
    folder = commit_weights(5, "lora", 0.5)
    policy = Policy.objects.create(
        project=project,
        name=f"secret-{os.urandom(4).hex()}",
        weights="lora",
        base_model=site_settings.BASE_MODEL,
        path=str(folder.path),
        sha256=folder.sha256,
    )
    return serving.promote(project, policy, actor=None, reason="test", evidence={}).policy


@pytest.fixture
def faults():
    """`faults(page)`: what axe-core calls serious or critical there."""
    if not AXE.exists():
        pytest.skip("no axe-core in the tests' environment (apt: npm, then make test)")
    source = AXE.read_text()

    def find(page) -> list[str]:
        page.evaluate(source)
        return page.evaluate(FOUND, RULES)

    return find


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (URLError, OSError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
