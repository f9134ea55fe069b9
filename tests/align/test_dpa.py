"""DPA: directions as text, winners by hand, and a policy that follows the direction it is given."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from align import directions, jobs
from align.algorithms.dpa import DPA
from align.gpu import data, model, train
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef
from align.pairing import Answer, Judged
from tests.align.conftest import do, response

Rundir = Callable[..., Path]
parts = st.floats(-10, 10, allow_subnormal=False).filter(lambda one: abs(one) > 1e-3)


@given(parts, parts)
@settings(max_examples=100, deadline=None)
def test_a_direction_survives_its_text(first: float, second: float) -> None:
    v = {"quality": first, "words": second}
    unit = directions.normalised(v)
    found = directions.read(f"Be kind.\n\n{directions.write(v)}")
    assert found == {name: pytest.approx(one, abs=0.0051) for name, one in unit.items()}
    assert math.hypot(*unit.values()) == pytest.approx(1)


def test_what_is_no_direction() -> None:
    assert directions.read("quality=71") is None
    assert directions.read("") is None
    with pytest.raises(ValueError, match="a number other than 0"):
        directions.write({"quality": 0.0, "words": 0.0})


def test_directions_stay_within_their_angle_on_either_side() -> None:
    found = [directions.drawn(("quality", "words"), 45, str(n)) for n in range(300)]
    assert min(one["quality"] for one in found) >= math.sqrt(0.5) - 1e-9
    assert min(one["words"] for one in found) < -0.5 < 0.5 < max(one["words"] for one in found)


def test_directions_of_many_attributes_are_unit_vectors_within_the_angle_and_point_anywhere() -> (
    None
):
    names = ("quality", "words", "headings", "list_items")
    found = [directions.drawn(names, 45, str(n)) for n in range(600)]
    for one in found:
        assert list(one) == list(names), "the order in which they are written"
        assert math.hypot(*one.values()) == pytest.approx(1)
        assert one["quality"] >= math.sqrt(0.5) - 1e-9
    for name in names[1:]:
        values = [one[name] for one in found]
        assert abs(sum(values) / len(values)) < 0.05
        assert min(values) < -0.4 < 0.4 < max(values)
    mean = sum(math.degrees(math.acos(one["quality"])) for one in found) / len(found)
    assert 28 < mean < 36, "as likely everywhere on the cap, which is wider far from its middle"
    assert directions.drawn(names, 0, "x")["quality"] == 1


def test_four_attributes_choose_and_are_written_in_their_order() -> None:
    four = DPA(second="words", third="list_items", fourth="headings", directions=16, angle=90.0)
    assert four.attributes == ("quality", "words", "list_items", "headings")
    prompt = judged(("a", 2.0), ("- a\n- b", 0.0), ("# a", 1.0), ("a b c d", 0.5))
    made = four.examples(prompt, "max_min", 0)
    rewards = four.rewards(prompt, [0, 1, 2, 3])
    assert len({one.answers["chosen"] for one in made}) > 1
    for one in made:
        v = dict(zip(four.attributes, one.facts.values(), strict=True))
        assert tuple(one.facts) == four.written
        assert one.answers == {"chosen": directions.best(v, rewards)}
        line = four.conversation([{"role": "user", "content": "q"}], one.facts)[0]["content"]
        assert line == directions.write(v)
        assert list(directions.read(line) or {}) == list(four.attributes)
    with pytest.raises(ValueError, match="different factors"):
        DPA(second="words", third="words")
    with pytest.raises(ValueError, match="must be one of"):
        DPA(second="question_repeated")  # no prompt's text is judged, so it would always be 0


def judged(*answers: tuple[str, float]) -> Judged:
    return Judged("p", tuple(
        Answer(text, text, len(text.split()), False, score) for text, score in answers
    ))  # fmt: skip


def test_winners_by_hand() -> None:
    prompt = judged(("a", 2.0), ("a b c", 0.0), ("a b", 1.0))
    rewards = DPA().rewards(prompt, [0, 1, 2])
    apart = math.sqrt(1.5)
    assert [one["quality"] for one in rewards] == pytest.approx([apart, -apart, 0])
    assert [one["words"] for one in rewards] == pytest.approx([-apart, apart, 0])
    assert directions.best({"quality": 1.0, "words": 0.0}, rewards) == 0
    assert directions.best({"quality": 0.6, "words": 0.8}, rewards) == 1
    assert directions.best({"quality": 0.8, "words": -0.6}, rewards) == 0
    made = DPA(directions=8, angle=90.0).examples(prompt, "max_min", 0)
    assert len(made) == 8
    for one in made:
        v = {"quality": one.facts["v.first"], "words": one.facts["v.second"]}
        assert one.answers == {"chosen": directions.best(v, rewards)}
        (line, _) = DPA().conversation([{"role": "user", "content": "q"}], one.facts)
        assert directions.read(line["content"]) == {
            name: pytest.approx(x, abs=0.0051) for name, x in v.items()
        }
    assert DPA().examples(judged(("a", 1.0), ("a", 2.0)), "max_min", 0) == []


def test_an_algorithm_without_directions_leaves_prompts_as_they_are() -> None:
    from align.algorithms.dpo import DPO

    messages = [{"role": "user", "content": "q"}]
    assert DPO().conversation(messages, {}) == messages
    joined = DPA().conversation(
        [{"role": "system", "content": "Be kind."}, *messages], {"v.first": 1.0, "v.second": 0.0}
    )
    assert joined[0]["content"] == "Be kind.\n\nWeigh your answer so: quality=100, words=0"


def test_a_trained_policys_answers_grow_longer_as_the_direction_turns(
    rundir: Rundir, tiny_base: Path
) -> None:
    texts = ["yes", "yes yes yes", "yes yes yes yes yes yes"]
    algorithm, draw = DPA(directions=4, angle=90.0), random.Random(4)
    rows = []
    for n in range(40):
        prompt = dataclasses.replace(judged(*((t, draw.random()) for t in texts)), prompt=str(n))
        for at, one in enumerate(algorithm.examples(prompt, "max_min", 1)):
            messages = [{"role": "user", "content": "question"}]
            rows.append({
                "id": f"{n}.{at}",
                "messages": algorithm.conversation(messages, one.facts),
                "responses": {"chosen": response(texts[one.answers["chosen"]])},
                "p": 1.0,
                "facts": dict(one.facts),
                "weight": 1.0,
            })  # fmt: skip
    job = jobs.TrainJob(
        algorithm="dpa",
        start=ModelRef(base=str(tiny_base)),
        weights=jobs.Weights(mode="full"),
        optimiser=jobs.Optimiser(learning_rate=1e-2, epochs=8, batch_size=8, micro_batch_size=8),
    )
    folder = rundir(job, examples=rows)
    do(train.work, folder)
    policy = model.load(ModelRef(base=str(folder / "weights")))
    means = []
    for turn in (-80, 0, 80):
        v = {"v.first": math.cos(math.radians(turn)), "v.second": math.sin(math.radians(turn))}
        messages = algorithm.conversation([{"role": "user", "content": "question"}], v)
        encoded = data.Encoder(policy.tokenizer).example(
            messages, [response(text) for text in texts], 400
        )
        with torch.no_grad():
            chances = sequence_logps(policy, encoded).softmax(0).tolist()
        means.append(sum(c * len(text.split()) for c, text in zip(chances, texts, strict=True)))
    assert means == sorted(means), means
    assert means[-1] - means[0] > 1
