"""Packed rows say what padded ones say: values, gradients, every algorithm, every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from align import jobs
from align.algorithm import Algorithm
from align.gpu import attention, data, layout, model, packing, reward, train, watching
from align.gpu import examples as gpu_examples
from align.gpu.attention import SharedPrompts, Spans
from align.gpu.data import Exchange
from align.gpu.logps import sequence_divergences, sequence_logps, token_logps
from align.jobs import ModelRef, TrainJob, Weights
from align.run import Run
from tests.align.conftest import byte_tokenizer, do, pairs, train_job
from tests.align.test_examples_by_algorithm import SHAPES, rows

Rundir = Callable[..., Path]
CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "vocab_size": 262,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MODELS: dict[str, Callable[[], Any]] = {
    "grouped queries": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "one key head": lambda: LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_key_value_heads": 1})),
    "tied embeddings": lambda: LlamaForCausalLM(
        LlamaConfig(**{**SIZES, "num_key_value_heads": 4}, tie_word_embeddings=True)
    ),
    "biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "norms of queries and keys": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16)),
    "a sliding window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=64)),
}


def tokens(count: int, seed: int) -> tuple[int, ...]:
    drawn = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, 260, (count,), generator=drawn).tolist())


def answers(prompt: int, *lengths: int) -> list[Exchange]:
    """Answers of these lengths to one prompt of that length."""
    asked = tokens(prompt, prompt)
    return [Exchange(asked, tokens(n, 100 * prompt + at)) for at, n in enumerate(lengths)]


# A lone answer; 2 to 5 of them; single tokens; prompts of 1 to 50 tokens; a row twice.
ROWS = [
    *answers(50, 3, 9),
    *answers(1, 1),
    *answers(7, 4, 1, 12),
    *answers(20, 1, 1, 5, 2, 13),
    *answers(3, 10, 10, 1, 6),
    answers(7, 4, 1)[0],
]


def load(kind: str, folder: Path, **settings: Any) -> model.Policy:
    if not folder.is_dir():
        torch.manual_seed(0)
        MODELS[kind]().save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
    torch.manual_seed(1)
    policy = model.start(ModelRef(base=str(folder)), Weights(**settings))
    for name, p in policy.parameters().items():
        if "lora_B" in name:  # or the adapter would be nothing
            torch.nn.init.normal_(p, 0, 0.05)
    return policy


def padded(policy: model.Policy) -> model.Policy:
    """The same model in memory, given padded rows."""
    return replace(policy, padded="a test asked for it")


def gradients(policy: model.Policy, loss: Tensor) -> dict[str, Tensor]:
    loss.backward()  # type: ignore[no-untyped-call]
    found = {n: p.grad.clone() for n, p in policy.parameters().items() if p.grad is not None}
    for p in policy.parameters().values():
        p.grad = None
    return found


def close(found: dict[str, Tensor], expected: dict[str, Tensor], within: float = 1e-5) -> None:
    """Relative to what each should be, and a tenth of that to the largest."""
    assert found.keys() == expected.keys()
    most = max(one.norm().item() for one in expected.values())
    for name, one in expected.items():
        off = (found[name] - one).norm().item()
        assert off <= within * (one.norm().item() + most / 10), name


def rounding(values: Sequence[Tensor], loss: Tensor) -> float:
    """What a relative error of 1e-6 in log-probabilities does to a loss, relative to it: some
    losses (INPO's at a small tau) blow differences of them up."""
    slopes = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
    pairs = zip(slopes, values, strict=True)
    moved = sum((slope * value).abs().sum().item() for slope, value in pairs if slope is not None)
    return 1e-6 * moved / max(abs(loss.item()), 1e-6)


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", MODELS)
def test_packed_rows_give_the_values_and_gradients_of_padded_ones(
    tmp_path: Path, kind: str, mode: str
) -> None:
    policy = load(kind, tmp_path / "base", mode=mode, rank=4, alpha=12)
    assert policy.padded is None
    assert policy.lay(ROWS).spans is not None
    coefficients = torch.linspace(-1, 2, len(ROWS))
    values = sequence_logps(policy, ROWS)
    found = gradients(policy, (coefficients * values).sum())
    expected = sequence_logps(padded(policy), ROWS)
    assert torch.allclose(values, expected, rtol=1e-5, atol=1e-6)
    close(found, gradients(policy, (coefficients * expected).sum()))
    for mine, theirs in zip(
        token_logps(policy, ROWS), token_logps(padded(policy), ROWS), strict=True
    ):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_rewards_and_divergences_are_those_of_padded_rows(tmp_path: Path) -> None:
    policy = load("grouped queries", tmp_path / "base", rank=4)
    other = load("tied embeddings", tmp_path / "other", rank=4)
    judge = reward.RewardModel(policy, torch.nn.Linear(32, 1, bias=False))
    again = reward.RewardModel(padded(policy), judge.head)
    scores, expected = judge.scores(ROWS), again.scores(ROWS)
    assert torch.allclose(scores, expected, rtol=1e-5, atol=1e-6)
    close(gradients(policy, scores.square().sum()), gradients(policy, expected.square().sum()))
    apart = sequence_divergences(policy, other, ROWS)
    by_hand = sequence_divergences(padded(policy), other, ROWS)
    assert torch.allclose(apart, by_hand, rtol=1e-5, atol=3e-6)
    close(gradients(policy, apart.sum()), gradients(policy, by_hand.sum()))


class _round:
    """A round of an algorithm on the tiny model, ready for its first step."""

    def __init__(self, rundir: Rundir, algorithm: Algorithm, bases: Sequence[Path], mode: Any):
        start, other = (ModelRef(base=str(base)) for base in bases)
        asked = {*algorithm.references, *algorithm.divergences}
        self.job = replace(
            train_job(bases[0], batch_size=3),
            algorithm=type(algorithm).__module__.rpartition(".")[2],
            knobs=asdict(algorithm),
            references={n: other if n in algorithm.divergences else start for n in sorted(asked)},
            weights=Weights(mode=mode, rank=4),
        )
        self.folder = rundir(self.job, examples=rows(algorithm))
        self.algorithm = algorithm

    def __enter__(self) -> train.Round:
        run = Run(self.folder)
        job = run.job
        assert isinstance(job, TrainJob)
        model.deterministic(0)
        policy = model.start(job.start, job.weights)
        found, _ = gpu_examples.read(
            self.folder / jobs.EXAMPLES, self.algorithm, data.Encoder(policy.tokenizer), 200
        )
        return train.Round(run, job, self.algorithm, policy, found)

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(("label", "mode"), zip(SHAPES, cycle(["lora", "full"])))
def test_every_algorithm_has_the_loss_and_gradients_of_padded_rows(
    rundir: Rundir,
    tiny_base: Path,
    other_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    mode: str,
) -> None:
    with _round(rundir, SHAPES[label], (tiny_base, other_base), mode) as round_:
        micro = round_.loop.cuts.of(round_.loop.steps[0])[0]
        with torch.no_grad():  # a policy that is its own reference: not a bit apart
            for part in (round_.algorithm.roles, round_.algorithm.probes):
                mine = round_.logps(micro, part) if part else {}
                for role, values in mine.items():
                    assert torch.equal(values, round_.frozen[train.START][role][micro])
        for p in round_.policy.parameters().values():
            with torch.no_grad():
                p.add_(torch.randn_like(p), alpha=0.02)
        losses, found, read = [], [], []
        real = round_.read

        def noting(
            indices: Sequence[int], some: Sequence[str], *, entropy: bool = False
        ) -> watching.Reading:
            values = real(indices, some, entropy=entropy)
            read.extend(values.sums.view(len(some), -1))
            return values

        monkeypatch.setattr(round_, "read", noting)
        for policy in (round_.policy, padded(round_.policy)):
            round_.policy = policy
            if round_.loop.prepare:
                round_.loop.prepare([micro])
            read.clear()
            losses.append(round_.share(micro).loss)
            within = max(1e-5, rounding(read, losses[-1]))
            found.append(gradients(policy, losses[-1]))
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=within, abs=1e-6)
        close(*found, within=within)


