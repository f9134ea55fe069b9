"""Build the demo base model: `python -m align.demo.build_base OUT [--steps N] [--force]`.

Trains a byte-level BPE tokenizer and a small Llama from scratch on the synthetic corpus, assistant
tokens only, in about ten minutes on two cores. Does nothing when OUT already holds this recipe's
model. The only file of the demo that imports torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from align.demo.corpus import Exchange
from align.demo.recipe import (
    ASSISTANT,
    CHAT_TEMPLATE,
    END,
    FILE,
    PAD,
    SPECIAL,
    Recipe,
    built_digest,
)

Report = Callable[[int, float], None]
IGNORED = -100  # label of tokens that are not learned


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m align.demo.build_base", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--force", action="store_true", help="build even if OUT is up to date")
    args = parser.parse_args()
    recipe = Recipe(steps=args.steps)
    if not args.force and built_digest(args.out) == recipe.digest():
        print(f"{args.out} is up to date")
        return
    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 25 == 0 or step == recipe.steps:
            seconds = time.monotonic() - started
            print(f"step {step}/{recipe.steps}  loss {loss:.3f}  {seconds:.0f} s", flush=True)

    build(recipe, args.out, report)
    print(f"built {args.out} in {time.monotonic() - started:.0f} s")


def build(recipe: Recipe, out: Path, report: Report) -> None:
    """Train, then put the folder in place whole: tokenizer, bf16 weights, recipe.json."""
    corpus = recipe.corpus()
    tokenizer = train_tokenizer(recipe, corpus)
    model = new_model(recipe, tokenizer)
    train(model, encode(tokenizer, corpus), recipe, report)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    save(model, tokenizer, recipe, temporary)
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)


def train_tokenizer(recipe: Recipe, corpus: list[Exchange]) -> PreTrainedTokenizerFast:
    """A byte-level BPE that knows the turn markers as single tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (message["content"] for exchange in corpus for message in exchange.messages)
    core.train_from_iterator(texts, trainer)
    return cast(Any, PreTrainedTokenizerFast)(  # type: ignore[no-any-return]
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=recipe.positions,
        padding_side="left",
    )


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Any:
    torch.manual_seed(recipe.seed)
    return cast(Any, AutoModelForCausalLM).from_config(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            intermediate_size=recipe.intermediate,
            max_position_embeddings=recipe.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(tokenizer: PreTrainedTokenizerFast, corpus: list[Exchange]) -> list[list[int]]:
    """Each conversation as token ids, in the chat template's own words."""
    texts = [
        tokenizer.apply_chat_template(cast(Any, list(exchange.messages)), tokenize=False)
        for exchange in corpus
    ]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def train(model: Any, documents: list[list[int]], recipe: Recipe, report: Report) -> None:
    """AdamW with warm-up and cosine decay; batches of similar lengths, so little is padding."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(recipe, step))
    for step, batch in enumerate(batches(documents, recipe), start=1):
        loss = step_loss(model, batch)
        optimiser.zero_grad()
        cast(Any, loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        report(step, loss.item())


def batches(documents: list[list[int]], recipe: Recipe) -> list[list[list[int]]]:
    """All documents once, sorted by length within pools of sixteen batches, batches shuffled."""
    pool = recipe.batch * 16
    made = []
    for start in range(0, len(documents), pool):
        near = sorted(documents[start : start + pool], key=len)
        made += [near[i : i + recipe.batch] for i in range(0, len(near), recipe.batch)]
    random.Random(f"batches:{recipe.seed}").shuffle(made)
    return made


def step_loss(model: Any, batch: list[list[int]]) -> Tensor:
    """Mean cross-entropy over assistant tokens, their end-of-turn included, in nats."""
    longest = max(len(ids) for ids in batch)
    assistant, end, pad = (SPECIAL.index(token) for token in (ASSISTANT, END, PAD))
    inputs = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in batch])  # (B, T)
    labels = torch.full_like(inputs, IGNORED)
    for row, ids in enumerate(batch):
        learning = False
        for column, token in enumerate(ids):
            if learning:
                labels[row, column] = token
            learning = token == assistant or (learning and token != end)
    # Padding stands on the right, where a causal model's real tokens never see it.
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state[:, :-1]  # (B, T-1, H)
    learned = labels[:, 1:] != IGNORED
    logits = model.lm_head(hidden[learned])  # (N, V)
    return F.cross_entropy(logits, labels[:, 1:][learned])


def save(model: Any, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, out: Path) -> None:
    model.to(torch.bfloat16).save_pretrained(out)
    cast(Any, GenerationConfig)(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    ).save_pretrained(out)
    tokenizer.save_pretrained(out)
    described = {"digest": recipe.digest(), **dataclasses.asdict(recipe)}
    (out / FILE).write_text(json.dumps(described, indent=1) + "\n")


def _rate(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


if __name__ == "__main__":
    main()
