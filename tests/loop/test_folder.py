"""A round leaves as a folder that others can use: PEFT loads its adapter, unmodified."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pytest

from align import demo
from plumbline.loop import decisions, folder
from plumbline.policies.models import Policy
from tests.collect import crowd
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def made(project, bob, commit_weights):
    """A finished round with two votes, whose adapter is really on disk."""
    round = lab.finished_round(lab.experiment(project, name="Warmer"), steps=3)
    campaign = open_campaign(project, comparisons=2)
    for comparison in campaign.comparisons.all():
        round.ballots.add(crowd.vote(bob, comparison, [[0], [1]]))
        round.prompts.add(comparison.prompt)
    weights = commit_weights(5, "lora", 0.05)
    Policy.objects.filter(pk=round.policy_out.pk).update(
        path=str(weights.path), sha256=weights.sha256
    )
    round.policy_out.refresh_from_db()
    return round


def unpacked(pieces, into: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        archive.extractall(into, filter="data")
    (top,) = into.iterdir()
    return top


def test_a_round_leaves_with_all_that_it_was_made_of(made, alice, tmp_path):
    decisions.hold(made.policy_out, actor=alice, reason="I look first.")
    top = unpacked(folder.tar(made), tmp_path)
    assert top.name == folder.name(made)
    config = json.loads((top / "config.json").read_text())
    assert config["settings"]["knobs.beta"] == 0.1
    assert config["policy"]["sha256"] == made.policy_out.sha256
    assert config["votes"] == 2
    assert config["jobs"]["train"]["algorithm"] == "dpo"
    votes = [json.loads(line) for line in (top / "data/votes.jsonl").open()]
    assert [one["ranking"] for one in votes] == [[[0], [1]], [[0], [1]]]
    assert "bob" not in (top / "data/votes.jsonl").read_text(), "people are not named"
    assert len((top / "data/prompts.jsonl").read_text().splitlines()) == 2
    with (top / "metrics/train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == made.jobs.get(purpose="train").job.metrics.count()
    found = json.loads((top / "evaluation.json").read_text())
    assert found["gate"]["passed"]
    assert found["evaluations"][0]["rate"] == 0.672
    (decided,) = json.loads((top / "decisions.json").read_text())
    assert (decided["what"], decided["actor"]) == ("Held", "alice")
    card = (top / "README.md").read_text()
    for words in ("library_name: peft", "Round 1 of Warmer", "67.2%", "2 votes", "The gate passed"):
        assert words in card, words


def test_peft_loads_the_adapter_as_it_is(made, tmp_path):
    torch = pytest.importorskip("torch")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    top = unpacked(folder.tar(made), tmp_path)
    base = AutoModelForCausalLM.from_pretrained(demo.BASE)
    tokens = torch.tensor([[1, 2, 3, 4]])
    before = base(tokens).logits.clone()
    adapted = PeftModel.from_pretrained(base, top / "adapter")
    assert not torch.equal(adapted(tokens).logits, before)


def test_weights_that_were_touched_do_not_leave(made, researcher, tmp_path):
    Policy.objects.filter(pk=made.policy_out.pk).update(sha256="0" * 64)
    address = f"/p/alpha/lab/experiments/{made.experiment_id}/rounds/1/"
    page = researcher.get(address + "folder/", follow=True).content.decode()
    assert "Not exported" in page
    assert "other weights than the policy was registered with" in page


def test_the_page_gives_the_folder(made, researcher, tmp_path):
    address = f"/p/alpha/lab/experiments/{made.experiment_id}/rounds/1/"
    assert address + "folder/" in researcher.get(address).content.decode()
    response = researcher.get(address + "folder/")
    assert response.streaming
    assert f"{folder.name(made)}.tar" in response["Content-Disposition"]
    top = unpacked(response.streaming_content, tmp_path)
    assert (top / "adapter/adapter_config.json").exists()


@pytest.fixture
def researcher(alice, client_for):
    return client_for(alice)
