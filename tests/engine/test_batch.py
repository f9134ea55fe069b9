"""Requests share a batch and never feel it: the same bits, tokens and distribution as alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from align import demo  # noqa: E402
from align.demo import prompts  # noqa: E402
from align.gpu import batch as batches  # noqa: E402
from align.gpu import model as models  # noqa: E402
from align.gpu.answers import Answers, Sampling, end_tokens  # noqa: E402
from align.gpu.batch import Batch, prepare  # noqa: E402
from align.gpu.data import Exchange  # noqa: E402
from align.gpu.generate import Generation  # noqa: E402
from align.gpu.logps import token_logps  # noqa: E402
from align.gpu.residents import Residents, dtype  # noqa: E402
from align.gpu.shelves import length_for  # noqa: E402
from align.jobs import ModelRef  # noqa: E402

CPU = torch.device("cpu")
CONTEXT = 512
Model = tuple[Any, Any]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def served(request: pytest.FixtureRequest) -> Model:
    """The demo base and its tokenizer, ready for batches."""
    torch.set_num_threads(1)
    base = Residents("base", demo.BASE, CONTEXT, request.param).base
    assert base.alone is None
    return base.model, base.tokenizer


@pytest.fixture(scope="module")
def fp32() -> Model:
    base = Residents("base", demo.BASE, CONTEXT, "fp32").base
    return base.model, base.tokenizer


@pytest.fixture(scope="module")
def asked(fp32: Model) -> list[list[int]]:
    """Prompts of different lengths, one far longer than the others."""
    texts = (*prompts.texts("heldout")[:5], "Mars?", "Tell me of whales. " * 30)
    return [
        fp32[1].apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True
        )["input_ids"]
        for text in texts
    ]


def ask(served: Model, prompts: Sequence[Sequence[int]], **sampling: Any) -> Answers:
    model, tokenizer = served
    settings = Sampling(**{"max_tokens": 40, **sampling})
    return Answers(tokenizer, end_tokens(model, tokenizer), prompts, settings, max_length=CONTEXT)


def run(served: Model, *requests: Answers, late: Sequence[Answers] = ()) -> None:
    """All requests in one batch; late ones join it one step after the other."""
    batch = Batch(served[0])
    for request in requests:
        batch.add(request)
    coming = list(late)
    while batch.busy:
        batch.step()
        if coming:
            batch.add(coming.pop(0))


def said(answers: Answers) -> list[tuple[list[int], str, str | None]]:
    return [(draw.tokens, draw.text, draw.finish_reason) for draw in answers.draws]


def test_a_request_gets_the_same_bits_alone_and_in_a_crowd(
    served: Model, asked: list[list[int]]
) -> None:
    mine = {"n": 3, "seed": 7, "temperature": 1.3, "max_tokens": 80, "top_logprobs": 2}
    alone, crowded = ask(served, asked[:4], **mine), ask(served, asked[:4], **mine)
    run(served, alone)
    crowd = [ask(served, asked[k:], n=k + 1, seed=k, temperature=2.0) for k in (1, 3, 5)]
    crowd.append(ask(served, asked, max_tokens=90, seed=8))
    run(served, *crowd[:2], crowded, late=crowd[2:])
    assert said(alone) == said(crowded)
    for one, other in zip(alone.draws, crowded.draws, strict=True):
        assert one.logprobs == other.logprobs  # floating-point numbers, compared exactly


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0},
        {"n": 2, "temperature": 0.9, "max_tokens": 200},
        {"n": 4, "top_p": 0.8, "top_k": 20, "stop": (" the",)},
    ],
)
def test_a_batch_answers_as_transformers_with_its_own_cache(
    fp32: Model, asked: list[list[int]], sampling: dict[str, Any]
) -> None:
    together = ask(fp32, asked, **sampling)
    run(fp32, together, ask(fp32, asked[2:3], seed=9))
    plain = models.load_base(demo.BASE, CPU).eval()
    settings = Sampling(**{"max_tokens": 40, **sampling})
    generation = Generation(plain, fp32[1], asked, settings, max_length=CONTEXT)
    while not generation.done:
        generation.step()
    assert said(together) == said(generation.answers)


def test_log_probabilities_agree_with_the_trainer_s_packed_ones(
    served: Model, asked: list[list[int]]
) -> None:
    answers = ask(served, asked, n=4, top_logprobs=0, seed=3)
    run(served, answers)
    policy = models.load(ModelRef(base=str(demo.BASE)), precision="fp32")
    rows = [Exchange(tuple(asked[draw.prompt]), tuple(draw.tokens)) for draw in answers.draws]
    with torch.inference_mode():
        trainer = torch.cat(token_logps(policy, rows))
    engine = torch.tensor([one.logprob for draw in answers.draws for one in draw.logprobs])
    off = (trainer - engine).abs()
    half = served[0].dtype == torch.bfloat16
    assert float(off.max()) < (0.4 if half else 1e-3)
    assert float(off.mean()) < (0.03 if half else 1e-4)
    assert abs(float((trainer - engine).mean())) < (0.01 if half else 1e-4)


def test_tokens_are_drawn_as_often_as_the_model_says(served: Model, asked: list[list[int]]) -> None:
    count = 4000
    answers = ask(served, asked[:1], n=count, max_tokens=1, seed=5)
    run(served, answers)
    drawn = Counter(draw.tokens[0] for draw in answers.draws)
    plain = models.load_base(demo.BASE, CPU).eval()
    with torch.inference_mode():
        expected = torch.softmax(plain(torch.tensor(asked[:1])).logits[0, -1].float(), -1)
    likely = [token for token in range(len(expected)) if expected[token] * count > 5]
    chi2 = sum(
        (drawn[token] - float(expected[token]) * count) ** 2 / (float(expected[token]) * count)
        for token in likely
    )
    assert chi2 < 2.5 * len(likely)


def test_a_request_larger_than_the_batch_does_not_keep_a_short_one_waiting(
    fp32: Model, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "ROWS", 8)
    long = ask(fp32, asked * 2, n=4, temperature=30.0, seed=1, max_tokens=10)
    short = ask(fp32, asked[:1], max_tokens=2)
    batch = Batch(fp32[0])
    batch.add(long)
    batch.step()
    batch.add(short)
    steps = 0
    while not short.done:
        batch.step()
        steps += 1
    assert steps <= 3
    while batch.busy:
        batch.step()
    assert long.done


def test_a_request_that_is_dropped_leaves_the_others_as_they_were(
    fp32: Model, asked: list[list[int]]
) -> None:
    kept, alone = (ask(fp32, asked[:3], n=2, seed=4) for _ in range(2))
    dropped = ask(fp32, asked, n=3, temperature=3.0)
    batch = Batch(fp32[0])
    for one in (dropped, kept):
        batch.add(one)
    for _ in range(5):
        batch.step()
    batch.drop(dropped)
    while batch.busy:
        batch.step()
    run(fp32, alone)
    assert said(kept) == said(alone)
    assert not dropped.done


def test_a_shelf_is_never_much_longer_than_needed() -> None:
    assert [length_for(n) for n in (1, 64, 65, 192, 193, 300, 513)] == [
        64,
        64,
        128,
        192,
        256,
        384,
        768,
    ]
    assert all(n <= length_for(n) <= 1.5 * n for n in range(129, 5000))


def small(family: str, **more: Any) -> Any:
    """A random model of few parameters."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        **more,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: small("Llama"),
        lambda: small("Qwen2", tie_word_embeddings=True),
        lambda: small("Qwen3", head_dim=16),
        lambda: small("Mistral", sliding_window=128),
    ],
    ids=["llama", "qwen2", "qwen3", "mistral"],
)
def test_shared_key_heads_tied_heads_and_head_norms_are_batched(
    fp32: Model, make: Callable[[], Any]
) -> None:
    model = make()
    assert prepare(model, 100, fp32[1]) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: small("Mistral", sliding_window=16), "no further than 16 tokens"),
        (lambda: small("Gemma2", head_dim=8, query_pre_attn_scalar=8), "softcap"),
        (lambda: small("Mixtral", num_local_experts=2), "no plain linear layer"),
        (
            lambda: transformers.GPT2LMHeadModel(
                transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2)
            ).eval(),
            "no plain linear layer",
        ),
    ],
    ids=["sliding", "gemma2", "mixtral", "gpt2"],
)
def test_a_model_that_cannot_be_batched_is_left_as_it_was(
    fp32: Model, make: Callable[[], Any], reason: str
) -> None:
    model = make()
    ids = torch.tensor([[1, 2, 3, 4]])
    before = model(ids).logits
    assert reason in str(prepare(model, 100, fp32[1]))
    assert torch.equal(model(ids).logits, before)


