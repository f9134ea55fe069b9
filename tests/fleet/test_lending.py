"""A GPU job gets the engine's memory, clients wait instead of failing, and the engine wakes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from django.db.models.functions import Now

from align import jobs
from plumbline.fleet import claims, dispatch, lending
from plumbline.fleet.models import Job
from plumbline.fleet.supervise import supervise
from plumbline.policies import serving
from tests.engines import DEMO_BASE, EngineProcess

pytestmark = pytest.mark.django_db(transaction=True)

QUESTION = [{"role": "user", "content": "What does a panda eat?"}]
PANDA = {"id": "a", "text": "Bamboo.", "token_ids": None, "finish_reason": None}
ROCK = {"id": "b", "text": "Rocks.", "token_ids": None, "finish_reason": None}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that one sees in a process's memory: 34 million, 67 MB in bf16."""
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_BASE)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=2,
        num_attention_heads=8,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
    )
    folder = tmp_path_factory.mktemp("large")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def engine_of(large: Path, tmp_path: Path, settings: Any) -> Iterator[EngineProcess]:
    running = EngineProcess(tmp_path / "engine.log", model=large)
    running.start()
    settings.ENGINE_URL, settings.BASE_MODEL = running.url, str(large)
    settings.ENGINE_SLEEPS = True
    yield running
    running.kill()


def resident(engine: EngineProcess) -> int:
    """Bytes of memory the engine's process holds."""
    assert engine.process is not None
    return int(psutil.Process(engine.process.pid).memory_info().rss)


def ask(engine: EngineProcess, **more: Any) -> httpx.Response:
    body = {"model": "base", "messages": QUESTION, "max_tokens": 8, "seed": 1, **more}
    return httpx.post(engine.url + "/v1/chat/completions", json=body, trust_env=False, timeout=280)


def said(reply: httpx.Response) -> str:
    return str(reply.raise_for_status().json()["choices"][0]["message"]["content"])


def train_job(project: Any, base: Path) -> Job:
    spec = jobs.TrainJob(
        algorithm="dpo",
        start=jobs.ModelRef(base=str(base)),
        references={"reference": jobs.ModelRef(base=str(base))},
        optimiser=jobs.Optimiser(batch_size=1, micro_batch_size=1),
    )
    rows = [
        {
            "id": str(k),
            "messages": QUESTION,
            "responses": {"chosen": PANDA, "rejected": ROCK},
            "p": 1.0,
            "facts": {},
            "weight": 1.0,
        }
        for k in range(3)
    ]
    return dispatch.submit(project, spec, "train", {jobs.EXAMPLES: rows})


def test_no_client_fails_while_a_job_trains_in_the_engine_s_memory(
    project: Any, engine_of: EngineProcess, large: Path
) -> None:
    train_job(project, large)
    job = claims.claim("gpu", "worker")
    assert job is not None
    before = said(ask(engine_of))
    replies: list[httpx.Response] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            replies.append(ask(engine_of))

    clients = [threading.Thread(target=keep_asking) for _ in range(3)]
    for client in clients:
        client.start()
    said(ask(engine_of, n=4))  # among the others: all that serving takes is there now
    awake = resident(engine_of)
    with lending.memory(job):
        assert serving.asleep()
        during, answered = resident(engine_of), len(replies)
        supervise(job, lambda: False)
        assert len(replies) - answered <= len(clients)  # those that were on their way
    assert not serving.asleep()
    over.set()
    for client in clients:
        client.join(timeout=250)
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.error
    assert {reply.status_code for reply in replies} == {200}
    assert {said(reply) for reply in replies} == {before}
    assert awake - during > 34 << 20  # half of the weights, at the least


def test_the_engine_wakes_when_the_worker_that_put_it_to_sleep_is_dead(
    project: Any, engine_of: EngineProcess, large: Path
) -> None:
    train_job(project, large)
    job = claims.claim("gpu", "worker")
    assert job is not None
    with lending.memory(job):
        lending.rouse()
        assert serving.asleep()  # the job is alive
        Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
        lending.rouse()  # what any worker does at its next look
        assert not serving.asleep()
    assert said(ask(engine_of))


def test_a_job_that_needs_no_gpu_leaves_the_engine_awake(
    project: Any, engine: EngineProcess, settings: Any
) -> None:
    settings.ENGINE_URL, settings.ENGINE_SLEEPS = engine.url, True
    spec = jobs.SampleJob(engine_url=engine.url, model="base", n=1)
    job = dispatch.submit(project, spec, "sample", {jobs.PROMPTS: []})
    with lending.memory(job):
        assert not serving.asleep()


def test_an_engine_that_is_away_does_not_keep_a_job_from_its_work(
    project: Any, settings: Any, large: Path
) -> None:
    settings.ENGINE_URL, settings.ENGINE_SLEEPS = "http://127.0.0.1:9", True
    with lending.memory(train_job(project, large)):
        pass
