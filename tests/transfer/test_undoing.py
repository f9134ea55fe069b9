"""An import is taken back: what it alone says goes, and nothing that something else uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.accounts.models import Project, User
from plumbline.collect.models import Ballot, Campaign, Comparison, Completion, Prompt, PromptSet
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import Policy
from plumbline.transfer import formats, undoing
from plumbline.transfer.models import Import
from plumbline.transfer.publish import Source, publish
from plumbline.transfer.staging import stage
from tests.comparisons import open_campaign
from tests.transfer.said import say
from tests.transfer.test_round_trips import send

TABLES = (PromptSet, Prompt, Completion, Campaign, Comparison, Ballot, Import, User)


def pair(number: int, answer: str = "Good") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "chosen": [{"role": "assistant", "content": f"{answer} {number}"}],
        "rejected": [{"role": "assistant", "content": f"Bad {number}"}],
    }


@pytest.fixture
def bring(project: Project, tmp_path: Path):
    def bring_in(*rows: dict[str, Any], name: str = "trl_preference", into: str = "set") -> Import:
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        format = formats.find(name)
        with stage(path, format) as staged:
            return publish(staged, project, into, Source(name, path.name, 0.0), format)[0]

    return bring_in


def counts() -> list[int]:
    return [table.objects.count() for table in TABLES]


def test_nothing_is_left_of_an_import_that_stands_alone(bring):
    before = counts()
    record = bring(pair(0), pair(1))
    assert undoing.undo(record) == undoing.Undone(ballots=2, completions=4, prompts=2, kept=0)
    assert counts() == before


def test_what_another_import_says_too_stays(bring):
    first = bring(pair(0), pair(1))
    second = bring(pair(1), pair(2))
    assert (second.prompts, second.ballots) == (1, 1), "the other row was there"
    assert undoing.undo(first).ballots == 1
    left = {prompt.messages[0]["content"] for prompt in Prompt.objects.all()}
    assert left == {"Question 1?", "Question 2?"}
    assert Ballot.objects.count() == 2
    undoing.undo(second)
    assert not Prompt.objects.exists()


def test_answers_that_people_compare_stay_with_their_prompts(bring, project, bob):
    record = bring(pair(0), pair(1))
    prompt = Prompt.objects.order_by("pk").first()
    campaign = Campaign.objects.create(project=project, name="Ours")
    comparison = Comparison.objects.create(campaign=campaign, prompt=prompt)
    for slot, answer in enumerate(prompt.completions.all()):
        comparison.slots.create(completion=answer, slot=slot)
    ours = say(comparison, bob, [[0], [1]])
    assert undoing.undo(record) == undoing.Undone(ballots=2, completions=2, prompts=1, kept=3)
    assert [one.pk for one in Ballot.objects.all()] == [ours.pk]
    assert PromptSet.objects.filter(name="set").exists()


def test_votes_that_a_round_froze_are_never_taken_back(bring, project):
    record = bring(pair(0), pair(1))
    base = Policy.objects.create(project=project, name="base-1", weights="base", base_model="b")
    experiment = Experiment.objects.create(
        project=project, name="Warmer", algorithm="dpo", start=base, prompt_set=record.set
    )
    trained = Round.objects.create(experiment=experiment, number=1, policy_in=base)
    trained.ballots.add(Ballot.objects.first())
    before = counts()
    with pytest.raises(ValueError, match="A round has trained on one of its votes"):
        undoing.undo(record)
    assert counts() == before


def test_revisions_go_together(bring, project, bob, tmp_path):
    campaign = open_campaign(project, comparisons=1)
    first = say(campaign.comparisons.get(), bob, [[0], [1]])
    say(campaign.comparisons.get(), bob, [[1], [0]], revision=2, revises=first)
    rows = send(project, "votes", tmp_path / "y.jsonl", revisions=True)
    before = counts()
    assert undoing.undo(bring(*rows, name="votes")).ballots == 2
    assert counts() == before


def test_an_import_of_before_says_why_it_stays(project):
    into = PromptSet.objects.create(project=project, name="old")
    record = Import.objects.create(
        set=into, format="hh_rlhf", filename="x", sha256="0", rows=1, prompts=1, completions=2,
        ballots=1,
    )  # fmt: skip
    assert undoing.refusal(record) == "It was imported before it was kept what each import says."


def test_a_large_import_is_undone_in_few_queries(bring, django_assert_max_num_queries):
    record = bring(*(pair(n) for n in range(300)))
    with django_assert_max_num_queries(180):
        undoing.undo(record)
