"""Where weights come from: what a manifest says of them, and what makes two runs the same run.

Nothing here depends on time, place in memory or attempt, so equal work gives equal manifests.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from align import jobs
from align.gpu import checkpoint, model
from align.jobs import RewardJob, TrainJob

PACKAGES = ("plumbline", "torch", "transformers", "peft")


def fingerprint(job: TrainJob | RewardJob, data_sha256: str) -> str:
    """Of all that decides the result; how batches are cut and how many processes share them does
    not, so it may change."""
    fields = {**jobs.to_json(job), "processes": None}
    fields["optimiser"] |= {"micro_batch_size": None}
    del fields["optimiser"]["micro_batch_tokens"]
    text = json.dumps([fields, data_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def provenance(policy: model.Policy, job: TrainJob | RewardJob, data_sha256: str) -> dict[str, Any]:
    """Manifest metadata: the whole job, its base and data, and the versions that ran it."""
    manifest = Path(policy.ref.base) / checkpoint.MANIFEST
    base = checkpoint.verify(manifest.parent) if manifest.is_file() else None
    return {
        "job": jobs.to_json(job),
        "start": asdict(policy.ref),
        "base_sha256": base.sha256 if base else None,
        "data_sha256": data_sha256,
        "template_sha256": model.template_hash(policy.tokenizer),
        "seed": job.optimiser.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    }


def file_hash(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
