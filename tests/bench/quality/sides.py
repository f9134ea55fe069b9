"""Who learns: every objective of ours that the launch form could name, and TRL's RewardTrainer.

The same base, the same pairs, LoRA of the same rank. Each side says margins of the held-out pairs,
ours at the temperature that its job found in its own votes, if it looked for one.
The implicit reward is that of a policy which DPO trained on the pairs, as the alignment bench does.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from transformers import AutoTokenizer
from transformers.utils import logging

from align import jobs, objectives
from align.jobs import ModelRef, Optimiser, RewardJob, TrainJob, Weights
from align.measure.pairs import Pair
from tests.bench.alignment.workshop import Workshop, digest
from tests.bench.alignment.world import BASE
from tests.bench.quality.sources import Voted

EPOCHS, BATCH, RANK = 2, 16, 16
CENTRING = 0.01
RATE = 3e-3  # for everybody
POLICY_RATE = 2e-3  # but the policy behind the implicit reward
NEVER = 10**9
TWINS = ("davidson", "plackett_luce", "rao_kupper")  # Bradley-Terry's where two are never equal


@dataclass(frozen=True)
class Side:
    """`objective` is empty for TRL."""

    name: str
    objective: str = ""
    form: jobs.RewardForm = "tuned"
    folds: int = 0


TRL = Side("TRL")
FOLDS = 3  # as an experiment's form has it
OURS = Side("bradley_terry", "bradley_terry", folds=FOLDS)
PROBE = Side("bradley_terry probe", "bradley_terry", "probe")
IMPLICIT = Side("implicit", "implicit")


def ours(*, ties: bool = True) -> list[Side]:
    """What there is, found by name; Bradley-Terry first, and as a probe. Where no vote is a tie,
    objectives that differ from it by how they read ties are left out."""
    names = sorted(set(objectives.discover()) - {OURS.objective, *([] if ties else TWINS)})
    return [
        OURS,
        PROBE,
        *(Side(name, name) for name in names),
    ]


def learn(
    side: Side,
    workshop: Workshop,
    trained: Sequence[Voted],
    heldout: Sequence[Voted],
) -> list[Pair]:
    """The held-out pairs as the trained side sees them. Raises ValueError where the side cannot
    learn from such votes."""
    if side == TRL:
        return kept(workshop, trained, heldout)
    done = made(side, workshop, trained)
    return margins(workshop, done["weights"], heldout, done.get("temperature", 1.0))


def made(side: Side, workshop: Workshop, trained: Sequence[Voted]) -> dict[str, Any]:
    """The result of a side of ours."""
    policy = voted_for(workshop, trained) if side == IMPLICIT else None
    rows = [comparison(one) for one in trained]
    return workshop.do(job(side, policy), {jobs.COMPARISONS: rows})


def margins(
    workshop: Workshop, weights: Path, heldout: Sequence[Voted], temperature: float = 1.0
) -> list[Pair]:
    """What a model says of held-out pairs, in log-odds at its temperature."""
    items = answers(heldout)
    score = jobs.ScoreJob(reward_model=str(weights), batch_size=32)
    scored = workshop.do(score, {jobs.ITEMS: items})
    found = {row["id"]: row["reward"] for row in jobs.read_rows(scored["folder"] / jobs.SCORES)}
    return [
        Pair((found[f"{one.id}:0"] - found[f"{one.id}:1"]) / temperature, one.p, group=one.group)
        for one in heldout
    ]


def answers(voted: Sequence[Voted]) -> list[dict[str, Any]]:
    """Both answers of each pair, to be scored."""
    return [
        {"id": f"{one.id}:{place}", "messages": one.messages, "response": answer}
        for one in voted
        for place, answer in enumerate((one.first, one.second))
    ]


def voted_for(workshop: Workshop, trained: Sequence[Voted]) -> ModelRef:
    """The policy that DPO makes of the pairs, ties left out."""
    rows = []
    for one in trained:
        if one.p != 0.5:
            answers = (one.first, one.second) if one.p > 0.5 else (one.second, one.first)
            rows.append(
                {
                    "id": one.id,
                    "messages": one.messages,
                    "responses": dict(zip(("chosen", "rejected"), answers, strict=True)),
                    "p": 1.0,
                    "facts": {},
                    "weight": 1.0,
                }
            )
    job = TrainJob(
        algorithm="dpo",
        start=BASE,
        references={"reference": BASE},
        weights=Weights(rank=RANK, alpha=2 * RANK),
        optimiser=optimiser(POLICY_RATE),
    )
    return ModelRef(base=BASE.base, adapter=str(workshop.do(job, {jobs.EXAMPLES: rows})["weights"]))


def job(side: Side, policy: ModelRef | None = None) -> RewardJob:
    return RewardJob(
        base=BASE,
        policy=policy,
        objective=side.objective,
        form=side.form,
        folds=side.folds,
        weights=Weights(rank=RANK, alpha=2 * RANK),
        optimiser=optimiser(RATE),
    )


def optimiser(rate: float) -> Optimiser:
    return Optimiser(
        learning_rate=rate,
        epochs=EPOCHS,
        batch_size=BATCH,
        micro_batch_size=BATCH,
        checkpoint_every=NEVER,
    )


def comparison(one: Voted) -> dict[str, Any]:
    return {
        "id": one.id,
        "messages": one.messages,
        "responses": [one.first, one.second],
        "preferences": [(0, 1, one.p, 1.0)],
        "heldout": False,
    }


def kept(workshop: Workshop, trained: Sequence[Voted], heldout: Sequence[Voted]) -> list[Pair]:
    """TRL's margins, computed once for the same votes and the same versions."""
    told = [[comparison(one) for one in votes] for votes in (trained, heldout)]
    about = [RATE, EPOCHS, BATCH, RANK, CENTRING, version("trl"), version("torch"), told]
    place = workshop.folder / f"trl-{digest(about)}.jsonl"
    if not place.is_file():
        jobs.write_rows(place, ({"margin": pair.margin} for pair in _trl(trained, heldout)))
    return [
        Pair(row["margin"], one.p, group=one.group)
        for row, one in zip(jobs.read_rows(place), heldout, strict=True)
    ]


