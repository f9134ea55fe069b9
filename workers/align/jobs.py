"""The seam between the platform and the learning code.

A job is a frozen dataclass written to `job.json` in a run directory; a child process reads it,
works only inside that directory, appends to `events.jsonl`, and ends by writing `result.json`.
Nothing here knows Django, Celery or torch, so both sides import it and any job can be replayed
from a shell: `python -m align.gpu.train RUNDIR`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from align.ensemble import Ensemble
from align.factor_jobs import FactorJob, FitJob, PoolJob, RelevanceJob
from align.judge_jobs import Asked as Asked
from align.judge_jobs import AskJob as AskJob
from align.judge_jobs import CompareJob as CompareJob
from align.judge_jobs import JudgeJob as JudgeJob
from align.judge_jobs import ProgramJob as ProgramJob
from align.judge_jobs import WriteJob as WriteJob
from align.labels import Labels
from align.rows import SCHEMA as SCHEMA
from align.rows import ComparisonRow as ComparisonRow
from align.rows import CompletionRow as CompletionRow
from align.rows import ContrastRow as ContrastRow
from align.rows import ExampleRow as ExampleRow
from align.rows import FeatureRow as FeatureRow
from align.rows import ItemRow as ItemRow
from align.rows import Message as Message
from align.rows import PromptRow as PromptRow
from align.rows import ResponseRow as ResponseRow
from align.rows import ScoreRow as ScoreRow
from align.rows import VoteRow as VoteRow

# File names inside a run directory.
JOB = "job.json"
EVENTS = "events.jsonl"  # one JSON object a line: see `align.events`
STDERR = "stderr.log"
RESULT = "result.json"
LOCK = "lock"  # flock-ed by the child for as long as it lives
PROMPTS = "prompts.jsonl"  # SampleJob in: PromptRow
COMPLETIONS = "completions.jsonl"  # SampleJob out: CompletionRow
ITEMS = "items.jsonl"  # ScoreJob, ContrastJob, FeatureJob in: ItemRow
SCORES = "scores.jsonl"  # ScoreJob out: ScoreRow
CONTRASTS = "contrasts.jsonl"  # ContrastJob out: ContrastRow
FEATURES = "features.jsonl"  # FeatureJob out: FeatureRow
COMPARISONS = "comparisons.jsonl"  # RewardJob in: ComparisonRow
LABELS = "labels.jsonl"  # RewardJob out: every label that was not trained on as it was given
EXAMPLES = "examples.jsonl"  # TrainJob in: ExampleRow
CHECKPOINTS = "checkpoints"  # TrainJob, RewardJob: resumable states, newest verified one wins
WEIGHTS = "weights"  # TrainJob, RewardJob, MergeJob out: the committed folder with its manifest
CANDIDATES = "candidates"  # TrainJob out: earlier weights of the same round, committed the same way

DISK_FULL = 74  # exit status of a child that had no room to write, and what that means
FULL = (
    "The disk that holds the run folder is full; what was saved before is kept, and the job goes "
    "on from it once there is room."
)

CUT_OFF = ("length", "cut")  # finish reasons of answers that nothing closes: no end of turn


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A policy on disk: a folder of full weights, with or without a PEFT adapter on top."""

    base: str
    adapter: str | None = None


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW with linear warm-up and cosine decay to zero; `batch_size` counts examples."""

    learning_rate: float = 5e-5
    epochs: int = 1
    batch_size: int = 16
    micro_batch_size: int = 16
    micro_batch_tokens: int = 0  # if not 0: micro-batches of so many packed tokens instead
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 1024  # prompt + response tokens; prompts are cut on the left, answers never
    seed: int = 0
    checkpoint_every: int = 10  # optimiser steps


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What is trained: LoRA matrices on all linear layers, or every weight.

    precision: of matrix products; what is trained stays fp32, as do sums. "auto" is bf16 on a GPU
    and fp32 on a CPU, where "bf16" is faster from some million parameters on and costs digits.
    activation_checkpointing: keep each layer's input only and compute the rest again for the
    gradient, which takes a third longer and a fraction of the memory; the results are the same.
    """

    mode: Literal["lora", "full"] = "lora"
    rank: int = 16
    alpha: int = 32
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    activation_checkpointing: bool = False


@dataclass(frozen=True, kw_only=True)
class SampleJob:
    """Draw `n` completions of each row of prompts.jsonl from a served model.

    Prompts go out in fixed chunks of `chunk`, each one request with its own seed, so a job that
    is killed and resumed asks for exactly the same draws again. At most `concurrency` requests are
    in flight, and no more than the engine has room for (`align.sample.IN_FLIGHT` draws).
    """

    kind: ClassVar[str] = "sample"
    engine_url: str
    model: str
    n: int
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    seed: int = 0
    chunk: int = 1
    concurrency: int = 64
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """Score every row of items.jsonl: by a reward model, and under any number of policies.

    `cache` is a folder where rewards are kept by model and text, for all jobs that name it.
    `tastes`: read a mixture for whoever has these shares of its heads, instead of for everybody.
    """

    kind: ClassVar[str] = "score"
    reward_model: str | None = None  # a committed weights folder of a RewardJob
    cache: str | None = None
    tastes: Sequence[float] = field(default_factory=list)
    policies: Mapping[str, ModelRef] = field(default_factory=dict)
    by_token: bool = False
    pieces: bool = False  # say what each token is in words
    max_length: int = 1024
    batch_size: int = 16
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class ContrastJob:
    """Of each prompt's answers in items.jsonl, the two that a vote teaches most about taste: alike
    in how far they contradict `base`, unlike in what they are (`align.gpu.contrast`)."""

    kind: ClassVar[str] = "contrast"
    base: ModelRef
    max_length: int = 1024
    batch_size: int = 64
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class FeatureJob:
    """Where the answers in items.jsonl lie among what a reward model could learn: `dims` numbers
    each, of the reward model's last state, or of the base (`align.gpu.features`)."""

    kind: ClassVar[str] = "features"
    base: ModelRef
    reward_model: str | None = None  # a committed weights folder of a RewardJob
    dims: int = 64
    max_length: int = 1024
    batch_size: int = 64
    schema: int = SCHEMA


