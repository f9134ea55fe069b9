"""Best of n: the engine writes several answers, the project's reward model chooses."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from align import jobs
from align.jobs import ModelRef, Optimiser, RewardJob, ScoreJob, Weights
from plumbline.accounts.models import ApiKey
from plumbline.gateway.models import Exchange, StoredCompletion
from plumbline.policies.models import RewardModel
from tests.align.test_reward import comparisons
from tests.engines import DEMO_BASE
from tests.fleet.house import Redis, redis  # noqa: F401  # a fixture
from tests.gateway.test_limits import in_redis, limit, soon  # noqa: F401  # a fixture
from tests.ports import free_port

pytestmark = pytest.mark.sqlite

openai = pytest.importorskip("openai")
pytest.importorskip("torch")
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
N = 5


@dataclass
class Scorer:
    """The service in its own process, with a reward model trained for it."""

    url: str
    folder: Path
    sha256: str


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    from align.gpu import checkpoint, reward
    from tests.align.conftest import do

    made = tmp_path_factory.mktemp("reward")
    job = RewardJob(
        base=ModelRef(base=str(DEMO_BASE)),
        weights=Weights(rank=4),
        optimiser=Optimiser(learning_rate=1e-2, epochs=1, batch_size=8, micro_batch_size=8),
    )
    jobs.write_json(made / jobs.JOB, jobs.to_json(job))
    jobs.write_rows(made / jobs.COMPARISONS, comparisons(24))
    do(reward.work, made)
    port, folder = free_port(), made / jobs.WEIGHTS
    log = made / "scorer.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "align.gpu.scorer", "--port", str(port)], stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 280
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "the scorer did not start in five minutes"
        try:
            httpx.get(url + "/health", trust_env=False, timeout=2).raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.1)
    yield Scorer(url, folder, checkpoint.identity(folder))
    process.kill()
    process.wait()


@pytest.fixture
def judge(scorer: Scorer, project: Any, settings: Any) -> RewardModel:
    """The project's reward model, where a service is configured."""
    settings.SCORER_URL = scorer.url
    return RewardModel.objects.create(
        project=project,
        name="alpha-reward-1",
        objective="bradley_terry",
        path=str(scorer.folder),
        sha256=scorer.sha256,
        ballots_used=24,
    )


def ask(sdk: Any, best_of: int = N, **more: Any) -> Any:
    more = {"seed": 7, "temperature": 1.5, "max_tokens": 10, **more}
    return sdk.chat.completions.with_raw_response.create(
        model="current", messages=ASK, extra_body={"best_of": best_of}, **more
    )


def rewards(scorer: Scorer, choices: Any, folder: Path) -> list[float]:
    """By a score job, which knows nothing of the service."""
    from align.gpu.score import work
    from tests.align.conftest import do

    rows = [
        {
            "id": str(one.index),
            "messages": ASK,
            "response": {
                "id": str(one.index),
                "text": one.message.content,
                "token_ids": None,
                "finish_reason": one.finish_reason,
            },
        }
        for one in choices
    ]
    jobs.write_json(folder / jobs.JOB, jobs.to_json(ScoreJob(reward_model=str(scorer.folder))))
    jobs.write_rows(folder / jobs.ITEMS, rows)
    do(work, folder)
    return [row["reward"] for row in jobs.read_rows(folder / jobs.SCORES)]


def test_the_answer_is_the_one_with_the_highest_reward_and_all_are_paid_for(
    sdk: Any, current: Any, judge: RewardModel, scorer: Scorer, tmp_path: Path
) -> None:
    every = sdk.chat.completions.create(
        model="current", messages=ASK, n=N, seed=7, temperature=1.5, max_tokens=10
    )
    wanted = rewards(scorer, every.choices, tmp_path)
    best = max(range(N), key=lambda at: wanted[at])
    assert len({one.message.content for one in every.choices}) > 1
    raw = ask(sdk)
    reply = raw.parse()
    (choice,) = reply.choices
    assert (choice.index, choice.message.content) == (0, every.choices[best].message.content)
    told = reply.model_extra["best_of"]
    assert told["scores"] == pytest.approx(wanted, abs=1e-4)
    assert (told["n"], told["chosen"], told["reward_model"]) == (N, best, judge.name)
    assert (raw.headers["x-best-of"], raw.headers["x-reward-model"]) == (str(N), judge.name)
    assert reply.model == raw.headers["x-policy-version"] == current.name
    assert reply.usage.completion_tokens == every.usage.completion_tokens
    assert reply.usage.prompt_tokens == every.usage.prompt_tokens


