"""`python -m align.gpu.relevance RUNDIR`: how relevant answers are to what was asked.

A text's embedding is the mean of a model's last hidden states over its tokens, of length one; the
relevance of two texts is their cosine. An embedding depends on the text alone, not on its batch
beyond rounding, and is kept by model and text, so a job that was killed computes what is left.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from align import factors, jobs, model_folder
from align.factor_jobs import RELEVANCE, TEXTS, RelevanceJob, RelevanceRow
from align.gpu import model
from align.gpu.provenance import file_hash
from align.run import Run, main

OWN_CACHE = "embeddings"  # in the run directory, where the job names no cache


class Encoder:
    """Mean-pooled embeddings of a local model: what AutoModel loads, from safetensors only."""

    def __init__(self, folder: Path, max_length: int) -> None:
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise ValueError(f"{folder} holds no config.json with safetensors beside it")
        model_folder.check(folder)
        self.max_length = max_length
        self.device = model.device()
        local = {"local_files_only": True, "trust_remote_code": False}
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "right"
        loaded: Any = AutoModel.from_pretrained(folder, use_safetensors=True, **local)
        self.model = loaded.to(self.device).eval().float()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, H) on the CPU, each of length one; an empty text is all zeros."""
        given = self.tokenizer(
            [text or " " for text in texts],
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).to(self.device)
        ids, shown = given["input_ids"], given["attention_mask"]  # (B, T)
        states = self.model(input_ids=ids, attention_mask=shown).last_hidden_state  # (B, T, H)
        mask = shown[:, :, None].float()
        mean = (states.float() * mask).sum(1) / mask.sum(1).clamp(min=1)
        blank = torch.tensor([not text.strip() for text in texts], device=mean.device)
        found = torch.nn.functional.normalize(mean, dim=1).masked_fill(blank[:, None], 0)
        return found.cpu()


def work(run: Run) -> dict[str, Any]:
    """Write every text's relevance. Raises ValueError for a bad job or a folder with no model."""
    job = run.job
    if not isinstance(job, RelevanceJob):
        raise ValueError(f"align.gpu.relevance does relevance jobs, not {job.kind} jobs")
    if job.batch_size < 1 or job.max_length < 1:
        raise ValueError("batch_size and max_length must be at least 1")
    model.deterministic(0)
    rows = list(jobs.read_rows(run.folder / TEXTS))
    wanted = [text for row in rows for text in (row["text"], _against(row))]
    folder = Path(job.cache) if job.cache else run.folder / OWN_CACHE
    shelf = Shelf(folder, identity(Path(job.model), job.max_length))
    known = shelf.find(wanted)
    recalled = len(known)
    missing = sorted(set(wanted) - known.keys(), key=lambda text: (-len(text), text))
    encoder = Encoder(Path(job.model), job.max_length) if missing else None
    for at in range(0, len(missing), job.batch_size):
        run.check()
        assert encoder is not None
        batch = missing[at : at + job.batch_size]
        found = dict(zip(batch, encoder(batch).tolist(), strict=True))
        shelf.add(found)
        known.update(found)
        run.progress(len(known), len(set(wanted)), "texts")
    jobs.write_rows(run.folder / RELEVANCE, _rows(rows, known))
    return {"texts": len(rows), "embedded": len(missing), "recalled": recalled}


def _rows(rows: Iterable[Any], known: dict[str, list[float]]) -> Iterator[RelevanceRow]:
    for row in rows:
        text, other = known[row["text"]], known[_against(row)]
        cosine = sum(a * b for a, b in zip(text, other, strict=True))
        yield {"id": row["id"], "relevance": cosine, "closed": bool(row.get("reference"))}


def _against(row: Any) -> str:
    """What a text is compared with: the reference, or the question."""
    return str(row.get("reference") or factors.question(row["messages"]))


def identity(folder: Path, max_length: int) -> str:
    """Of a model's folder and how much of a text it reads: all that an embedding depends on."""
    parts = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    told = [f"{path.name} {file_hash(path)}" for path in parts]
    return hashlib.sha256("\n".join([*told, str(max_length)]).encode()).hexdigest()


class Shelf:
    """Embeddings by text of one model, appended under a lock; a torn line is passed over."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.embeddings.jsonl"

    def find(self, texts: Iterable[str]) -> dict[str, list[float]]:
        wanted = {_digest(text): text for text in texts}
        found: dict[str, list[float]] = {}
        if not self.path.is_file():
            return found
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                if line[:64] in wanted and line.endswith("]\n"):
                    found[wanted[line[:64]]] = json.loads(line[65:])
        return found

    def add(self, embeddings: dict[str, list[float]]) -> None:
        rows = "".join(f"{_digest(text)} {json.dumps(row)}\n" for text, row in embeddings.items())
        with self.path.open("a+b") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            if end := out.seek(0, 2):
                out.seek(end - 1)
                rows = rows if out.read(1) == b"\n" else f"\n{rows}"
            out.write(rows.encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main(work)
