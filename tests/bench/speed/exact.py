"""DPO's loss and gradient in fp64, one row at a time, by the formula and nothing else.

Where two fp32 computations differ, this says how far either is from what both mean.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.functional import logsigmoid

from tests.bench.speed.comparisons import Question
from tests.bench.speed.shapes import END
from tests.bench.speed.work import BETA, Work


def batches(work: Work, policy: str) -> list[tuple[float, dict[str, Tensor]]]:
    """The loss and its gradient by parameter, for each batch of the work's pairs."""
    untyped: Any = transformers
    words = untyped.AutoTokenizer.from_pretrained(work.base)
    mine, reference = (
        untyped.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
        for folder in (policy, work.base)
    )
    reference.requires_grad_(False)
    pairs = [(question, i, j) for question in work.questions for i, j in question.pairs()]
    found = []
    for at in range(0, len(pairs), work.batch):
        total = 0.0
        for question, i, j in pairs[at : at + work.batch]:
            prompt = prompt_ids(words, question)
            gaps = [
                logp(model, prompt, question.answers[i]) - logp(model, prompt, question.answers[j])
                for model in (mine, reference)
            ]
            loss = -logsigmoid(BETA * (gaps[0] - gaps[1])) / work.batch
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        found.append((total, {name: p.grad.clone() for name, p in mine.named_parameters()}))
        mine.zero_grad()
    return found


def prompt_ids(words: Any, question: Question) -> list[int]:
    """The question's turn, and the answer's opened."""
    text = words.apply_chat_template(question.messages, add_generation_prompt=True, tokenize=False)
    return list(words(text, add_special_tokens=False)["input_ids"])


def logp(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """log pi(answer, its end included | prompt), ()."""
    response = [*answer, END]
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    tokens: Tensor = logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])
    return tokens.sum()