RewardForm = Literal["tuned", "probe"]


@dataclass(frozen=True, kw_only=True)
class RewardJob:
    """Train a reward model from `base` on comparisons.jsonl; accuracy is measured on its held-out
    rows, which are never trained on. `form`: a head on a backbone that is trained with it, or a
    linear probe of the base as it is (`align.gpu.probe`), which needs no optimiser and takes one
    process. `policy`: whose implicit reward it is, where the objective is that. `tastes`: raters'
    shares of the heads of the mixture before, so that heads keep their numbers. `folds`: copies to
    find the temperature by, 0 for none (`align.gpu.crossfit`). `processes`: see TrainJob."""

    kind: ClassVar[str] = "reward"
    base: ModelRef
    objective: str = "bradley_terry"
    form: RewardForm = "tuned"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    ensemble: Ensemble = field(default_factory=Ensemble)
    labels: Labels = field(default_factory=Labels)
    policy: ModelRef | None = None
    tastes: Mapping[str, Sequence[float]] = field(default_factory=dict)
    weights: Weights = field(default_factory=Weights)
    optimiser: Optimiser = field(default_factory=Optimiser)
    folds: int = 0
    processes: int = 1
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One round of `algorithm` on examples.jsonl, starting from `start`.

    `references` maps each name the algorithm declares to the frozen policy behind it. `candidates`
    is how many weights an epoch leaves behind to choose from, evenly spaced, the last ones
    included; at 0 there is no choice. `anchor` times the chosen answer's cross-entropy per token is
    added to whatever the loss is (RPO, arXiv:2404.19733). `processes` is how many share the work,
    each on a GPU of its own where there are GPUs; 0 is one for each GPU that is free. It changes
    no result by more than rounding, and the trainer takes as many as it is started with.
    """

    kind: ClassVar[str] = "train"
    algorithm: str
    start: ModelRef
    knobs: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, ModelRef] = field(default_factory=dict)
    weights: Weights = field(default_factory=Weights)
    optimiser: Optimiser = field(default_factory=Optimiser)
    candidates: int = 0
    anchor: float = 0.0
    processes: int = 1
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class MergeJob:
    """The sum of share times weights, of policies that share a base; shares sum to 1."""

    kind: ClassVar[str] = "merge"
    policies: Mapping[str, ModelRef]
    shares: Mapping[str, float]
    schema: int = SCHEMA


Job = (
    SampleJob
    | ScoreJob
    | ContrastJob
    | FeatureJob
    | RewardJob
    | TrainJob
    | MergeJob
    | CompareJob
    | JudgeJob
    | AskJob
    | ProgramJob
    | FactorJob
    | FitJob
    | RelevanceJob
    | PoolJob
    | WriteJob
)
KINDS: dict[str, type[Job]] = {job.kind: job for job in get_args(Job)}

# How a child process is started for each kind, and which queue's workers do it.
MODULES = {
    "sample": "align.sample",
    "score": "align.gpu.score",
    "contrast": "align.gpu.contrast",
    "features": "align.gpu.features",
    "reward": "align.gpu.reward",
    "train": "align.gpu.train",
    "merge": "align.gpu.merge",
    "compare": "align.gpu.compare",
    "judge": "align.judge",
    "ask": "align.ask",
    "programs": "align.program_job",
    "factors": "align.measuring",
    "fit": "align.fitting",
    "relevance": "align.gpu.relevance",
    "pool": "align.pooling",
    "write": "align.writer",
}
QUEUES = {
    kind: "gpu" if module.startswith("align.gpu.") else "cpu" for kind, module in MODULES.items()
}
LAUNCHER = "align.gpu.launch"  # N MODULE RUNDIR: of jobs that several processes share


PARTS: dict[str, type[Any]] = {
    "base": ModelRef,
    "start": ModelRef,
    "policy": ModelRef,
    "weights": Weights,
    "optimiser": Optimiser,
    "ensemble": Ensemble,
    "labels": Labels,
    "asked": Asked,
}


def to_json(job: Job) -> dict[str, Any]:
    return {"kind": job.kind, **dataclasses.asdict(job)}


def from_json(data: Mapping[str, Any]) -> Job:
    """The job that `data` describes. Raises ValueError naming an unknown kind, field or schema."""
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"unknown job kind {kind!r}; this version knows {', '.join(KINDS)}")
    if fields.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(
            f"job schema {fields['schema']} is not {SCHEMA}, the one this worker knows"
        )
    cls = KINDS[kind]
    unknown = fields.keys() - {f.name for f in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"{kind} job has unknown fields: {', '.join(sorted(unknown))}")
    for name, part in PARTS.items():
        if isinstance(fields.get(name), Mapping):
            fields[name] = part(**fields[name])
    for name in ("references", "policies"):
        if name in fields:
            fields[name] = {key: ModelRef(**ref) for key, ref in fields[name].items()}
    return cls(**fields)


def read_job(rundir: Path) -> Job:
    return from_json(json.loads((rundir / JOB).read_text()))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines durably: the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
    sync_dir(path.parent)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_rows(path, [data])


def sync_dir(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
