"""`manage.py export`: rows out, what was left on the other side, and memory that stays bounded."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Comparison
from plumbline.transfer import formats, outgoing, stream
from tests.comparisons import open_campaign
from tests.transfer.said import exporting, say


@pytest.fixture
def comparison(project: Project) -> Comparison:
    return open_campaign(project, comparisons=1).comparisons.get()


@pytest.fixture
def preferred(comparison: Comparison, bob: User) -> Ballot:
    return say(comparison, bob, [[1], [0]])


def run(project: Project, *arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("export", *arguments, "--project", project.slug, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_writes_rows_and_says_what_it_left(project, comparison, preferred, carol):
    say(comparison, carol, [[0, 1]])
    out, err = run(project, "trl_preference", "--no-extras")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == [
        [{"role": "user", "content": "Question 0?"}]
    ]
    assert "1 rows from 1 comparisons" in err
    assert "left out: 1 votes that are ties" in err
    out, _ = run(project, "trl_preference", "--ties", "half")
    assert [json.loads(line)["weight"] for line in out.splitlines()] == [1.0, 0.5, 0.5]


def test_the_command_writes_a_gzipped_file_once(project, preferred, tmp_path: Path):
    path = tmp_path / "votes.jsonl.gz"
    run(project, "votes", "--out", str(path))
    with gzip.open(path, "rt") as lines:
        assert [json.loads(line)["id"] for line in lines] == [str(preferred.pk)]
    with pytest.raises(CommandError, match="exists already"):
        run(project, "votes", "--out", str(path))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("alpaca_eval",), "no format 'alpaca_eval' to write; there are hh_rlhf, openai"),
        (("hh_rlhf", "--ties", "half"), "ties in hh_rlhf are one of skip, not 'half'"),
        (("hh_rlhf", "--names"), "hh_rlhf has no place for the option 'names'"),
        (("votes", "--campaign", "99"), "Alpha has no campaign 99"),
    ],
)
def test_the_command_refuses_what_a_format_cannot_say(
    project: Project, arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(project, *arguments)


def many_votes(project: Project, comparisons: int, people: list[User]) -> None:
    """Comparisons of two shared answers, each voted on by everybody."""
    campaign = open_campaign(project, comparisons=1)
    first = campaign.comparisons.get()
    slots = list(first.slots.all())
    made = Comparison.objects.bulk_create(
        Comparison(campaign=campaign, prompt=first.prompt) for _ in range(comparisons)
    )
    through = type(slots[0])
    through.objects.bulk_create(
        through(comparison=one, completion_id=slot.completion_id, slot=slot.slot)
        for one in made
        for slot in slots
    )
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "shown": [0, 1],
        "claimed_at": now,
        "expires_at": now.replace(year=now.year + 1),
        "cast_at": now,
        "outcome": "ranked",
        "ranking": [[1], [0]],
    }
    Ballot.objects.bulk_create(
        (Ballot(comparison=one, annotator=person, **values) for one in made for person in people),
        batch_size=5000,
    )


def peak(measured: Callable[[], int]) -> tuple[int, int]:
    """What a piece of work returns, and the most memory it held, in bytes."""
    tracemalloc.start()
    try:
        return measured(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bounded(project: Project, votes: int) -> None:
    """An export of all votes holds no more than one of its first two pages."""

    def export(name: str, most: int | None = None) -> int:
        return sum(1 for _ in stream.rows(exporting(project), formats.exporter(name), most))

    for name in ("trl_preference", "votes"):
        _, small = peak(lambda name=name: export(name, 2 * outgoing.PAGE))
        rows, large = peak(lambda name=name: export(name))
        assert rows == votes
        assert large < 1.2 * small, (name, small, large)


@pytest.fixture
def people(project: Project) -> list[User]:
    return [User.objects.create(username=f"person {n}") for n in range(10)]


def test_memory_does_not_grow_with_the_votes(project, people, monkeypatch) -> None:
    monkeypatch.setattr(outgoing, "PAGE", 10)
    many_votes(project, 200, people)
    bounded(project, 2000)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_memory_is_the_same_over_a_hundred_thousand_votes(project, people) -> None:
    many_votes(project, 10_000, people)
    bounded(project, 100_000)
