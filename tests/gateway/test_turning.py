"""A direction in a model's name: the engine behind the gateway is asked as training asked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from align import directions
from align.algorithms.dpa import DPA
from plumbline.gateway import turning
from plumbline.gateway.errors import ApiError
from plumbline.policies import serving
from plumbline.policies.models import Policy
from tests.faulty_engine import FaultyEngine

pytestmark = pytest.mark.postgres

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
KNOBS = {"second": "words", "third": "headings", "angle": 60.0}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.fixture
def relay(engine: Any) -> Iterator[FaultyEngine]:
    found = FaultyEngine(engine.port)
    yield found
    found.close()


@pytest.fixture
def ask(
    relay: FaultyEngine, start_gateway: Callable[..., Any], secret: str, turned: Policy
) -> Iterator[Callable[..., httpx.Response]]:
    gateway = start_gateway(relay.url)
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gateway.url, headers=headers, trust_env=False, timeout=60) as http:

        def post(model: str, messages: Any = ASK, path: str = "chat/completions") -> httpx.Response:
            what = {"messages": messages} if path.startswith("chat") else {"prompt": "Paris is"}
            body = {"model": model, **what, "max_tokens": 3, "temperature": 0}
            return http.post(f"/v1/{path}", json=body)

        yield post


@pytest.fixture
def turned(project: Any, make_adapter: Any, promote: Any, engine: Any, settings: Any) -> Policy:
    """What is served was trained by DPA."""
    settings.ENGINE_URL = engine.url
    policy: Policy = make_adapter(51)
    Policy.objects.filter(pk=policy.pk).update(algorithm="dpa", knobs=KNOBS)
    promote(policy)
    return policy


def trained_on(v: dict[str, float], messages: Any) -> list[Any]:
    """The conversation of an example with this direction, as `loop.examples` writes it."""
    made = DPA.build(KNOBS)
    unit = directions.normalised({name: v.get(name, 0.0) for name in made.attributes})
    facts = dict(zip(made.written, unit.values(), strict=False))
    return list(made.conversation(messages, facts))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("before", [[], [SYSTEM]], ids=["no system line", "a system line"])
def test_the_engine_sees_the_prompt_that_training_used(
    ask: Callable[..., httpx.Response], relay: FaultyEngine, turned: Policy, before: list[Any]
) -> None:
    messages = [*before, *ASK]
    reply = ask("current@words=-0.5, quality=1", messages)
    assert reply.status_code == 200, reply.text
    seen = json.loads([one for one in relay.bodies if b"messages" in one][-1])
    wanted = trained_on({"quality": 1.0, "words": -0.5}, messages)
    assert seen["messages"] == wanted
    assert wanted[0]["content"].endswith("Weigh your answer so: quality=89, words=-45, headings=0")
    assert reply.headers["x-direction"] == "quality=89, words=-45, headings=0"
    assert reply.headers["x-policy-version"] == reply.json()["model"] == turned.name
    plain = ask("current", wanted)
    assert plain.json()["usage"]["prompt_tokens"] == reply.json()["usage"]["prompt_tokens"]
    assert plain.json()["choices"][0]["message"] == reply.json()["choices"][0]["message"]
    assert "x-direction" not in plain.headers
    assert ask(f"{turned.name}@quality=1", messages).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_what_was_never_trained_on_is_refused(
    ask: Callable[..., httpx.Response], project: Any, turned: Policy
) -> None:
    for name, words in (
        ("current@kind=1", "was not trained on 'kind'; it knows: quality, words, headings"),
        ("current@quality", "no attribute with a weight"),
        ("current@quality=x", "is no number"),
        ("current@quality=inf", "must be a number"),
        ("current@quality=1,quality=1", "named twice"),
        ("current@quality=0", "a number other than 0"),
        ("current@quality=-1", "up to 60 degrees from quality; this one lies 180"),
        ("current@words=1", "lies 90 degrees from it"),
    ):
        reply = ask(name)
        assert reply.status_code == 400, name
        assert reply.json()["error"]["code"] == "invalid_direction"
        assert words in reply.json()["error"]["message"]
    assert "chat completions alone" in ask("current@quality=1", path="completions").text
    base = serving.base_policy(project)
    assert "was not trained on directions" in ask(f"{base.name}@quality=1").text
    assert ask("nothing@quality=1").status_code == 404


def test_a_direction_is_a_unit_vector_in_trainings_order() -> None:
    known = turning.Trained(("quality", "words", "headings"), 45.0)
    v = turning.direction({"headings": 3.0, "quality": 4.0}, known, "it")
    assert list(v) == ["quality", "words", "headings"]
    assert math.hypot(*v.values()) == pytest.approx(1)
    edge = turning.direction({"quality": 0.71, "words": 0.71}, known, "it")
    assert edge["quality"] == pytest.approx(math.sqrt(0.5))
    with pytest.raises(ApiError):
        turning.direction({"quality": 0.5, "words": 0.8}, known, "it")
    parts = [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind."}]
    body = {"messages": [{"role": "system", "content": parts}, *ASK]}
    said = turning.turned(body, v)["messages"][0]["content"]
    assert said.startswith("Be\nkind.\n\nWeigh your answer so: quality=80")