def test_a_response_sees_its_prompt_and_itself_only(tmp_path: Path) -> None:
    policy = load("grouped queries", tmp_path / "base")
    changed = [*ROWS]
    for at in (1, 4, 6):
        asked, said = changed[at].prompt, changed[at].response
        changed[at] = Exchange(asked, (*tokens(len(said) - 1, at), said[-1]))
    with torch.no_grad():
        before, after = sequence_logps(policy, ROWS), sequence_logps(policy, changed)
    same = [at for at in range(len(ROWS)) if changed[at] == ROWS[at]]
    assert torch.equal(before[same], after[same])
    assert before[1] != after[1]


def test_a_shared_prompt_and_a_response_named_twice_are_laid_out_once() -> None:
    prompt = sum(len(one) for one in {row.prompt for row in ROWS})
    different = {(row.prompt, row.response): len(row.response) for row in ROWS}
    packed = layout.pack(ROWS, CPU, ends=True)
    assert packed.ids.shape == (1, prompt + sum(different.values()))
    assert len(packed.lengths) == len(different) == len(ROWS) - 1
    assert packed.rows[-1] == packed.rows[3]
    for row, own in zip(ROWS, packed.split(packed.ids[0][packed.own]), strict=True):
        assert tuple(own.tolist()) == row.response
    # The last tokens of responses predict nothing.
    assert layout.pack(ROWS, CPU).ids.shape[1] == packed.ids.shape[1] - len(different)


