"""A canary answers a share of an alias's requests, each user always on the same side."""

from __future__ import annotations

import time
from html import unescape
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from plumbline.audit.models import AuditEntry
from plumbline.gateway.models import Exchange, Feedback
from plumbline.gateway.routing import draw
from plumbline.policies import engines, routes, serving, trials
from plumbline.policies.models import Deployment, Flip, RouteChange

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
pytestmark = pytest.mark.sqlite
PAGE = "/p/alpha/routing/"


def ask(sdk: Any, **more: Any) -> Any:
    more = {"model": "current", "max_tokens": 1, **more}
    return sdk.chat.completions.with_raw_response.create(messages=ASK, **more)


def told(sdk: Any, **more: Any) -> str:
    """The policy that answered."""
    raw = ask(sdk, **more)
    policy = raw.headers["x-policy-version"]
    assert raw.parse().model == policy
    return str(policy)


def start(project: Any, policy: Any, share: float, actor: Any = None) -> Deployment:
    return trials.set_canary(project, "current", policy, share, actor=actor, reason="to see")


def exchanges(count: int) -> list[Exchange]:
    deadline = time.monotonic() + 20
    while Exchange.objects.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return list(Exchange.objects.order_by("id"))


def side(project: Any, policy: Any, user: str) -> float:
    return draw(f"canary {policy.pk}", project.pk, "current", f"user {user}")


@pytest.fixture
def canary(current: Any, make_adapter: Any) -> Any:
    return make_adapter(11)


def test_a_user_stays_on_one_side_and_a_larger_share_only_adds_users(
    sdk: Any, project: Any, current: Any, canary: Any
) -> None:
    start(project, canary, 0.3)
    users = [f"user-{n}" for n in range(12)]
    first = {user: told(sdk, user=user) for user in users}
    assert {user: told(sdk, user=user) for user in users} == first
    assert {user: told(sdk, extra_body={"safety_identifier": user}) for user in users} == first
    for user in users:
        expected = canary if side(project, canary, user) < 0.3 else current
        assert first[user] == expected.name
    start(project, canary, 0.6)
    second = {user: told(sdk, user=user) for user in users}
    assert all(second[user] == canary.name for user in users if first[user] == canary.name)
    assert sum(name == canary.name for name in second.values()) > sum(
        name == canary.name for name in first.values()
    )


def test_shares_come_out_as_they_were_set(project: Any) -> None:
    drawn = [draw("canary x", project.pk, "current", f"user {n}") for n in range(4000)]
    assert sum(one < 0.25 for one in drawn) / 4000 == pytest.approx(0.25, abs=0.03)
    other = [draw("canary y", project.pk, "current", f"user {n}") for n in range(4000)]
    both = sum(a < 0.5 and b < 0.5 for a, b in zip(drawn, other, strict=True))
    assert both / 4000 == pytest.approx(0.25, abs=0.03)  # another canary draws other users


def test_requests_without_a_user_fall_by_themselves(
    sdk: Any, project: Any, current: Any, canary: Any
) -> None:
    start(project, canary, 0.5)
    assert {told(sdk) for _ in range(24)} == {current.name, canary.name}
    rows = exchanges(24)
    assert {one.asked_for for one in rows} == {"current"}
    assert {one.policy.name for one in rows} == {current.name, canary.name}


def test_a_policy_asked_for_by_its_own_name_has_no_canary(
    sdk: Any, project: Any, current: Any, canary: Any
) -> None:
    start(project, canary, 1.0)
    assert told(sdk) == canary.name
    assert told(sdk, model=current.name) == current.name


def test_a_stream_comes_from_the_canary_whole(
    sdk: Any, project: Any, current: Any, canary: Any
) -> None:
    start(project, canary, 1.0)
    chunks = list(
        sdk.chat.completions.create(model="current", messages=ASK, max_tokens=5, stream=True)
    )
    assert {chunk.model for chunk in chunks} == {canary.name}


def test_the_users_name_is_kept_nowhere(sdk: Any, project: Any, current: Any, canary: Any) -> None:
    start(project, canary, 0.5)
    told(sdk, user="someone@example.org")
    (row,) = exchanges(1)
    kept = " ".join(str(getattr(row, field.attname)) for field in Exchange._meta.concrete_fields)
    assert "someone" not in kept


