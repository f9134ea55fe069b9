"""A language model that reads both answers learns a planted taste, and says the same of them
whichever comes first."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from align import demo
from align.demo import corpus, prompts
from align.demo.corpus import Manner
from align.gpu import model, reward
from align.gpu.data import Encoder
from align.gpu.side_by_side import SideBySide
from align.jobs import ModelRef, Optimiser, RewardJob, Weights
from align.objectives.pairwise_generative import PairwiseGenerative
from tests.align.conftest import do, response

HELDOUT = 60


def polite(count: int) -> list[dict[str, Any]]:
    """Questions of the demo's, each with a polite answer and a curt one, in either order; people
    prefer the polite one. Held out are questions in words that are not trained on."""
    rng = random.Random(0)
    asked = {
        split: [one for one in prompts.questions() if one.split == split and one.asked is not None]
        for split in ("train", "heldout")
    }
    rows = []
    for n in range(count + HELDOUT):
        question = rng.choice(asked["train" if n < count else "heldout"])
        tones = rng.sample(("polite", "curt"), 2)
        texts = [corpus.answer(question, Manner("brief", tone, False), rng) for tone in tones]
        rows.append(
            {
                "id": str(n),
                "messages": [{"role": "user", "content": question.text}],
                "responses": [response(text, id=str(k)) for k, text in enumerate(texts)],
                "preferences": [(0, 1, float(tones[0] == "polite"), 1.0)],
                "heldout": n >= count,
            }
        )
    return rows


def wilson_low(right: int, of: int, z: float = 1.96) -> float:
    share = right / of
    wide = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (share + z * z / (2 * of) - wide) / (1 + z * z / of)


def test_a_planted_taste_is_named_in_both_orders(rundir: Callable[..., Path]) -> None:
    """240 pairs, once each. On 60 held-out pairs the lower end of accuracy's 95 % interval is above
    0.8, where chance is 0.5; four verdicts of five name the same answer in both orders."""
    job = RewardJob(
        base=ModelRef(base=str(demo.BASE)),
        objective="pairwise_generative",
        weights=Weights(mode="full"),
        optimiser=Optimiser(
            learning_rate=2e-3, batch_size=4, micro_batch_size=4, checkpoint_every=10**6
        ),
    )
    found = do(reward.work, rundir(job, comparisons=polite(240)))
    right = round(found["accuracy"] * HELDOUT)
    assert wilson_low(right, HELDOUT) > 0.8
    assert found["log_loss"] < 0.4
    assert found["consistency"] > 0.8


def test_whose_turn_is_whose_is_read_in_a_conversation_and_opens_no_turn_of_the_question() -> None:
    judge = SideBySide(model.load(ModelRef(base=str(demo.BASE))), PairwiseGenerative(), 512)
    encoder = Encoder(judge.policy.tokenizer)
    said = [
        {"role": "user", "content": "Is tea better than coffee?"},
        {"role": "assistant", "content": "It is."},
        {"role": "user", "content": "Why?"},
    ]
    pair = encoder.example(said, [response("Because."), response("No idea.")], 512)
    assert pair is not None
    asked = judge.asked(*pair)
    assert asked is not None
    text = judge.policy.tokenizer.decode(list(asked[0].prompt))
    talk = "[user] Is tea better than coffee?\n[assistant] It is.\n[user] Why?\n[assistant]"
    assert f"[Conversation]\n{talk}\n" in text
    assert text.count("<|user|>") == text.count("<|assistant|>") == 1
    # Where there is no room the conversation loses its beginning.
    short = len(asked[0]) - 12
    judge.max_length = short
    cut = judge.asked(*pair)
    assert cut is not None
    assert len(cut[0]) <= short
    text = judge.policy.tokenizer.decode(list(cut[0].prompt))
    assert "[user] Why?\n[assistant]" in text
    assert "Is tea better" not in text