def _trl_row(one: Voted) -> dict[str, Any]:
    texts = (one.first["text"], one.second["text"])
    chosen, rejected = texts if one.p > 0.5 else texts[::-1]
    return {
        "prompt": list(one.messages),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _trl(trained: Sequence[Voted], heldout: Sequence[Voted]) -> list[Pair]:
    """RewardTrainer in fp32; it knows no ties, so those it never sees."""
    trl: Any = importlib.import_module("trl")
    datasets: Any = importlib.import_module("datasets")
    datasets.disable_progress_bars()
    cast(Any, logging).set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(BASE.base)
    rows = [_trl_row(one) for one in trained if one.p != 0.5]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trl.RewardTrainer(
            model=BASE.base,
            args=trl.RewardConfig(
                output_dir=scratch,
                use_cpu=not torch.cuda.is_available(),
                per_device_train_batch_size=BATCH,
                num_train_epochs=EPOCHS,
                learning_rate=RATE,
                lr_scheduler_type="cosine",
                warmup_steps=0.1,
                max_length=None,
                bf16=False,
                gradient_checkpointing=False,
                center_rewards_coefficient=CENTRING,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                seed=0,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK,
                lora_alpha=2 * RANK,
                lora_dropout=0.0,
                target_modules="all-linear",
                modules_to_save=["score"],
                task_type="SEQ_CLS",
            ),
        )
        trainer.train()
    model = trainer.model.eval()

    @torch.no_grad()
    def reward(one: Voted, answer: jobs.ResponseRow) -> float:
        said = [*one.messages, {"role": "assistant", "content": answer["text"]}]
        ids = tokenizer.apply_chat_template(said, return_tensors="pt", return_dict=True)
        return float(model(**ids).logits.squeeze())

    return [
        Pair(reward(one, one.first) - reward(one, one.second), one.p, group=one.group)
        for one in heldout
    ]