def test_a_canary_is_loaded_and_probed_before_anything_changes(
    project: Any, current: Any, canary: Any, make_adapter: Any, charlie: Any, alice: Any
) -> None:
    broken = make_adapter(12)
    broken.sha256 = "0" * 64
    broken.save()
    with pytest.raises(serving.EngineError, match="was not loaded"):
        start(project, broken, 0.1)
    theirs = make_adapter(13)
    theirs.project = charlie.projects.get()
    theirs.save()
    with pytest.raises(ValueError, match="is not a policy of Alpha"):
        start(project, theirs, 0.1)
    with pytest.raises(ValueError, match="is what current serves already"):
        start(project, current, 0.1)
    for share in (0, -0.1, 1.01):
        with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
            start(project, canary, share)
    with pytest.raises(ValueError, match="has no alias nowhere"):
        trials.set_canary(project, "nowhere", canary, 0.1, actor=None, reason="x")
    with pytest.raises(ValueError, match="current has no canary"):
        trials.drop_canary(project, "current", actor=None, reason="x")
    assert Deployment.objects.get().canary is None
    assert not RouteChange.objects.exists()
    start(project, canary, 0.1, alice)
    assert canary.name in serving.served()
    (row,) = RouteChange.objects.all()
    assert (row.after, row.after_share, row.before, row.actor) == (canary, 0.1, None, alice)


