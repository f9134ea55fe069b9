"""What the demo base model is made from, and the hash that names it.

The hash covers the corpus text, the tokenizer, the shape and the training plan: a built folder
whose recipe.json holds another hash is of an older recipe and must be built again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.demo.corpus import Exchange, exchanges

FILE = "recipe.json"
VERSION = 1  # bump when the builder itself changes what it makes

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, SYSTEM, USER, ASSISTANT, END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A Llama of 2.0 million parameters, trained on `steps` batches of `batch` conversations."""

    vocabulary: int = 1280
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    intermediate: int = 512
    positions: int = 1024
    batch: int = 48
    steps: int = 2400
    learning_rate: float = 3e-3
    warmup: int = 30
    weight_decay: float = 0.05
    seed: int = 0

    def corpus(self) -> list[Exchange]:
        """Every conversation is seen once."""
        return list(exchanges(self.batch * self.steps, self.seed))

    def digest(self) -> str:
        """SHA-256 over everything the built weights depend on."""
        sha = hashlib.sha256()
        sha.update(json.dumps(self.described(), sort_keys=True).encode())
        for exchange in self.corpus():
            sha.update(json.dumps(exchange.messages, ensure_ascii=False).encode())
        return sha.hexdigest()

    def described(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "special": SPECIAL,
            "chat_template": CHAT_TEMPLATE,
            **dataclasses.asdict(self),
        }


def built_digest(folder: Path) -> str | None:
    """The hash of the recipe a folder was built from; None when it holds no built model."""
    path = folder / FILE
    if not path.is_file():
        return None
    digest: str = json.loads(path.read_text())["digest"]
    return digest
