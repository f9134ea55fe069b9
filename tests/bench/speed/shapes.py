"""Models to measure on: known shapes, random weights, a tokenizer whose every word is one token.

Made on this machine and kept, so that nothing is downloaded. Speed does not depend on what the
weights are; that both sides start from the same file is what makes their losses comparable.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
AROUND = 4  # tokens that the template puts around a single question
END = SPECIAL.index("<|end|>")
LONGEST = 32_768  # positions


@dataclass(frozen=True)
class Shape:
    """A model's measures. `endings`: how many words end an answer when the model writes, as the
    end-of-turn token does; with random weights that decides how long answers are."""

    name: str
    family: str  # "llama" or "qwen2"
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    endings: int = 0

    def with_vocabulary(self, size: int) -> Shape:
        return replace(self, name=f"{self.name}-v{size}", vocabulary=size)

    def ending_early(self, count: int) -> Shape:
        return replace(self, name=f"{self.name}-e{count}", endings=count)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("toy", "llama", 32, 64, 2, 4, 2, 256),
        Shape("tiny", "llama", 256, 688, 3, 4, 4, 2_048),
        Shape("m125", "llama", 768, 2_048, 12, 12, 12, 32_000),
        Shape("q05", "qwen2", 896, 4_864, 24, 14, 2, 151_936, tied=True),
        Shape("q15", "qwen2", 1_536, 8_960, 28, 12, 2, 151_936, tied=True),
    )
}


def word(token: int) -> str:
    """The text of an ordinary token, which tokenizes to that token and nothing else."""
    return f"w{token}"


def text(tokens: list[int]) -> str:
    return " ".join(map(word, tokens))


def tokenizer(vocabulary: int) -> Any:
    entries = [*SPECIAL, *map(word, range(len(SPECIAL), vocabulary))]
    core = Tokenizer(models.WordLevel({entry: index for index, entry in enumerate(entries)}))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(list(SPECIAL))
    untyped: Any = transformers
    return untyped.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=TEMPLATE,
    )


def config(shape: Shape) -> Any:
    fields: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": LONGEST,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": SPECIAL.index("<|pad|>"),
        "bos_token_id": SPECIAL.index("<|bos|>"),
        "eos_token_id": END,
    }
    untyped: Any = transformers
    kind = untyped.Qwen2Config if shape.family == "qwen2" else untyped.LlamaConfig
    return kind(**fields)


def build(shape: Shape, folder: Path, seed: int = 0) -> Path:
    """The model's folder inside `folder`, made at the first call. fp32 weights."""
    place = folder / f"{shape.name}-{seed}"
    if place.is_dir():
        return place
    untyped: Any = transformers
    untyped.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = untyped.AutoModelForCausalLM.from_config(config(shape), dtype=torch.float32)
    ordinary = range(len(SPECIAL), len(SPECIAL) + shape.endings)
    model.generation_config.eos_token_id = [END, *ordinary] if shape.endings else END
    stray = folder / f".{place.name}.{os.getpid()}"
    model.save_pretrained(stray)
    tokenizer(shape.vocabulary).save_pretrained(stray)
    try:
        stray.rename(place)
    except OSError:  # another one was quicker
        shutil.rmtree(stray)
    return place
