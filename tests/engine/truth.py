"""What models say by the library that everybody loads them with, and a gateway asked the same."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import httpx

QUESTIONS = ["What is a volcano?", "Who was Cleopatra?", "Tell me about the sea."]
TOKENS = 12


def ask(client: httpx.Client, model: str, question: str = QUESTIONS[0], **more: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "max_tokens": TOKENS, "temperature": 0, **more}
    return client.post("/v1/chat/completions", json=body)


@functools.cache
def told_by_transformers(folder: str, question: str) -> str:
    """What the weights say, by the library that everybody loads them with."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    said = model.generate(**asked, do_sample=False, max_new_tokens=TOKENS)[0]
    return str(tokenizer.decode(said[asked["input_ids"].shape[1] :], skip_special_tokens=True))


def known(policies: list[Any]) -> dict[str, dict[str, str]]:
    """Text by question by policy's name."""
    texts = {
        one.name: {
            question: told_by_transformers(one.path or one.base_model, question)
            for question in QUESTIONS
        }
        for one in policies
    }
    for question in QUESTIONS:
        assert len({said[question] for said in texts.values()}) == len(policies)
    return texts


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
