"""The scoring service says of answers what a score job says of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from align import jobs
from align.gpu import checkpoint, reward, scorer
from align.gpu.score import work
from align.jobs import ModelRef, Optimiser, RewardJob, ScoreJob, Weights
from tests.align.conftest import do, response
from tests.align.test_reward import comparisons

ASK = [{"role": "user", "content": "well?"}]
TEXTS = ["good day", "yuck", "good day", "abcdef"]


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reward")
    job = RewardJob(
        base=ModelRef(base=str(tiny_base)),
        weights=Weights(rank=4),
        optimiser=Optimiser(learning_rate=1e-2, epochs=3, batch_size=8, micro_batch_size=8),
    )
    jobs.write_json(made / jobs.JOB, jobs.to_json(job))
    jobs.write_rows(made / jobs.COMPARISONS, comparisons(24))
    do(reward.work, made)
    return made / jobs.WEIGHTS


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(scorer.create_app(kept=1)) as client:
        yield client


def asked(folder: Path, texts: list[str], **more: Any) -> dict[str, Any]:
    model = {"path": str(folder), "sha256": checkpoint.identity(folder)}
    rows = [{"text": text, "finish_reason": "stop"} for text in texts]
    return {"reward_model": model, "messages": ASK, "responses": rows, **more}


def test_it_says_what_a_score_job_says(
    client: TestClient, folder: Path, rundir: Callable[..., Path]
) -> None:
    items = [
        {"id": str(at), "messages": ASK, "response": response(text)}
        for at, text in enumerate(TEXTS)
    ]
    run = rundir(ScoreJob(reward_model=str(folder)), items=items)
    do(work, run)
    wanted = [row["reward"] for row in jobs.read_rows(run / jobs.SCORES)]
    for _ in range(2):  # and again from memory
        found = client.post("/score", json=asked(folder, TEXTS)).json()["scores"]
        assert found == pytest.approx(wanted, abs=1e-5)
    assert found[0] == found[2]


def test_what_cannot_be_scored_has_no_score(client: TestClient, folder: Path) -> None:
    body = asked(folder, ["good", "x" * 5000])
    body["responses"].append({"text": "", "finish_reason": "length"})
    first, long, empty = client.post("/score", json=body).json()["scores"]
    assert isinstance(first, float)
    assert (long, empty) == (None, None)


def test_weights_that_are_not_the_ones_asked_for_are_refused(
    client: TestClient, folder: Path, tmp_path: Path
) -> None:
    body = asked(folder, TEXTS)
    body["reward_model"]["sha256"] = "0" * 64
    other = client.post("/score", json=body)
    assert other.status_code == 422
    assert "holds another reward model" in other.json()["error"]["message"]
    altered = tmp_path / "altered"
    shutil.copytree(folder, altered)
    weights = next(altered.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused = client.post("/score", json=asked(altered, TEXTS))
    assert refused.status_code == 422
    assert "was altered" in refused.json()["error"]["message"]
    body["reward_model"] = {"path": str(tmp_path / "nowhere"), "sha256": "0" * 64}
    assert client.post("/score", json=body).status_code == 422


def test_only_as_many_models_stay_in_memory_as_it_may_keep(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    real = reward.load
    monkeypatch.setattr(reward, "load", lambda path: loaded.append(path) or real(path))
    shelf = scorer.Shelf(1)
    name = checkpoint.identity(folder)
    assert shelf.get(folder, name) is shelf.get(folder, name)
    with pytest.raises(scorer.Refused):
        shelf.get(tmp_path, "0" * 64)
    shelf.get(folder, name)
    assert loaded == [folder, folder]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"reward_model": {"path": "/x"}},
        {"messages": "x"},
        {"responses": []},
        {"responses": [{"text": 7}]},
        {"responses": [{"text": "x", "finish_reason": 7}]},
        {"responses": [{"text": "x"}] * 65},
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(
    client: TestClient, folder: Path, body: Any
) -> None:
    sent = {**asked(folder, TEXTS), **body} if body else body
    reply = client.post("/score", json=sent)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].endswith(".")