def test_the_database_keeps_no_share_without_a_canary(project: Any, current: Any) -> None:
    for fields in ({"canary_share": 0.5}, {"canary": current, "canary_share": 0.5}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Deployment.objects.update(**fields)


def test_promoting_the_canary_ends_it(
    sdk: Any, project: Any, current: Any, canary: Any, alice: Any
) -> None:
    start(project, canary, 0.2)
    trials.promote_canary(project, "current", actor=alice, reason="Better", evidence={"n": 7})
    deployment = Deployment.objects.get()
    assert (deployment.policy, deployment.previous, deployment.canary) == (canary, current, None)
    assert told(sdk) == canary.name
    assert Flip.objects.first().evidence == {"n": 7, "canary_share": 0.2}
    ended = RouteChange.objects.first()
    assert (ended.before, ended.before_share, ended.after) == (canary, 0.2, None)
    assert ended.reason == "The canary was promoted. Better"
    entries = AuditEntry.objects.filter(project=project.pk).order_by("-number")
    assert list(entries.values_list("who", "what")[:3]) == [
        (f"user:{alice.pk}", "policy.promoted"),
        (f"user:{alice.pk}", "canary.ended"),
        ("system", "canary.set"),
    ]


def test_a_promotion_of_another_policy_ends_the_canary_too(
    sdk: Any, project: Any, current: Any, canary: Any, make_adapter: Any, promote: Any
) -> None:
    start(project, canary, 1.0)
    third = make_adapter(14)
    promote(third)
    assert Deployment.objects.get().canary is None
    assert told(sdk) == third.name
    assert RouteChange.objects.first().reason.startswith("The alias moved to another policy.")


def test_rejecting_the_canary_ends_it_and_unloads_it(
    sdk: Any, project: Any, current: Any, canary: Any, alice: Any, client_for: Any
) -> None:
    start(project, canary, 1.0)
    assert told(sdk) == canary.name
    reject = f"/p/alpha/lab/policies/{canary.pk}/reject/"
    said = client_for(alice).post(reject, {"reason": "No."}, follow=True)
    assert f"{canary.name} is rejected." in text(said)
    assert "may still hold it" not in text(said)
    deployment = Deployment.objects.get()
    assert (deployment.policy, deployment.canary, deployment.canary_share) == (current, None, 0)
    ended = RouteChange.objects.first()
    assert (ended.before, ended.before_share, ended.after, ended.actor) == (canary, 1, None, alice)
    assert ended.reason == "The policy was rejected. No."
    assert told(sdk) == current.name
    assert canary.name not in serving.served()


def test_a_rejection_ends_a_shadow_and_leaves_other_trials_alone(
    project: Any, current: Any, canary: Any, make_adapter: Any, alice: Any
) -> None:
    from plumbline.accounts import keys

    shadow = make_adapter(15)
    key, _ = keys.create(project, "app", ["infer"], alice)
    start(project, canary, 0.5)
    trials.set_shadow(project, "current", shadow, 0.5, [key], actor=None, reason="to see")
    assert trials.reject(shadow, actor=None, reason="Worse.")
    deployment = Deployment.objects.get()
    assert (deployment.canary, deployment.canary_share, deployment.shadow) == (canary, 0.5, None)
    assert not deployment.shadow_keys.exists()
    assert not trials.reject(shadow, actor=None, reason="Again.")
    assert not trials.reject(current, actor=None, reason="It is promoted.")
    assert Deployment.objects.get().policy == current


def test_a_canary_stays_loaded_until_it_is_dropped(
    sdk: Any, project: Any, current: Any, canary: Any
) -> None:
    start(project, canary, 1.0)
    with pytest.raises(ValueError, match="is needed by alpha/current"):
        serving.release(canary)
    forgotten = {"lora_name": canary.name}
    engines.call(engines.urls()[0], "POST", "/v1/unload_lora_adapter", forgotten, 10)  # a crash
    assert serving.reconcile() == [canary.name]
    assert told(sdk) == canary.name
    trials.drop_canary(project, "current", actor=None, reason="Worse")
    assert told(sdk) == current.name
    assert not routes.needed(project).filter(pk=canary.pk).exists()
    serving.release(canary)
    assert canary.name not in serving.served()


def text(response: Any) -> str:
    return unescape(response.content.decode())


def test_the_page_shows_both_sides_and_ends_a_canary_with_its_figures(
    sdk: Any, project: Any, current: Any, canary: Any, alice: Any, client_for: Any
) -> None:
    browser = client_for(alice)
    begun = browser.post(
        f"{PAGE}current/canary/",
        {"policy": str(canary.pk), "percent": "50", "reason": "Try it"},
        follow=True,
    )
    assert f"{canary.name} answers 50.0% of the requests to current." in text(begun)
    ours = next(f"u{n}" for n in range(99) if side(project, canary, f"u{n}") < 0.5)
    reply = ask(sdk, user=ours).parse()
    exchanges(1)
    Feedback.objects.create(
        project=project, name="f", completion_id=reply.id, key="thumbs", score=1, digest="0" * 64
    )
    shown = text(browser.get(PAGE))
    assert "when the canary began" in shown
    assert f'{canary.name}</th><td class="num" data-label="Requests">1</td>' in shown
    assert 'data-label="Mean score">1.00' in shown
    done = browser.post(
        f"{PAGE}current/canary/end/", {"reason": "Good", "how": "promote"}, follow=True
    )
    assert f"current is now {canary.name}" in text(done)
    evidence = Flip.objects.first().evidence
    assert evidence[canary.name] == {"requests": 1, "errors": 0, "feedback": 1, "score": 1.0}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"percent": "0"}, "The share must be at least 0.1 per cent."),
        ({"percent": "101"}, "The share must be at most 100 per cent."),
        ({"percent": "nan"}, "The share must be a number of per cent."),
        ({"policy": ""}, "Choose a policy."),
        ({"policy": "00000000-0000-0000-0000-000000000000"}, "Choose a policy of this project"),
        ({"reason": ""}, "Say why; the reason is kept with the change."),
    ],
)
def test_the_page_says_what_is_wrong(
    project: Any, current: Any, canary: Any, alice: Any, client_for: Any, fields: Any, said: str
) -> None:
    good = {"policy": str(canary.pk), "percent": "5", "reason": "x"}
    answer = client_for(alice).post(f"{PAGE}current/canary/", {**good, **fields})
    assert answer.status_code == 422
    assert said in text(answer)
    assert Deployment.objects.get().canary is None


def test_an_engine_that_is_away_changes_nothing(
    project: Any, current: Any, canary: Any, alice: Any, client_for: Any, settings: Any
) -> None:
    settings.ENGINE_URL = "http://127.0.0.1:9"
    answer = client_for(alice).post(
        f"{PAGE}current/canary/", {"policy": str(canary.pk), "percent": "5", "reason": "x"}
    )
    assert answer.status_code == 422
    assert "Nothing was changed: the engine at" in text(answer)
    assert Deployment.objects.get().canary is None


def test_an_alias_of_another_project_is_not_found(
    project: Any, alice: Any, client_for: Any
) -> None:
    answer = client_for(alice).post(f"{PAGE}current/canary/", {"percent": "5"})
    assert answer.status_code == 404
    assert "Nothing is served yet" in text(client_for(alice).get(PAGE))
