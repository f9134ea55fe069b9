"""A GPU job gets the engine's memory, clients wait instead of failing, and the engine wakes."""

from __future__ import annotations

import threading
import time
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
from plumbline.policies import engines, serving
from plumbline.policies.models import Loan
from tests.engines import DEMO_BASE, EngineProcess
from tests.fleet.house import Fleet, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

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
        assert engines.asleep()
        during, answered = resident(engine_of), len(replies)
        supervise(job, lambda: False)
        assert len(replies) - answered <= len(clients)  # those that were on their way
    assert not engines.asleep()
    over.set()
    for client in clients:
        client.join(timeout=250)
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.error
    assert {reply.status_code for reply in replies} == {200}
    assert {said(reply) for reply in replies} == {before}
    # A quarter of the weights at the least: what serving took after `awake` hides some of them.
    assert awake - during > 17 << 20


def test_the_engine_wakes_when_the_worker_that_put_it_to_sleep_is_dead(
    project: Any, engine_of: EngineProcess, large: Path
) -> None:
    train_job(project, large)
    job = claims.claim("gpu", "worker")
    assert job is not None
    with lending.memory(job):
        lending.rouse()
        assert engines.asleep()  # the job is alive
        Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))
        lending.rouse()  # what any worker does at its next look
        assert not engines.asleep()
    assert said(ask(engine_of))


def test_a_job_that_needs_no_gpu_leaves_the_engine_awake(
    project: Any, engine: EngineProcess, settings: Any
) -> None:
    settings.ENGINE_URL, settings.ENGINE_SLEEPS = engine.url, True
    spec = jobs.SampleJob(engine_url=engine.url, model="base", n=1)
    job = dispatch.submit(project, spec, "sample", {jobs.PROMPTS: []})
    with lending.memory(job):
        assert not engines.asleep()


def test_an_engine_that_is_away_does_not_keep_a_job_from_its_work(
    project: Any, settings: Any, large: Path
) -> None:
    settings.ENGINE_URL, settings.ENGINE_SLEEPS = "http://127.0.0.1:9", True
    job = train_job(project, large)
    with lending.memory(job):
        assert "begins beside the engine" in job.events.get().message


@pytest.fixture
def lender(project: Any, engine: EngineProcess, settings: Any) -> Iterator[EngineProcess]:
    """An engine that lends its memory, awake again after the test."""
    settings.ENGINE_URL, settings.ENGINE_SLEEPS = engine.url, True
    yield engine
    Job.objects.all().delete()
    lending.rouse()
    assert not engines.asleep()


def running_job(project: Any) -> Job:
    spec = jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="-"))
    dispatch.submit(project, spec, "train", {})
    job = claims.claim("gpu", "worker")
    assert job is not None
    return job


def test_a_killed_worker_leaves_no_engine_asleep(lender: EngineProcess, fleet: Fleet) -> None:
    """A real worker, by SIGKILL, in the middle of its job; any other one wakes the engine."""
    with_it = {"ENGINE_SLEEPS": "1", "ENGINE_URL": lender.url}
    fleet.submit_training(steps=400, pause=0.1)
    worker = fleet.worker("gpu", **with_it)
    wait_until(engines.asleep)
    assert Loan.objects.count() == 1
    fleet.kill(worker)
    fleet.worker("cpu", **with_it)
    wait_until(lambda: not Loan.objects.exists(), seconds=120)
    assert not engines.asleep()
    assert said(ask(lender))


def test_the_engine_sleeps_until_the_last_of_several_jobs_is_over(
    lender: EngineProcess, project: Any
) -> None:
    first, second = running_job(project), running_job(project)
    with lending.memory(first):
        with lending.memory(second):
            claims.succeed(second, {})
        assert engines.asleep()
        assert [loan.job for loan in Loan.objects.all()] == [first.pk]
        claims.succeed(first, {})
    assert not engines.asleep()
    assert not Loan.objects.exists()


def test_a_job_on_a_gpu_of_its_own_leaves_the_engine_awake(
    lender: EngineProcess, project: Any, settings: Any
) -> None:
    settings.ENGINE_GPUS = "GPU-b"
    spec = jobs.TrainJob(algorithm="dpo", start=jobs.ModelRef(base="-"))
    dispatch.submit(project, spec, "train", {}), dispatch.submit(project, spec, "train", {})
    apart, shared = (claims.claim("gpu", "worker", ("GPU-a", "GPU-b")) for _ in range(2))
    assert apart is not None
    assert shared is not None
    with lending.memory(apart):
        assert not engines.asleep()
    with lending.memory(shared):
        assert engines.asleep()


def test_a_job_keeps_its_lease_while_the_engine_ends_what_it_has_begun(
    lender: EngineProcess, project: Any, settings: Any
) -> None:
    settings.HEARTBEAT_SECONDS = 0.05
    job = running_job(project)
    client = threading.Thread(target=ask, args=[lender], kwargs={"n": 8, "max_tokens": 60})
    client.start()
    while not httpx.get(lender.url + "/load", trust_env=False).json()["server_load"]:
        assert client.is_alive()
    with lending.memory(job):
        leased = job.lease_until
        job.refresh_from_db()
        assert leased is not None
        assert job.lease_until is not None
        assert job.lease_until > leased
        assert engines.asleep()
    client.join(timeout=60)


def test_every_gateway_has_seen_the_loan_before_the_engine_sleeps(
    lender: EngineProcess, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loans, slept, sleep = [], [], engines.sleep

    def note() -> None:
        slept.append(time.monotonic())
        sleep()

    job = running_job(project)
    monkeypatch.setattr(engines, "sleep", note)
    began = time.monotonic()
    with lending.memory(job):
        loans.extend(Loan.objects.all())
    assert len(loans) == 1
    assert slept[0] - began >= serving.SEEN_SECONDS


def test_an_engine_that_is_lent_is_not_asked_to_load_or_to_speak(
    lender: EngineProcess, project: Any, settings: Any
) -> None:
    """Who promotes meanwhile hears at once that it must wait, instead of hanging."""
    base = serving.base_policy(project)
    with lending.memory(running_job(project)):
        for act in (
            serving.probe,
            lambda policy: serving.promote(project, policy, actor=None, reason="", evidence={}),
        ):
            with pytest.raises(serving.EngineLent, match="lent to a GPU job"):
                act(base)
    assert serving.probe(base)


def test_an_engine_that_refuses_to_sleep_goes_on_serving(
    lender: EngineProcess, project: Any, settings: Any
) -> None:
    settings.ENGINE = "vllm"  # whose /server_info this engine does not have
    job = running_job(project)
    with lending.memory(job):
        assert not Loan.objects.exists()
        assert not engines.asleep()
    told = job.events.order_by("id").last()
    assert told is not None
    assert "--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1" in told.message