def test_a_stream_comes_in_one_piece_when_all_are_judged(
    sdk: Any, current: Any, judge: RewardModel
) -> None:
    whole = ask(sdk).parse()
    more = {"stream": True, "stream_options": {"include_usage": True}}
    first, end, usage = list(ask(sdk, **more).parse())
    assert first.choices[0].delta.content == whole.choices[0].message.content
    assert first.choices[0].delta.role == "assistant"
    assert end.choices[0].finish_reason == whole.choices[0].finish_reason
    assert usage.usage.completion_tokens == whole.usage.completion_tokens
    assert {first.object, end.object} == {"chat.completion.chunk"}
    deadline = time.monotonic() + 20
    while Exchange.objects.count() < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [one.streamed for one in Exchange.objects.order_by("pk")] == [False, True]
    assert {one.completion_tokens for one in Exchange.objects.all()} == {
        whole.usage.completion_tokens
    }


def test_only_the_answer_that_was_given_is_stored(
    sdk: Any, current: Any, judge: RewardModel
) -> None:
    reply = ask(sdk, store=True).parse()
    deadline = time.monotonic() + 20
    while not StoredCompletion.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (one,) = StoredCompletion.objects.get().answers
    assert one["text"] == reply.choices[0].message.content


def test_best_of_one_is_an_ordinary_answer(sdk: Any, current: Any) -> None:
    assert len(ask(sdk, 1).parse().choices) == 1


def refusal(sdk: Any, *given: Any, **more: Any) -> Any:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(sdk, *given, **more)
    return caught.value


def test_without_a_service_it_is_refused_by_name(sdk: Any, current: Any) -> None:
    error = refusal(sdk)
    assert (error.status_code, error.param) == (400, "best_of")
    assert "no scoring service is configured" in error.message


def test_without_a_reward_model_it_is_refused_by_name(
    sdk: Any, current: Any, settings: Any
) -> None:
    settings.SCORER_URL = "http://127.0.0.1:9"
    error = refusal(sdk)
    assert (error.status_code, error.param) == (400, "best_of")
    assert "this project has none yet" in error.message


def test_a_service_that_is_away_says_so(
    sdk: Any, current: Any, judge: RewardModel, settings: Any
) -> None:
    settings.SCORER_URL = "http://127.0.0.1:9"
    error = refusal(sdk)
    assert (error.status_code, error.code) == (503, "scorer_away")
    assert error.response.headers["retry-after"]


def test_a_reward_model_that_is_not_what_it_was_chooses_nothing(
    sdk: Any, current: Any, judge: RewardModel
) -> None:
    RewardModel.objects.update(sha256="0" * 64)
    error = refusal(sdk)
    assert (error.status_code, error.code) == (503, "scorer_away")
    assert "holds another reward model" in error.message


@pytest.mark.parametrize(
    ("best_of", "more", "param"),
    [(9, {}, "best_of"), (0, {}, "best_of"), ("3", {}, "best_of"), (2, {"n": 2}, "n")],
)
def test_bad_numbers_are_refused(
    sdk: Any, current: Any, judge: RewardModel, best_of: Any, more: Any, param: str
) -> None:
    error = refusal(sdk, best_of, **more)
    assert (error.status_code, error.param) == (400, param)


def test_a_keys_cap_on_answers_counts_them_all(
    sdk: Any, current: Any, judge: RewardModel, secret: str
) -> None:
    ApiKey.objects.update(most_choices=2)
    error = refusal(sdk)
    assert (error.status_code, error.param, error.code) == (400, "best_of", "too_many_choices")


def test_a_keys_limits_take_all_answers_and_get_back_what_none_of_them_used(
    sdk: Any,
    current: Any,
    judge: RewardModel,
    limit: Callable[..., None],  # noqa: F811
    redis: Redis,  # noqa: F811
) -> None:
    """By a real Redis: a request of five answers counts once, its tokens five times."""
    limit(requests_per_minute=10, tokens_per_day=N * 100 + 30)
    raw = ask(sdk, max_tokens=100)
    usage = raw.parse().usage
    assert usage.completion_tokens > N
    assert raw.headers["x-ratelimit-remaining-requests"] == "9"
    soon(lambda: in_redis(redis, "in_day"), usage.total_tokens)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(sdk, max_tokens=100)  # what one answer would need is left, what five would is not
    assert caught.value.code == "insufficient_quota"
    assert in_redis(redis, "in_day") == usage.total_tokens
    assert ask(sdk, 1, max_tokens=100).parse().choices
