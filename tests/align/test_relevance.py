"""R3's relevance: embeddings of a local model, kept by text, and a reward that copying does not
win."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align import factors, jobs
from align.factor_jobs import RELEVANCE, RelevanceJob
from align.gpu import relevance
from tests.align.conftest import do

Rundir = Callable[..., Path]
PROMPT = "Please explain why the sky looks blue on a clear day at noon."
GOOD = (
    "Sunlight holds all colours. Air molecules scatter short blue waves far more than long red "
    "ones, so from every side blue reaches your eyes, while the rest goes straight on. At noon the "
    "path through the air is short; towards evening it is long, and what is left looks red."
)


def row(text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": text[:40],
        "messages": [{"role": "user", "content": PROMPT}],
        "text": text,
        **more,
    }


def asked(rundir: Rundir, job: RelevanceJob, name: str, *texts: dict[str, Any]) -> tuple[Any, Any]:
    folder = rundir(job, name, texts=list(texts))
    found = do(relevance.work, folder)
    return found, {one["id"]: one for one in jobs.read_rows(folder / RELEVANCE)}


def test_a_copy_of_the_question_ten_times_is_worth_less_than_one_good_answer(
    rundir: Rundir, tiny_base: Path, tmp_path: Path
) -> None:
    job = RelevanceJob(model=str(tiny_base), cache=str(tmp_path / "cache"), batch_size=2)
    copied = " ".join([PROMPT] * 10)
    told, found = asked(rundir, job, "one", row(copied), row(GOOD), row(""))
    assert told["embedded"] == 4
    reward = {
        text: factors.relevance_reward(found[text[:40]]["relevance"], False, text)
        for text in (copied, GOOD)
    }
    assert found[copied[:40]]["relevance"] > 0.9  # what raw relevance would reward
    assert 0 < reward[copied] < reward[GOOD]
    assert found[""]["relevance"] == 0
    # A second job embeds only what is new, and finds the same.
    told, again = asked(rundir, job, "two", row(GOOD), row("Because."))
    assert (told["embedded"], told["recalled"]) == (1, 2)
    assert again[GOOD[:40]]["relevance"] == pytest.approx(found[GOOD[:40]]["relevance"])


def test_a_closed_question_is_compared_with_its_reference(rundir: Rundir, tiny_base: Path) -> None:
    job = RelevanceJob(model=str(tiny_base))
    _, found = asked(rundir, job, "one", row("Paris", reference="Paris"), row("9x!", reference="P"))
    assert found["Paris"]["closed"]
    assert found["Paris"]["relevance"] == pytest.approx(1, abs=1e-5)
    right = factors.relevance_reward(found["Paris"]["relevance"], True, "Paris")
    wrong = factors.relevance_reward(found["9x!"]["relevance"], True, "9x!")
    assert right == pytest.approx(4, abs=1e-4)
    assert wrong < right


def test_an_embedding_does_not_depend_on_its_batch(tiny_base: Path) -> None:
    encode = relevance.Encoder(tiny_base, 64)
    texts = ["one", "a much longer text than that", "two"]
    together = encode(texts)
    for text, found in zip(texts, together, strict=True):
        assert encode([text])[0] == pytest.approx(found, abs=1e-5)
        assert found.norm().item() == pytest.approx(1, abs=1e-5)


def test_a_folder_without_safetensors_is_refused(
    rundir: Rundir, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")
    folder = rundir(RelevanceJob(model=str(tmp_path / "model")), texts=[row("a")])
    with pytest.raises(SystemExit):
        do(relevance.work, folder)
    assert "no config.json with safetensors" in capsys.readouterr().err


@given(st.text(max_size=300), st.floats(0, 1, allow_subnormal=False))
@settings(max_examples=100, deadline=None)
def test_the_reward_is_bounded(text: str, told: float) -> None:
    for closed in (False, True):
        assert 0 <= factors.relevance_reward(told, closed, text) <= 4
