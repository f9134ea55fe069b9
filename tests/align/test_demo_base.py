"""The shipped base model is its recipe's, loads like any other, and answers as it should."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from align import demo  # noqa: E402
from align.demo import build_base, corpus, prompts, raters  # noqa: E402
from align.demo.recipe import Recipe, built_digest  # noqa: E402
from align.gpu import model as models  # noqa: E402
from align.gpu.answers import Sampling  # noqa: E402
from align.gpu.generate import Generation  # noqa: E402


@pytest.fixture(scope="module")
def base() -> Any:
    return models.load_base(demo.BASE, torch.device("cpu")).eval()


@pytest.fixture(scope="module")
def answers(base: Any) -> list[tuple[str, str, str]]:
    """(question, answer, why it ended) of 192 held-out questions at temperature 1."""
    tokenizer = models.load_tokenizer(demo.BASE)
    asked = prompts.texts("heldout")[:192]
    ids = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True
        )["input_ids"]
        for text in asked
    ]
    generation = Generation(base, tokenizer, ids, Sampling(max_tokens=96, seed=1), max_length=512)
    while not generation.done:
        generation.step()
    return [
        (text, draw.text, str(draw.finish_reason))
        for text, draw in zip(asked, generation.draws, strict=True)
    ]


def fresh_loss(model: Any) -> float:
    """Nats per assistant token on conversations it was not trained on."""
    tokenizer = models.load_tokenizer(demo.BASE)
    documents = build_base.encode(tokenizer, list(corpus.exchanges(256, seed=99)))
    with torch.inference_mode():
        return float(build_base.step_loss(model, documents))


def test_the_shipped_base_is_of_the_current_recipe() -> None:
    assert built_digest(demo.BASE) == Recipe().digest(), (
        "the recipe changed: python -m align.demo.build_base workers/align/demo/base"
    )


def test_the_shipped_base_is_small_and_carries_no_code() -> None:
    assert sum(path.stat().st_size for path in demo.BASE.iterdir()) <= 5_000_000
    models.check_folder(demo.BASE)
    assert {path.suffix for path in demo.BASE.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_the_shipped_base_has_learned_the_corpus(base: Any) -> None:
    assert 1_000_000 <= base.num_parameters() <= 5_000_000
    assert fresh_loss(base) < 0.25


def test_a_few_steps_of_the_recipe_lower_the_loss_as_expected(tmp_path: Path) -> None:
    losses = []
    recipe = Recipe(steps=40, batch=16, warmup=5)
    build_base.build(recipe, tmp_path / "base", lambda step, loss: losses.append(loss))
    assert losses[0] == pytest.approx(math.log(recipe.vocabulary), abs=0.2)
    assert sum(losses[-5:]) / 5 < 5.3
    assert built_digest(tmp_path / "base") == recipe.digest()
    models.load_base(tmp_path / "base", torch.device("cpu"))
    models.load_tokenizer(tmp_path / "base")


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        build_base.build(Recipe(steps=2, batch=8), tmp_path / name, lambda step, loss: None)
        files = sorted((tmp_path / name).iterdir())
        hashes.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert hashes[0] == hashes[1]


def test_another_recipe_has_another_hash() -> None:
    digests = {Recipe(steps=s, seed=seed).digest() for s, seed in ((2, 0), (3, 0), (2, 1))}
    assert len(digests) == 3


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_a_full_rebuild_is_as_good_as_the_shipped_base(tmp_path: Path, base: Any) -> None:
    build_base.build(Recipe(), tmp_path / "base", lambda step, loss: None)
    rebuilt = models.load_base(tmp_path / "base", torch.device("cpu"))
    assert abs(fresh_loss(rebuilt) - fresh_loss(base)) < 0.02


def test_answers_end_by_themselves_within_96_tokens(answers: list[tuple[str, str, str]]) -> None:
    assert sum(reason == "stop" for _, _, reason in answers) >= 0.97 * len(answers)


def test_answers_are_made_of_the_corpus_own_words(answers: list[tuple[str, str, str]]) -> None:
    known = {
        word
        for exchange in corpus.exchanges(4000, seed=0)
        for turn in exchange.messages
        for word in turn["content"].lower().split()
    }
    words = [word for _, text, _ in answers for word in text.lower().split()]
    assert sum(word in known for word in words) / len(words) > 0.985


def test_answers_differ_in_every_way_a_person_can_prefer(
    answers: list[tuple[str, str, str]],
) -> None:
    styles = Counter(raters.style(text) for _, text, _ in answers)
    assert min(styles[style] for style in raters.STYLES) > 0.15 * len(answers), styles
    seen = [
        raters.features([{"role": "user", "content": asked}], text) for asked, text, _ in answers
    ]
    for name in ("truth", "politeness"):
        for sign in (1, -1):
            share = sum(sign * one[name] > 0 for one in seen) / len(seen)
            assert share > 0.2, (name, sign, share)
    spread = [raters.gold([{"role": "user", "content": asked}], text) for asked, text, _ in answers]
    assert torch.tensor(spread).std() > 0.8
