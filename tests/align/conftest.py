"""A tiny chat model made on the spot, and run directories around it.

Random Llama weights (hidden 32, 2 layers) and a byte-level tokenizer with a chat template: real
files for the real loaders, small enough that a training run takes a second. One thread, because
tests fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from align import jobs  # noqa: E402
from align.gpu import train  # noqa: E402
from align.run import Run, main  # noqa: E402

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )


def build_base(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers and vLLM load: config, safetensors, tokenizer, chat template."""
    return build_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape with other weights."""
    return build_base(tmp_path_factory.mktemp("other") / "base", seed=7)


def response(text: str, **fields: Any) -> dict[str, Any]:
    return {"id": text, "text": text, "token_ids": None, "finish_reason": "stop", **fields}


def pair(prompt: str, chosen: str, rejected: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"{prompt}/{chosen}/{rejected}",
        "messages": [{"role": "user", "content": prompt}],
        "responses": {"chosen": response(chosen), "rejected": response(rejected)},
        "p": 1.0,
        "facts": {},
        "weight": 1.0,
        **fields,
    }


def pairs(count: int = 12) -> list[dict[str, Any]]:
    """Answers that start with "yes" are preferred; lengths vary."""
    return [
        pair(f"question {n}", "yes" + "!" * (n % 5), "no" + "." * (n % 7), id=f"pair-{n}")
        for n in range(count)
    ]


@pytest.fixture
def rundir(tmp_path: Path) -> Callable[..., Path]:
    """Write a run directory: `rundir(job, examples=rows)` or any other rows file by name."""

    def make(job: jobs.Job, name: str = "run", **files: Sequence[Mapping[str, Any]]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
        for stem, rows in files.items():
            jobs.write_rows(folder / f"{stem}.jsonl", rows)
        return folder

    return make


Work = Callable[[Run], Mapping[str, Any]]


def do(work: Work, folder: Path) -> dict[str, Any]:
    """Run a job program in this process, and return its result without where it ran."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        main(work, [str(folder)])
    finally:
        signal.signal(signal.SIGTERM, before)
    found = result(folder)
    del found["ran"]
    return found


def forked(action: Callable[[], object]) -> int:
    """Run in a child process that shares what is loaded; its exit status, or minus its signal.

    What `action` patches stays in the child, so it may plant a fault and then die of it.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    """What power loss and the kernel's out-of-memory killer have in common."""
    os.kill(os.getpid(), signal.SIGKILL)


def result(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / jobs.RESULT).read_text())
    return fields


def metrics(folder: Path) -> list[dict[str, float]]:
    """The metric events of a run, in order."""
    events = [json.loads(line) for line in (folder / jobs.EVENTS).read_text().splitlines()]
    return [event["values"] for event in events if event["type"] == "metric"]


def train_job(base: Path, adapter: Path | None = None, **settings: Any) -> jobs.TrainJob:
    """A DPO round on the tiny model whose reference is its start; settings of the optimiser."""
    ref = jobs.ModelRef(base=str(base), adapter=str(adapter) if adapter else None)
    defaults = {
        "learning_rate": 1e-2,
        "epochs": 3,
        "batch_size": 4,
        "micro_batch_size": 2,
        "checkpoint_every": 2,
    }
    return jobs.TrainJob(
        algorithm="dpo",
        start=ref,
        references={"reference": ref},
        weights=jobs.Weights(rank=4, alpha=8),
        optimiser=jobs.Optimiser(**{**defaults, **settings}),
    )


@pytest.fixture(scope="session")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on the tiny model, trained and committed by the trainer."""
    from align.gpu import train

    folder = tmp_path_factory.mktemp("adapter")
    jobs.write_json(folder / jobs.JOB, jobs.to_json(train_job(tiny_base)))
    jobs.write_rows(folder / jobs.EXAMPLES, pairs())
    do(train.work, folder)
    return folder / jobs.WEIGHTS


@pytest.fixture
def fresh(rundir: Callable[..., Path], tiny_base: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Run directories of the same training job: 9 steps, checkpoints at 2, 4, 6 and 8."""
    rundir(train_job(tiny_base), "template", examples=pairs())
    return lambda name: Path(shutil.copytree(tmp_path / "template", tmp_path / name))


@pytest.fixture
def whole(fresh: Callable[[str], Path]) -> str:
    """The hash of that job's weights when nothing happens."""
    sha256: str = do(train.work, fresh("whole"))["sha256"]
    return sha256