def test_positions_go_on_from_the_prompt_in_each_response() -> None:
    packed = layout.pack(answers(4, 2, 3), CPU, ends=True)
    assert packed.positions is not None
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 5, 4, 5, 6]]


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_attention_is_the_masked_softmax(heads: tuple[int, int]) -> None:
    spans = Spans((5, 1, 9), ((3, 0, 4), (0,), (2, 6)), 15, CPU)
    total = sum(spans.prompts) + sum(map(sum, spans.responses))
    mask = torch.zeros(total, total, dtype=torch.bool)
    for start, end in spans.own:
        mask[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
    for (start, end), (first, last) in spans.cross:
        mask[start:end, first:last] = True
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(total, n, 8, requires_grad=True) for n in (heads[0], heads[1], heads[1])
    )
    weight = torch.randn(total, heads[0], 8)
    out = SharedPrompts.apply(query, key, value, spans, 0.3)
    found = torch.autograd.grad((out * weight).sum(), (query, key, value))
    plain = scaled_dot_product_attention(
        *(one.transpose(0, 1) for one in (query, key, value)),
        attn_mask=mask, scale=0.3, enable_gqa=True,
    ).transpose(0, 1)  # fmt: skip
    expected = torch.autograd.grad((plain * weight).sum(), (query, key, value))
    assert torch.allclose(out, plain, atol=1e-6)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_rows_beyond_a_sliding_window_are_padded(tmp_path: Path) -> None:
    policy = load("a sliding window", tmp_path / "base", mode="full")
    long = [*ROWS, *answers(70, 5, 8)]
    assert policy.lay(long).spans is None
    with torch.no_grad():
        plain = policy.causal(torch.tensor([long[-1].prompt + long[-1].response])).logits[0]
        by_hand = plain[69:-1].log_softmax(-1).gather(1, torch.tensor([long[-1].response]).T).sum()
        assert sequence_logps(policy, long)[-1].item() == pytest.approx(
            by_hand.sum().item(), rel=1e-5
        )


def fields(**others: str) -> dict[str, Any]:
    return {others.get(name, name): value for name, value in SIZES.items()}


def test_a_model_whose_attention_does_more_is_given_padded_rows_and_the_log_says_so(
    rundir: Rundir, tmp_path: Path
) -> None:
    small = {"vocab_size": 262, "hidden_size": 32, "n_layer": 2, "n_head": 4}
    for built, sentence in (
        (Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=None)), "uses softcap"),
        (BloomForCausalLM(BloomConfig(**small)), "prompts computed once per answer"),
    ):
        folder = tmp_path / type(built).__name__
        built.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        run = rundir(train_job(folder, epochs=1), f"run-{folder.name}", examples=pairs(4))
        do(train.work, run)
        said = (run / jobs.EVENTS).read_text()
        assert "rows are padded" in said
        assert sentence in said


def test_a_model_that_answers_otherwise_to_packed_rows_keeps_its_own_attention(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = layout.pack

    def running_on(rows: Sequence[Exchange], place: torch.device, **settings: bool) -> Any:
        found = real(rows, place, **settings)
        return replace(found, positions=torch.arange(found.ids.numel())[None])

    monkeypatch.setattr(packing.layout, "pack", running_on)
    policy = model.load(ModelRef(base=str(tiny_base)))
    assert "packed rows change its hidden states" in str(policy.padded)
    assert policy.causal.config._attn_implementation != attention.NAME
    assert policy.lay(ROWS).spans is None


def test_saved_weights_do_not_name_the_attention_they_were_trained_with(tmp_path: Path) -> None:
    policy = load("biases", tmp_path / "base", mode="full")
    (tmp_path / "saved").mkdir()
    model.save(policy, tmp_path / "saved")
    assert attention.NAME not in (tmp_path / "saved" / "config.json").read_text()


if torch.cuda.is_available():  # nothing is skipped where there is no GPU: there is no such test

    @pytest.mark.parametrize("mode", ["lora", "full"])
    @pytest.mark.parametrize("kind", ["grouped queries", "norms of queries and keys"])
    def test_the_flash_kernel_of_a_gpu_agrees(tmp_path: Path, kind: str, mode: str) -> None:
        policy = load(kind, tmp_path / "base", mode=mode)
        assert policy.padded is None
        values, expected = sequence_logps(policy, ROWS), sequence_logps(padded(policy), ROWS)
        assert torch.allclose(values, expected, rtol=2e-2)
        found = gradients(policy, values.mean())
        for name, one in gradients(policy, expected.mean()).items():
            assert (found[name] - one).norm() <= 0.1 * one.norm() + 1e-3, name
