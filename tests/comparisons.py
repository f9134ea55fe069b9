"""Campaigns with comparisons in them, and a database that several threads may use at once."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from django.db import connections

from plumbline.collect.models import (
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)


def open_campaign(project, *, comparisons: int = 3, answers: int = 2, **settings) -> Campaign:
    """A campaign whose n-th comparison asks "Question n?" and offers "Answer n.0", "Answer n.1"."""
    number = Campaign.objects.count()
    campaign = Campaign.objects.create(project=project, name=f"Campaign {number}", **settings)
    prompts, _ = PromptSet.objects.get_or_create(project=project, name=f"Prompts {number}")
    for n in range(comparisons):
        compare(campaign, prompts, f"Question {n}?", [f"Answer {n}.{k}" for k in range(answers)])
    return campaign


def compare(
    campaign: Campaign, prompts: PromptSet, question: str, texts: Sequence[str], **settings
) -> Comparison:
    messages = [{"role": "user", "content": question}]
    digest = hashlib.sha256(question.encode()).hexdigest()
    prompt, _ = Prompt.objects.get_or_create(
        set=prompts, digest=digest, defaults={"messages": messages}
    )
    comparison = Comparison.objects.create(campaign=campaign, prompt=prompt, **settings)
    for slot, text in enumerate(texts):
        completion = Completion.objects.create(prompt=prompt, origin="a test", text=text)
        Candidate.objects.create(comparison=comparison, completion=completion, slot=slot)
    return comparison


@pytest.fixture
def shared_db(transactional_db, tmp_path: Path) -> Iterator[Path | None]:
    """A database that threads and other processes can use: PostgreSQL as it is; SQLite moved from
    memory to a file, with its path. Ask for it before anything that makes rows."""
    memory = connections["default"]
    if memory.vendor != "sqlite":
        yield None
        return
    path = tmp_path / "db.sqlite3"
    memory.ensure_connection()
    with sqlite3.connect(path) as file:
        memory.connection.backup(file)
    file.close()
    name = connections.settings["default"]["NAME"]
    connections.settings["default"]["NAME"] = str(path)
    del connections["default"]
    yield path
    connections.close_all()
    connections.settings["default"]["NAME"] = name
    connections["default"] = memory
