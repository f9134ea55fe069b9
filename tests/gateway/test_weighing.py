"""`plumbline:helpful=0.7,brief=0.3`: objectives by name and by weights, as clients ask for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from plumbline.fleet.models import Job
from plumbline.gateway.directory import SOON
from plumbline.gateway.weighing import parse, twentieths
from plumbline.gateway.wire import ApiError
from plumbline.loop import mixtures
from plumbline.policies import engines, objectives, routes, serving
from plumbline.policies.models import Mixture, Objective, Policy, RouteChange
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.postgres

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def two(project: Any, current: Any, make_adapter: Any, settings: Any, tmp_path: Path) -> Any:
    """Two objectives, each with its policy."""
    settings.RUNS_DIR = tmp_path / "runs"
    helpful, brief = make_adapter(31), make_adapter(32)
    for name, policy in (("helpful", helpful), ("brief", brief)):
        objectives.put(project, name, policy, actor=None, reason="best at it")
    return helpful, brief


@pytest.fixture
def ask(http: httpx.Client) -> Callable[[str], httpx.Response]:
    def post(weighed: str) -> httpx.Response:
        body = {"model": f"plumbline:{weighed}", "messages": ASK, "max_tokens": 2}
        return http.post("/v1/chat/completions", json=body)

    return post


def make() -> None:
    """What the loop and a worker do."""
    run_jobs()
    mixtures.advance()


def test_one_objective_is_its_policy(ask: Any, two: Any) -> None:
    helpful, brief = two
    assert ask("helpful").json()["model"] == helpful.name
    assert ask("brief=1").json()["model"] == brief.name
    assert ask("helpful=0,brief=3").json()["model"] == brief.name
    reply = ask("helpful=0.99,brief=0.01")  # steps of 0.05
    assert reply.json()["model"] == helpful.name
    assert reply.headers["x-objectives"] == "helpful=1"
    assert not Mixture.objects.exists()


def test_several_are_averaged_when_they_are_first_asked_for(
    ask: Any, http: httpx.Client, two: Any, project: Any
) -> None:
    helpful, brief = two
    first = ask("helpful=0.7,brief=0.3")
    assert first.status_code == 503
    assert first.json()["error"]["code"] == "model_loading"
    assert "helpful=0.7 is being made" in first.json()["error"]["message"]
    assert first.headers["retry-after"]
    assert ask("brief=3,helpful=7").status_code == 503  # the same
    assert Job.objects.count() == 1
    make()
    reply = ask("helpful=0.7,brief=0.3")
    assert reply.status_code == 200, reply.text
    made = Policy.objects.get(name=reply.json()["model"])
    assert reply.headers["x-policy-version"] == made.name
    assert reply.headers["x-objectives"] == "brief=0.3,helpful=0.7"
    assert (made.state, made.parent) == (Policy.State.MIXTURE, helpful)
    assert made.knobs == {"mixture": {helpful.name: 0.7, brief.name: 0.3}}
    listed = [one["id"] for one in http.get("/v1/models").json()["data"]]
    assert {made.name, "plumbline:helpful", "plumbline:brief"} <= set(listed)
    assert http.get(f"/v1/models/{made.name}").status_code == 200
    again = ask("brief=0.31,helpful=0.69")  # to steps of 0.05, the same
    assert again.json()["model"] == made.name
    assert Job.objects.count() == 1


def test_it_is_the_average_of_both(ask: Any, two: Any, project: Any) -> None:
    """Its product of factors equals the weighted sum of theirs, layer by layer."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    ask("helpful=0.75,brief=0.25")
    make()
    made = Mixture.objects.get().policy
    assert made is not None
    name = "adapter_model.safetensors"
    mixed, first, second = (load_file(Path(one.path) / name) for one in (made, *two))
    config = json.loads((Path(two[0].path) / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    for key in (one for one in first if one.endswith(".lora_A.weight")):
        other = key.replace("lora_A", "lora_B")

        def product(weights: Any, a: str = key, b: str = other) -> Any:
            return weights[b] @ weights[a]

        wanted = scale * (0.75 * product(first) + 0.25 * product(second))
        assert torch.allclose(product(mixed), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("weighed", "said"),
    [
        ("", "is no objective with a weight"),
        ("helpful=", "is no objective with a weight"),
        ("helpful=0.5,,brief=0.5", "is no objective with a weight"),
        ("helpful=much", "is no number"),
        ("helpful=nan", "must be a number from 0 on"),
        ("helpful=inf", "must be a number from 0 on"),
        ("helpful=-1,brief=2", "must be a number from 0 on"),
        ("helpful=0,brief=0", "at least one weight must be above 0"),
        ("helpful=1e308,brief=1e308", "at least one weight must be above 0"),
        ("helpful=1,helpful=1", "helpful is named twice"),
        ("a=1,b=1,c=1,d=1,e=1", "at most 4 objectives"),
        ("kind=1", "has no objective 'kind'; it has: brief, helpful"),
    ],
)
def test_what_cannot_be_weighed_is_refused_in_a_sentence(
    ask: Any, two: Any, weighed: str, said: str
) -> None:
    reply = ask(weighed)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["param"], error["code"]) == ("model", "invalid_weights")
    assert said in error["message"]
    assert not Mixture.objects.exists()


def test_weights_round_to_twentieths_that_add_up() -> None:
    assert twentieths(parse("plumbline:a=1,b=1,c=1")) == {"a": 7, "b": 7, "c": 6}
    assert twentieths({"a": 0.7, "b": 0.3}) == {"a": 14, "b": 6}
    assert twentieths({"a": 1000, "b": 1}) == {"a": 20}
    assert parse("plumbline: a = 0.5 , b") == {"a": 0.5, "b": 1.0}
    with pytest.raises(ApiError):
        parse("plumbline:a=0.5;b=0.5")


def test_two_objectives_of_one_policy_are_no_mixture(ask: Any, two: Any, project: Any) -> None:
    helpful, _ = two
    objectives.put(project, "kind", helpful, actor=None, reason="also")
    assert ask("kind=0.4,helpful=0.6").json()["model"] == helpful.name
    assert not Mixture.objects.exists()


def test_a_job_that_fails_is_told_and_tried_again_later(
    ask: Any, two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("helpful,brief")
    Job.objects.update(state=Job.State.FAILED, error="ValueError: no room")
    mixtures.advance()
    time.sleep(2 * SOON)  # the gateway remembers for so long that it is being made
    reply = ask("helpful,brief")
    assert reply.status_code == 503
    assert "It could not be made: the job that averages ended" in reply.text
    monkeypatch.setattr(mixtures, "AGAIN", -mixtures.AGAIN)
    assert "is being made" in ask("helpful,brief").text
    make()
    assert ask("helpful,brief").status_code == 200


def test_an_engine_that_is_away_only_delays_it(ask: Any, two: Any, settings: Any) -> None:
    ask("helpful,brief")
    url, settings.ENGINE_URL = settings.ENGINE_URL, "http://127.0.0.1:9"
    make()
    assert Mixture.objects.get().state == Mixture.State.MAKING
    settings.ENGINE_URL = url
    mixtures.advance()
    assert ask("helpful,brief").status_code == 200


def test_only_so_many_are_made_at_once(ask: Any, two: Any) -> None:
    for weights in ("helpful=0.5,brief=0.5", "helpful=0.6,brief=0.4"):
        assert "is being made" in ask(weights).text
    refused = ask("helpful=0.9,brief=0.1")
    assert refused.status_code == 503
    assert "Other mixtures are being made" in refused.text
    assert Job.objects.count() == 2


def test_the_least_recently_used_is_put_away_and_comes_back_without_a_job(
    ask: Any, two: Any, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixtures, "MOST_READY", 1)
    ask("helpful=0.5,brief=0.5")
    make()
    first = ask("helpful=0.5,brief=0.5").json()["model"]
    ask("helpful=0.6,brief=0.4")
    make()
    assert ask("helpful=0.6,brief=0.4").status_code == 200
    assert first not in serving.served()
    assert Mixture.objects.get(policy__name=first).state == Mixture.State.AWAY
    assert ask("helpful=0.5,brief=0.5").status_code == 503
    mixtures.advance()
    assert ask("helpful=0.5,brief=0.5").json()["model"] == first
    assert Job.objects.count() == 2


def test_objectives_and_mixtures_stay_loaded(ask: Any, two: Any, project: Any) -> None:
    helpful, _ = two
    ask("helpful,brief")
    make()
    made = Mixture.objects.get().policy
    assert made is not None
    assert {helpful, made} <= set(routes.needed(project))
    with pytest.raises(ValueError, match="is needed by the objective alpha/helpful"):
        serving.release(helpful)
    with pytest.raises(ValueError, match="is needed by the mixture"):
        serving.release(made)
    forgotten = {"lora_name": made.name}
    engines.call(engines.urls()[0], "POST", "/v1/unload_lora_adapter", forgotten, 10)  # a crash
    assert serving.reconcile() == [made.name]
    assert ask("helpful,brief").status_code == 200


def test_a_researcher_sets_and_removes_an_objective(
    project: Any, current: Any, make_adapter: Any, alice: Any, client_for: Any
) -> None:
    policy, browser = make_adapter(33), client_for(alice)
    page = "/p/alpha/routing/objectives/"
    form = {"name": "helpful", "policy": str(policy.pk), "reason": "It is"}
    done = browser.post(page, form, follow=True)
    assert f"plumbline:helpful is {policy.name}." in unescape(done.content.decode())
    assert Objective.objects.get().policy == policy
    for wrong, said in (
        ({"name": "Very Helpful"}, "small letters, digits"),
        ({"name": ""}, "Name the objective."),
        ({"policy": ""}, "Choose a policy."),
        ({"reason": ""}, "Say why"),
    ):
        answer = browser.post(page, {**form, **wrong})
        assert answer.status_code == 422
        assert said in unescape(answer.content.decode())
    ended = browser.post(f"{page}helpful/end/", {"reason": "No more"}, follow=True)
    assert "helpful is no objective any more." in unescape(ended.content.decode())
    assert not Objective.objects.exists()
    first, second = RouteChange.objects.order_by("pk")
    assert (first.before, first.after, first.actor) == (None, policy, alice)
    assert (second.before, second.after, second.reason) == (policy, None, "No more")
    gone = browser.post(f"{page}helpful/end/", {"reason": "x"})
    assert gone.status_code == 422
    assert "has no objective helpful" in unescape(gone.content.decode())