def test_precision_is_bf16_only_where_the_machine_multiplies_it_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for can, found in ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: can)
        assert dtype("auto", CPU) == found
        assert (dtype("fp32", CPU), dtype("bf16", CPU)) == (torch.float32, torch.bfloat16)
    with pytest.raises(ValueError, match="precision must be one of"):
        dtype("int4", CPU)


def test_the_attention_kernel_takes_each_row_by_itself_and_skips_masked_keys_exactly() -> None:
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    torch.manual_seed(0)
    for kind in (torch.float32, torch.bfloat16):
        query = torch.randn(6, 2, 3, 32).to(kind)
        key, value = torch.randn(2, 6, 2, 1536, 32).to(kind)
        lengths = torch.tensor([5, 17, 20, 25, 30, 31])
        found = []
        for longest, rows in ((32, 6), (64, 6), (1536, 6), (96, 2)):
            hidden = torch.arange(longest) >= lengths[:rows, None]
            mask = torch.zeros(hidden.shape).masked_fill(hidden, -math.inf).to(kind)
            found.append(
                run(
                    query[:rows],
                    key[:rows, :, :longest],
                    value[:rows, :, :longest],
                    attn_mask=mask[:, None, None],
                )
            )
        for out, lse in found[1:]:
            assert torch.equal(out, found[0][0][: len(out)])
            assert torch.equal(lse, found[0][1][: len(out)])
