"""`manage.py import`: everything or nothing, and once however often it runs."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from align import failpoints
from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Campaign, Comparison, Completion, Prompt, PromptSet
from plumbline.transfer import ballots, publish
from plumbline.transfer.models import Import
from plumbline.transfer.undoing import undo

TABLES = (PromptSet, Prompt, Completion, Campaign, Comparison, Ballot, Import)


def judged(index: int, writer: str, preference: float, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "instruction": f"Question {index}?",
        "generator_1": "baseline",
        "output_1": f"Baseline says {index}.",
        "generator_2": writer,
        "output_2": f"{writer} says {index}.",
        "preference": preference,
        **changes,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(format: str, path: Path, *more: str, into: str = "evals") -> str:
    out = StringIO()
    options = ["--project", "alpha", "--set", into, "--skip-checks", *more]
    call_command("import", format, str(path), *options, stdout=out, verbosity=0)
    return out.getvalue()


def counts() -> list[int]:
    return [table.objects.count() for table in TABLES]


@pytest.mark.parametrize("place", ["import.chunk_written", "import.published"])
def test_a_disk_that_is_full_is_a_sentence_and_nothing_is_imported(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / place).write_text("full")
    monkeypatch.setattr(failpoints, "FOLDER", str(tmp_path))
    path = write(tmp_path / "x.jsonl", [judged(1, "tide", 1.02)])
    with pytest.raises(CommandError, match="the disk is full; nothing was imported"):
        run("alpaca_eval", path)
    assert counts() == [0] * len(TABLES)
    assert "1 ballots" in run("alpaca_eval", path)


def test_preferences_become_ballots_on_comparisons_of_a_closed_campaign(
    project: Project, tmp_path: Path
) -> None:
    rows = [judged(1, "tide", 1.02), judged(1, "moon", 1.9), judged(2, "moon", 1.5)]
    said = run("alpaca_eval", write(tmp_path / "x.jsonl", rows))
    assert "new: 2 prompts, 5 answers, 3 ballots" in said
    campaign = Campaign.objects.get()
    assert campaign.closed_at is not None
    first, second, tie = Ballot.objects.order_by("comparison")
    assert (first.ranking, first.strength) == ([[0], [1]], 3)
    assert (second.ranking, second.strength) == ([[1], [0]], 2)
    assert (tie.ranking, tie.strength, tie.probability) == ([[0, 1]], None, 0.5)
    assert first.probability == pytest.approx(0.98)
    slots = second.comparison.slots.select_related("completion")
    assert [slot.completion.origin for slot in slots] == ["baseline", "moon"]
    voter = User.objects.get()
    assert (voter.kind, voter.is_active, voter.has_usable_password()) == ("import", False, False)
    assert {ballot.annotator for ballot in Ballot.objects.all()} == {voter}
    made = PromptSet.objects.get()
    assert (made.licence, made.source) == ("Apache-2.0", "https://github.com/tatsu-lab/alpaca_eval")


def test_the_campaign_of_the_votes_may_be_named(project: Project, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [judged(1, "tide", 1.1)])
    run("alpaca_eval", path, "--campaign", "Judges of March")
    assert Campaign.objects.get().name == "Judges of March"
    more = write(tmp_path / "y.jsonl", [judged(2, "tide", 1.1)])
    run("alpaca_eval", more, "--campaign", "Judges of March")
    assert Campaign.objects.get().comparisons.count() == 2
    for record in Import.objects.all():
        undo(record)
    assert not Campaign.objects.exists(), "an import that is undone takes it along"


def test_votes_never_come_into_a_campaign_that_people_made(
    project: Project, tmp_path: Path
) -> None:
    Campaign.objects.create(project=project, name="Ours")
    before = counts()
    path = write(tmp_path / "x.jsonl", [judged(1, "tide", 1.1)])
    with pytest.raises(CommandError, match="no import made it"):
        run("alpaca_eval", path, "--campaign", "Ours")
    assert counts() == before


def test_importing_twice_changes_nothing(project: Project, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [judged(1, "tide", 1.1), judged(2, "tide", 1.2)])
    run("alpaca_eval", path)
    before = counts()
    assert "nothing to do" in run("alpaca_eval", path)
    assert counts() == before


def test_a_file_that_overlaps_adds_only_what_is_new(project: Project, tmp_path: Path) -> None:
    rows = [judged(i, "tide", 1.1) for i in range(4)]
    path = write(tmp_path / "x.jsonl", rows)
    run("alpaca_eval", path, "--limit", "3")
    assert "new: 1 prompts, 2 answers, 1 ballots" in run("alpaca_eval", path)
    assert Comparison.objects.count() == 4


def test_the_same_rows_may_go_into_another_set(project: Project, tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [judged(1, "tide", 1.1)])
    run("alpaca_eval", path)
    assert "1 prompts, 2 answers, 1 ballots" in run("alpaca_eval", path, into="again")


def test_one_bad_row_leaves_nothing(project: Project, tmp_path: Path) -> None:
    rows = [judged(i, "tide", 1.1) for i in range(5)] + [judged(5, "tide", 7)]
    before = counts()
    with pytest.raises(CommandError, match="row 6: 'preference' must be from 1 to 2"):
        run("alpaca_eval", write(tmp_path / "x.jsonl", rows))
    assert counts() == before


def test_a_failure_while_writing_leaves_nothing(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "CHUNK", 2)
    path = write(tmp_path / "x.jsonl", [judged(i, "tide", 1.1) for i in range(5)])
    # The last chunk breaks a constraint of the database.
    monkeypatch.setattr(ballots, "strength", lambda p: -1 if Ballot.objects.count() > 3 else 1)
    before = counts()
    with pytest.raises(DatabaseError):
        run("alpaca_eval", path)
    assert counts() == before


def test_people_who_chose_give_a_ballot_without_a_probability(
    project: Project, tmp_path: Path
) -> None:
    start = "\n\nHuman: hi\n\nAssistant: "
    rows = [
        {"chosen": start + "Hello!", "rejected": start + "What."},
        {"chosen": start + "Hello!", "rejected": start + "Hello!"},  # says nothing
    ]
    said = run("hh_rlhf", write(tmp_path / "x.jsonl", rows))
    assert "new: 1 prompts, 2 answers, 1 ballots" in said
    ballot = Ballot.objects.get()
    assert (ballot.ranking, ballot.strength, ballot.probability) == ([[0], [1]], None, None)


def test_prompts_are_split_by_themselves_or_as_they_say(project: Project, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Question {i}?"} for i in range(300)]
    rows.append({"prompt": "Mine.", "split": "heldout"})
    run("prompts_jsonl", write(tmp_path / "x.jsonl", rows), "--split-heldout", "0.2")
    heldout = Prompt.objects.filter(split=Prompt.Split.HELDOUT)
    assert 35 < heldout.count() < 90
    assert heldout.filter(messages=[{"role": "user", "content": "Mine."}]).exists()
    assert not Campaign.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nosuch", "{path}"), "no format 'nosuch'; there are alpaca_eval"),
        (("hh_rlhf", "/nowhere.jsonl"), "/nowhere.jsonl is not a file"),
        (("hh_rlhf", "{path}", "--project", "nosuch"), "there is no project 'nosuch'"),
        (("hh_rlhf", "{path}", "--split-heldout", "1"), "below 1"),
        (("hh_rlhf", "{path}", "--limit", "0"), "at least 1"),
    ],
)
def test_mistakes_on_the_command_line_are_said(
    project: Project, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    path = write(tmp_path / "x.jsonl", [])
    format, file, *more = (one.format(path=path) for one in arguments)
    with pytest.raises(CommandError, match=sentence):
        run(format, Path(file), *more)


def test_the_real_human_preferences_come_in(project: Project, shared_data: Path) -> None:
    said = run("hh_rlhf", shared_data / "hh_rlhf" / "harmless_base.jsonl.gz")
    assert "1312 rows (0 repeated), new: 1312 prompts, 2624 answers, 1312 ballots" in said
    assert all(prompt.messages[-1]["role"] == "user" for prompt in Prompt.objects.all())
    assert not Completion.objects.filter(text__contains="\n\nAssistant:").exists()


def test_the_real_judgements_keep_their_probabilities(project: Project, shared_data: Path) -> None:
    said = run(
        "alpaca_eval", shared_data / "alpaca_eval" / "annotations.jsonl.gz", "--limit", "1610"
    )
    assert "1610 rows (0 repeated), new: 805 prompts, 2415 answers, 1610 ballots" in said
    assert all(
        ballot.probability is not None and (ballot.probability > 0.5) == (ballot.ranking[0] == [0])
        for ballot in Ballot.objects.all()
    )
