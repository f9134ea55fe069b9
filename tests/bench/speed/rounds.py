"""One online round, as each side makes it: sample, let a function judge, train one epoch.

Every prompt gets the same number of answers, consecutive draws are compared by their scores, and
all pairs are trained on, cut-off answers too, because that is what TRL's online trainer does. Ours
are the product's programs: an engine behind HTTP, a sample job, a train job, the new policy live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from align import jobs, sample
from align.gpu import train as trainer
from align.run import Run
from tests.bench.speed import engine, ours, trl_side
from tests.bench.speed.clock import Clock, Moment, memory, settle
from tests.bench.speed.comparisons import Question
from tests.bench.speed.shapes import SPECIAL
from tests.bench.speed.trl_side import Stopwatch, clocked, datasets, trl
from tests.bench.speed.work import BETA, Work

TEMPERATURE = 0.9
PAD = SPECIAL.index("<|pad|>")


@dataclass
class Stages:
    """Seconds by stage, on one clock."""

    clock: Clock
    spent: dict[str, Moment] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = self.clock.now()
        yield
        more, old = self.clock.now().since(before), self.spent.get(name, Moment(0, 0))
        self.spent[name] = Moment(old.cpu + more.cpu, old.wall + more.wall)

    def report(self, begun: Moment, tokens: int) -> dict[str, Any]:
        """`tokens`: sampled ones."""
        whole = self.clock.now().since(begun)
        return {
            "whole": {"cpu": whole.cpu, "wall": whole.wall},
            "stages": {
                name: {"cpu": spent.cpu, "wall": spent.wall} for name, spent in self.spent.items()
            },
            "tokens": tokens,
            **memory(),
        }


def score(text: str) -> float:
    """A taste that costs nothing to apply: the share of words with an odd number."""
    words = text.split()
    return sum(word[-1:] in "13579" for word in words) / len(words) if words else 0.0


def judged(scores: Sequence[float]) -> list[tuple[int, int]]:
    """Consecutive draws as (chosen, rejected)."""
    return [
        (at, at + 1) if scores[at] >= scores[at + 1] else (at + 1, at)
        for at in range(0, len(scores) - 1, 2)
    ]


def product(options: Mapping[str, Any]) -> dict[str, Any]:
    """Ours. The engine is up before the clock starts, as it is in the product."""
    work, scratch, draws = Work.of(options), Path(options["scratch"]), options["draws"]
    prompts = work.questions
    longest = work.lengths.prompt[1] + options["max_tokens"]
    with engine.running(work.base, longest, scratch, options["vllm"]) as served:
        clock = Clock(settle(), served.cpu)
        stages, begun = Stages(clock), clock.now()
        with stages.stage("sample"):
            job = jobs.SampleJob(
                engine_url=served.url,
                model="base",
                n=draws,
                temperature=TEMPERATURE,
                max_tokens=options["max_tokens"],
                seed=work.seed,
            )
            asked = [{"id": q.id, "messages": q.messages} for q in prompts]
            folder = ours.write(scratch / "sample", job, {jobs.PROMPTS: asked})
            sample.work(Run(folder))
            answers = list(jobs.read_rows(folder / jobs.COMPLETIONS))
        with stages.stage("label"):
            examples = list(_examples(prompts, answers, draws))
        with stages.stage("train"):
            job_rows = {jobs.EXAMPLES: examples}
            folder = ours.write(scratch / "train", ours.train_job(work), job_rows)
            trainer.work(Run(folder))
        with stages.stage("serve"):
            served.load("round-1", folder / jobs.WEIGHTS)
        return stages.report(begun, sum(len(answer["token_ids"]) for answer in answers))


def _examples(
    prompts: Sequence[Question], answers: Sequence[Mapping[str, Any]], draws: int
) -> Iterator[jobs.ExampleRow]:
    for number, question in enumerate(prompts):
        mine = answers[number * draws : (number + 1) * draws]
        for chosen, rejected in judged([score(answer["text"]) for answer in mine]):
            sides = {"chosen": chosen, "rejected": rejected}
            yield {
                "id": f"{question.id}.{chosen}.{rejected}",
                "messages": question.messages,
                "responses": {
                    side: {
                        "id": f"{question.id}.{index}",
                        "text": mine[index]["text"],
                        "token_ids": mine[index]["token_ids"],
                        "finish_reason": mine[index]["finish_reason"],
                    }
                    for side, index in sides.items()
                },
                "p": 1.0,
                "facts": {},
                "weight": 1.0,
            }


def trl_online(options: Mapping[str, Any]) -> dict[str, Any]:
    """OnlineDPOTrainer, which draws two answers to a prompt: prompts come up draws / 2 times."""
    online: Any = __import__("trl.experimental.online_dpo", fromlist=["OnlineDPOTrainer"])
    work, scratch, draws = Work.of(options), Path(options["scratch"]), options["draws"]
    tokens = 0

    def reward(completions: Any, completion_ids: Any, **rest: Any) -> list[float]:
        nonlocal tokens
        tokens += sum(token != PAD for row in completion_ids for token in row)
        return [score(messages[0]["content"]) for messages in completions]

    clock = Clock(settle())
    stages = Stages(clock)
    prompts = [{"prompt": q.messages} for _ in range(draws // 2) for q in work.questions]
    common = trl_side.common(work, scratch)
    settings = dict(trl_side.SETTINGS[options["settings"]])
    settings.pop("precompute_ref_log_probs", None)
    dtype = settings.pop("model_init_kwargs", {}).get("dtype", "float32")
    peer = _timed(online.OnlineDPOTrainer, stages, "_generate", "sample")(
        model=load(work.base, dtype),
        reward_funcs=reward,
        args=online.OnlineDPOConfig(
            **{**common, **settings, "max_length": 512, "max_steps": -1, "num_train_epochs": 1},
            beta=[BETA],
            temperature=TEMPERATURE,
            max_new_tokens=options["max_tokens"],
        ),
        train_dataset=datasets.Dataset.from_list(prompts),
        processing_class=tokenizer(work.base),
        peft_config=trl_side.adapter(work),
        callbacks=[Stopwatch(clock)],
    )
    peer.train()
    assert clock.begun is not None
    return stages.report(clock.begun, tokens)


def transformers_then_dpo(options: Mapping[str, Any]) -> dict[str, Any]:
    """`generate` with a bf16 copy of the policy, then DPOTrainer on the pairs."""
    work, scratch, draws = Work.of(options), Path(options["scratch"]), options["draws"]
    trl_side.quiet()
    words = tokenizer(work.base)
    # Measured: weights in bf16 sample twice as fast as fp32 ones, with autocast or without.
    sampler, model = load(work.base, "bfloat16"), load(work.base)
    clock = Clock(settle())
    stages, begun = Stages(clock), clock.now()
    with stages.stage("sample"):
        answers = generate(sampler, words, work.questions, draws, options["max_tokens"])
    with stages.stage("label"):
        rows = list(_texts(work.questions, words, answers, draws))
    with stages.stage("train"):
        clock_of_dpo = Clock(settle())
        peer = clocked(trl.DPOTrainer, clock_of_dpo)(
            model=model,
            args=trl.DPOConfig(
                **{**trl_side.common(work, scratch), "max_steps": -1, "num_train_epochs": 1},
                **trl_side.SETTINGS[options["settings"]],
                beta=BETA,
            ),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=words,
            peft_config=trl_side.adapter(work),
        )
        peer.train()
    return stages.report(begun, sum(len(answer) for answer in answers))


@torch.no_grad()
def generate(
    model: Any, words: Any, prompts: Sequence[Question], draws: int, max_tokens: int, size: int = 16
) -> list[list[int]]:
    """Token ids of every answer, `size` prompts at a time, left-padded, with transformers."""
    found: list[list[int]] = []
    words.padding_side = "left"
    for at in range(0, len(prompts), size):
        inputs = words.apply_chat_template(
            [question.messages for question in prompts[at : at + size]],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device)
        drawn = model.generate(
            **inputs,
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            max_new_tokens=max_tokens,
            num_return_sequences=draws,
        )
        tails = drawn[:, inputs["input_ids"].shape[1] :].tolist()
        found += [[token for token in tail if token != PAD] for tail in tails]
    words.padding_side = "right"
    return found


def _texts(
    prompts: Sequence[Question], words: Any, answers: Sequence[Sequence[int]], draws: int
) -> Iterator[dict[str, Any]]:
    texts = words.batch_decode(answers, skip_special_tokens=True)
    for number, question in enumerate(prompts):
        mine = texts[number * draws : (number + 1) * draws]
        for chosen, rejected in judged([score(text) for text in mine]):
            yield {
                "prompt": question.messages,
                "chosen": [{"role": "assistant", "content": mine[chosen]}],
                "rejected": [{"role": "assistant", "content": mine[rejected]}],
            }


def load(base: str, dtype: str = "float32") -> Any:
    untyped: Any = transformers
    place = "cuda" if torch.cuda.is_available() else "cpu"
    return untyped.AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(place)


def tokenizer(base: str) -> Any:
    untyped: Any = transformers
    return untyped.AutoTokenizer.from_pretrained(base)


def _timed(peer: Any, stages: Stages, method: str, stage: str) -> Any:
    """A trainer whose `method` is on the clock as a stage."""
    original = getattr(peer, method)

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        with stages.stage(stage):
            return original(self, *args, **kwargs)

    return type(peer.__name__, (peer,), {method: timed})
