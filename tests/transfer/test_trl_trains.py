"""TRL itself loads the files that leave for it, and trains on them: two steps by each trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plumbline.accounts.models import Project, User
from plumbline.transfer import formats, stream
from tests.comparisons import compare, open_campaign
from tests.transfer.said import exporting, say

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")

from tests.engines import DEMO_BASE  # noqa: E402  # with torch alone

LAYOUTS = ("conversational", "standard")


@pytest.fixture(autouse=True)
def _quiet_and_slim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def voted(project: Project, bob: User, carol: User) -> Project:
    """Pairs, a ranking with a tie, a tie, all bad, marks, several turns, and texts of all kinds."""
    campaign = open_campaign(project, comparisons=6)
    for n, comparison in enumerate(campaign.comparisons.order_by("pk")):
        say(comparison, bob, [[n % 2], [1 - n % 2]], mark=3, strength=1 + n % 3)
        if n % 2:
            say(comparison, carol, [[0, 1]] if n > 2 else None)
    prompts = project.prompt_sets.get()
    ranked = compare(campaign, prompts, "Rank \u2028 four 🏳️‍🌈\n\nor so", ["x", "y", "שלום", "z z"])
    say(ranked, bob, [[2], [0, 3], [1]], mark=1)
    turns = compare(campaign, prompts, "And then?", ["It rained.", "Nothing."])
    turns.prompt.messages = [
        {"role": "user", "content": "What happened?"},
        {"role": "assistant", "content": "They met."},
        *turns.prompt.messages,
    ]
    turns.prompt.save()
    say(turns, carol, [[0], [1]], mark=3)
    return project


def load(project: Project, name: str, folder: Path, **options: Any) -> Any:
    """The export as Hugging Face's `datasets` reads the file."""
    path = folder / f"{name}.jsonl"
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(stream.lines(exporting(project, **options), formats.exporter(name)))
    return datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(folder / "cache")
    )


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_length": 128,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def train(trainer_class: Any, config: Any, rows: Any) -> list[float]:
    """The losses of two steps from the demo's base; the weights must have moved."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_BASE)
    trainer = trainer_class(
        model=str(DEMO_BASE), args=config, train_dataset=rows, processing_class=tokenizer
    )
    before = [part.detach().clone() for part in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dpo_trains_on_preferences_with_an_explicit_prompt(voted, tmp_path, layout):
    rows = load(voted, "trl_preference", tmp_path, layout=layout, ties="half")
    assert set(rows.column_names) == {"prompt", "chosen", "rejected", "weight", "vote"}
    losses = train(trl.DPOTrainer, trl.DPOConfig(**settings(tmp_path)), rows)
    assert len(losses) == 2
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # the policy is its own reference
    assert losses[1] != losses[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_reward_model_trains_on_preferences_with_an_implicit_prompt(voted, tmp_path, layout):
    rows = load(voted, "trl_implicit", tmp_path, layout=layout)
    assert set(rows.column_names) == {"chosen", "rejected", "weight", "vote"}
    losses = train(trl.RewardTrainer, trl.RewardConfig(**settings(tmp_path)), rows)
    assert len(losses) == 2
    assert all(0 < loss < 20 for loss in losses)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kto_trains_on_single_answers(voted, tmp_path, layout):
    rows = load(voted, "trl_unpaired", tmp_path, layout=layout, pairs=True, ties="both")
    assert set(rows.column_names) == {"prompt", "completion", "label", "vote"}
    assert set(rows["label"]) == {True, False}
    losses = train(trl.KTOTrainer, trl.KTOConfig(**settings(tmp_path)), rows)
    assert len(losses) == 2
    assert all(0 < loss < 1 for loss in losses)


def test_trl_cuts_an_implicit_prompt_where_we_did(voted, tmp_path):
    """TRL's own tool turns implicit prompts into explicit ones; it finds those that we write."""
    extract = pytest.importorskip("trl.data_utils").maybe_extract_prompt
    implicit = load(voted, "trl_implicit", tmp_path, extras=False)
    explicit = load(voted, "trl_preference", tmp_path, extras=False)
    # TRL cuts where the messages part, which is at the answers, for they differ.
    assert [extract(row) for row in implicit] == list(explicit)
