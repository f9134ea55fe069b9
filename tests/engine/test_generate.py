"""Sampling draws from the model's own distribution, repeatably, whatever shares the batch."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from align import demo  # noqa: E402
from align.demo import prompts  # noqa: E402
from align.gpu import model as models  # noqa: E402
from align.gpu.answers import Draw, Sampling, kept, row_seed  # noqa: E402
from align.gpu.generate import Generation  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return models.load_base(demo.BASE, torch.device("cpu")).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return models.load_tokenizer(demo.BASE)


@pytest.fixture(scope="module")
def asked(tokenizer: Any) -> list[list[int]]:
    """Prompts of different lengths."""
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True
        )["input_ids"]
        for text in (*prompts.texts("heldout")[:5], "Mars?")
    ]


@pytest.fixture
def draw(model: Any, tokenizer: Any) -> Any:
    def run(asked: list[list[int]], **sampling: Any) -> list[Draw]:
        settings = Sampling(**{"max_tokens": 40, **sampling})
        generation = Generation(model, tokenizer, asked, settings, max_length=512)
        while not generation.done:
            generation.step()
        return generation.draws

    return run


def test_greedy_answers_are_those_of_transformers(
    model: Any, draw: Any, asked: list[list[int]]
) -> None:
    for prompt, drawn in zip(asked, draw(asked, temperature=0), strict=True):
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40)
        assert drawn.tokens == out[0, len(prompt) :].tolist()


def test_log_probabilities_are_the_model_s_whatever_the_temperature(
    model: Any, draw: Any, asked: list[list[int]]
) -> None:
    for drawn in draw(asked, n=2, temperature=1.7, top_logprobs=0, seed=3):
        ids = torch.tensor([asked[drawn.prompt] + drawn.tokens])
        with torch.inference_mode():
            logps = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
        start = len(asked[drawn.prompt]) - 1
        expected = [float(logps[start + k, token]) for k, token in enumerate(drawn.tokens)]
        assert [one.logprob for one in drawn.logprobs] == pytest.approx(expected, abs=2e-4)


def test_tokens_are_drawn_as_often_as_the_model_says(
    model: Any, draw: Any, asked: list[list[int]]
) -> None:
    count = 4000
    drawn = Counter(one.tokens[0] for one in draw(asked[:1], n=count, max_tokens=1, seed=5))
    with torch.inference_mode():
        expected = torch.softmax(model(torch.tensor(asked[:1])).logits[0, -1].float(), -1)
    likely = [token for token in range(len(expected)) if expected[token] * count > 5]
    chi2 = sum(
        (drawn[token] - float(expected[token]) * count) ** 2 / (float(expected[token]) * count)
        for token in likely
    )
    assert chi2 < 2.5 * len(likely)


def test_the_same_seed_draws_the_same_and_another_does_not(
    draw: Any, asked: list[list[int]]
) -> None:
    one, two, three = (
        [drawn.tokens for drawn in draw(asked, n=3, seed=seed)] for seed in (1, 1, 2)
    )
    assert one == two
    assert one != three
    assert len({tuple(tokens) for tokens in one}) > len(asked)


def test_a_draw_does_not_depend_on_how_many_are_drawn(draw: Any, asked: list[list[int]]) -> None:
    few = {(one.prompt, one.index): one.tokens for one in draw(asked, n=2, seed=9)}
    many = {(one.prompt, one.index): one.tokens for one in draw(asked, n=4, seed=9)}
    assert few == {key: many[key] for key in few}


def test_seeds_of_neighbours_never_meet() -> None:
    seeds = {row_seed(*key) for key in itertools.product(range(20), range(20), range(20))}
    assert len(seeds) == 8000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_top_k_and_top_p_keep_the_likeliest_tokens() -> None:
    probabilities = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.4, 0.1]])
    assert (kept(probabilities, 2, 1.0) > 0).tolist()[0] == [False, True, False, True]
    assert (kept(probabilities, 0, 0.7) > 0).tolist()[0] == [False, True, False, True]
    assert (kept(probabilities, 0, 0.71) > 0).tolist()[0] == [False, True, True, True]
    assert (kept(probabilities, 0, 1e-9) > 0).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert torch.equal(kept(probabilities, 0, 1.0), probabilities)


def test_an_answer_stops_at_its_length_and_at_the_context(
    model: Any, tokenizer: Any, draw: Any, asked: list[list[int]]
) -> None:
    drawn = draw(asked, max_tokens=4, temperature=30.0, seed=1)
    assert {(len(one.tokens), one.finish_reason) for one in drawn} == {(4, "length")}
    small = Generation(
        model, tokenizer, asked, Sampling(max_tokens=40, temperature=30.0), max_length=20
    )
    while not small.done:
        small.step()
    assert [len(asked[one.prompt]) + len(one.tokens) for one in small.draws] == [20] * len(asked)
