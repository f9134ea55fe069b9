"""Who may open a connection: a list with reasons. A new module that imports a client fails here
until somebody has looked at whom it asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = (
    *("httpx", "httpcore", "requests", "urllib.request", "urllib3", "aiohttp", "http.client"),
    *("socket", "websockets", "ftplib", "smtplib", "telnetlib", "xmlrpc", "paramiko", "boto3"),
    *("huggingface_hub", "openai", "wget", "pycurl", "imaplib", "poplib", "asyncssh", "grpc"),
)
ALLOWED = {
    "workers/align/addresses.py": "the client for addresses that people give",
    "workers/align/chat.py": "sends by that client, or to our own engine",
    "workers/align/engine_api.py": "our own engine, at ENGINE_URL",
    "workers/align/keeper.py": "the engine beside it, on loopback",
    "workers/align/warm.py": "a socket pair with its own parent",
    "platform/plumbline/client.py": "what users run on their own machines; the platform does not",
    "platform/plumbline/policies/engines.py": "our own engines, at ENGINE_URL",
    "platform/plumbline/gateway/connections.py": "our own engines, over sockets of its own",
    "platform/plumbline/gateway/best_of.py": "our own scorer, at SCORER_URL",
    "platform/plumbline/demo/stack.py": "what the demo itself has started, on loopback",
    "platform/plumbline/demo/processes.py": "looks whether a port on loopback is free",
    "platform/plumbline/demo/verdict.py": "the demo's own gateway, on loopback",
    "platform/plumbline/fleet/warm.py": "a socket pair with its own child",
    "platform/plumbline/fleet/presence.py": "the name of this host",
    "platform/plumbline/operations/signs.py": "the name of this host",
    "platform/plumbline/fleet/devices.py": "the name of this host",
    "platform/plumbline/fleet/tasks.py": "the name of this host",
}
CALLS = {"open_connection", "create_connection", "open_unix_connection"}


def found(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{one.name}" for one in node.names]
        yield from (n for n in names for c in CLIENTS if n == c or n.startswith(f"{c}."))
        if isinstance(node, ast.Attribute) and node.attr in CALLS:
            yield node.attr


def modules() -> list[Path]:
    return sorted(path for part in ("platform", "workers") for path in (ROOT / part).rglob("*.py"))


def test_only_listed_modules_open_connections():
    users = {str(path.relative_to(ROOT)) for path in modules() if any(found(path))}
    assert users - ALLOWED.keys() == set(), "whom do they ask?"
    assert ALLOWED.keys() - users == set(), "these no longer do: take them off the list"


def test_the_search_finds_every_way_to_import_one(tmp_path):
    for line in (
        "import httpx",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "from http.client import HTTPConnection",
        "from http import client",
        "def f():\n    import requests.sessions",
        "import asyncio\nasyncio.open_connection('h', 1)",
    ):
        (tmp_path / "one.py").write_text(line)
        assert any(found(tmp_path / "one.py")), line
    (tmp_path / "one.py").write_text("import http.server, urllib.parse, asyncio")
    assert not any(found(tmp_path / "one.py"))
