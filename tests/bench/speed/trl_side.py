"""The other side: TRL's trainers, at their defaults and at the settings that suit this machine.

`TUNED` is what issue and measurements call its best: bf16, no activation checkpointing, reference
log-probabilities computed beforehand. Weights stay fp32 under autocast, as they do in TRL when it
loads a model by its path; bf16 weights would lose the updates of a small learning rate.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from transformers.utils import logging

from tests.bench.speed.clock import Clock, settle
from tests.bench.speed.comparisons import texts
from tests.bench.speed.work import BETA, LEARNING_RATE, Work

# Neither has types to check against.
trl: Any = importlib.import_module("trl")
datasets: Any = importlib.import_module("datasets")

DEFAULTS: dict[str, Any] = {}
NO_CHECKPOINTING: dict[str, Any] = {"gradient_checkpointing": False}
TUNED: dict[str, Any] = {**NO_CHECKPOINTING, "bf16": True, "precompute_ref_log_probs": True}
PLAIN: dict[str, Any] = {**NO_CHECKPOINTING, "bf16": False, "precompute_ref_log_probs": True}
SETTINGS = {
    "defaults": DEFAULTS,
    "tuned": TUNED,
    "fp32": PLAIN,
    "bf16 inline": {**NO_CHECKPOINTING, "bf16": True},
    # The base in bf16 and, with LoRA, adapters in fp32: what PEFT makes of a bf16 model.
    "bf16 weights": {**TUNED, "model_init_kwargs": {"dtype": "bfloat16"}},
    # For a GPU with liger-kernel; TRL 1.16 warns that DPO's padding_free does nothing at present.
    "liger": {**TUNED, "use_liger_kernel": True, "padding_free": True},
    "by length": {**TUNED, "train_sampling_strategy": "group_by_length"},
}


class Stopwatch(TrainerCallback):
    """TRL's steps on our clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.clock.begin()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.step()

    def on_log(self, *args: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.clock.figures.append({k: float(v) for k, v in logs.items()})


def clocked(trainer: Any, clock: Clock) -> Any:
    """The trainer, its reference pass on the clock: that happens while it is made."""
    passing = trainer._precompute_ref_logps

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        clock.begin()
        return passing(self, *args, **kwargs)

    return type(trainer.__name__, (trainer,), {"_precompute_ref_logps": timed})


def train(options: Mapping[str, Any]) -> dict[str, Any]:
    """DPOTrainer on the same pairs. `settings` names an entry of SETTINGS."""
    work, clock = Work.of(options), Clock(settle())
    settings = SETTINGS[options["settings"]]
    rows = list(texts(work.questions))
    if settings.get("train_sampling_strategy") == "group_by_length":
        # It looks for `input_ids`, which DPO's rows do not have, unless lengths are given.
        settings = {**settings, "remove_unused_columns": False}
        for row in rows:
            row["length"] = longest(row)
    trainer = clocked(trl.DPOTrainer, clock)(
        model=work.base,
        args=trl.DPOConfig(
            **common(work, Path(options["scratch"])),
            **settings,
            beta=BETA,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(work.base),
        peft_config=adapter(work),
        callbacks=[Stopwatch(clock)],
    )
    return fit(trainer, clock, work, Path(options["scratch"]))


def reward(options: Mapping[str, Any]) -> dict[str, Any]:
    """RewardTrainer on the same pairs, with our penalty on scores far from zero."""
    work, clock = Work.of(options), Clock(settle())
    settings = {k: v for k, v in SETTINGS[options["settings"]].items() if "ref_log" not in k}
    trainer = trl.RewardTrainer(
        model=work.base,
        args=trl.RewardConfig(
            **common(work, Path(options["scratch"])),
            **settings,
            center_rewards_coefficient=0.01,
        ),
        train_dataset=datasets.Dataset.from_list(list(texts(work.questions))),
        processing_class=AutoTokenizer.from_pretrained(work.base),
        peft_config=adapter(work, head="score"),
        callbacks=[Stopwatch(clock)],
    )
    return fit(trainer, clock, work, Path(options["scratch"]))


def fit(trainer: Any, clock: Clock, work: Work, scratch: Path) -> dict[str, Any]:
    """Train, save as ours does, report."""
    trainer.train()
    trainer.save_model(str(scratch / "weights"))
    return {**clock.report(work.tokens), "loss": trainer.state.log_history[-1].get("train_loss")}


def common(work: Work, scratch: Path) -> dict[str, Any]:
    """What is the same in every setting: the batches, the optimiser, silence."""
    quiet()
    assert work.batch % work.at_once == 0
    return {
        "output_dir": str(scratch / "trl"),
        "use_cpu": not torch.cuda.is_available(),
        "per_device_train_batch_size": work.at_once,
        "gradient_accumulation_steps": work.batch // work.at_once,
        "max_steps": work.steps,
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": 1.0,
        "max_length": None,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": work.seed,
    }


def adapter(work: Work, head: str | None = None) -> LoraConfig | None:
    """The product's LoRA: all linear layers but the head."""
    if work.mode == "full":
        return None
    return LoraConfig(
        r=work.rank,
        lora_alpha=2 * work.rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        modules_to_save=[head] if head else None,
        task_type="SEQ_CLS" if head else "CAUSAL_LM",
    )


def longest(row: Mapping[str, Any]) -> int:
    """Of a pair's two rows, in words."""
    answers = (len(row[side][0]["content"].split()) for side in ("chosen", "rejected"))
    return len(row["prompt"][0]["content"].split()) + max(answers)


def quiet() -> None:
    datasets.disable_progress_bars()
    silent: Any = logging
    silent.set_verbosity_error()
    silent.disable_progress_bar()
