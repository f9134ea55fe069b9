"""The house stands as drawn: dependence points one way, and the web process stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("platform/plumbline", "workers/align")
FILE_LINES, FUNCTION_LINES = 400, 60


def source_files() -> list[Path]:
    found = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if "migrations" not in path.parts]


def test_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_fresh_web_process_never_loads_torch():
    program = """
import sys
import django
from django.urls import get_resolver
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "plumbline.settings"
django.setup()
get_resolver().url_patterns
import plumbline.wsgi, plumbline.gateway.asgi
from align import algorithms, objectives
algorithms.discover(); objectives.discover()
heavy = {"torch", "transformers", "peft", "vllm"} & sys.modules.keys()
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", ["platform", "workers", "tests"])
def test_source_folders_are_not_packages(folder):
    assert not (ROOT / folder / "__init__.py").exists(), "it would shadow the standard library"


def test_no_file_outgrows_its_reader():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in source_files()
        if (lines := len(path.read_text().splitlines())) > FILE_LINES
    }
    assert not long


def test_no_function_outgrows_a_screen():
    long = {}
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert not long


def test_every_module_says_what_it_is():
    silent = [
        str(path.relative_to(ROOT))
        for path in source_files()
        if (tree := ast.parse(path.read_text())).body and ast.get_docstring(tree) is None
    ]
    assert not silent


def test_the_environment_is_read_in_settings_alone():
    """Learning code takes what it needs from job.json; the platform from settings. Keys of
    endpoints stand in neither: a job's child finds the one that its worker handed on. Failpoints
    are tests' own."""
    readers = [
        str(path.relative_to(ROOT))
        for path in source_files()
        if path.name not in ("settings.py", "chat.py", "failpoints.py")
        and "os.environ.get" in path.read_text()
    ]
    assert not readers


def test_no_test_is_left_out_of_every_part_of_the_suite():
    """`make test` runs browsers on PostgreSQL alone; engines, chaos, and what needs no database, on
    SQLite. A mark for the other one would run them nowhere."""
    elsewhere = dict.fromkeys(("align", "engine", "chaos"), "postgres") | {"browser": "sqlite"}
    lost = [
        str(path.relative_to(ROOT))
        for folder, side in elsewhere.items()
        for path in (ROOT / "tests" / folder).rglob("*.py")
        if f"pytest.mark.{side}" in path.read_text()
    ]
    assert not lost
