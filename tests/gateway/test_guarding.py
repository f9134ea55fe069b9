"""A policy that does badly on live traffic is rolled back by itself; one that does well is left."""

from __future__ import annotations

import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from plumbline.audit.models import AuditEntry
from plumbline.gateway import guarding
from plumbline.gateway.models import Exchange, Feedback
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Flip, Guard, Look, Policy

pytestmark = pytest.mark.django_db
PAGE = "/p/alpha/routing/current/guards/"


def text(response) -> str:
    return unescape(response.content.decode())


@pytest.fixture
def moved(project, commit_weights, engine, settings) -> Flip:
    """The alias went from the base to an adapter an hour ago, on a real engine."""
    settings.ENGINE_URL, settings.ENGINE = engine.url, "transformers"
    base = serving.base_policy(project)
    folder = commit_weights(7, "lora", 0.05)
    policy = Policy.objects.create(
        project=project, name=f"tried-{uuid.uuid4().hex[:6]}", weights="lora",
        base_model=base.base_model, path=str(folder.path), sha256=folder.sha256, parent=base,
    )  # fmt: skip
    for one in (base, policy):
        serving.promote(project, one, actor=None, reason="So.", evidence={})
    flip = Flip.objects.get(after=policy)
    Flip.objects.filter(pk=flip.pk).update(at=timezone.now() - timedelta(hours=1))
    return Flip.objects.select_related("before", "after", "deployment").get(pk=flip.pk)


def traffic(flip: Flip, *, before: int, now: int, of: int = 100, **fields) -> None:
    """`of` requests a side, so many of which failed; `fields` are of the new policy's alone."""
    plain = {"project": flip.deployment.project, "asked_for": "current", "completion_tokens": 30}
    for policy, failed, hours, more in (
        (flip.before, before, -1, {}),
        (flip.after, now, 0.5, fields),
    ):
        made = Exchange.objects.bulk_create(
            Exchange(
                **{**plain, "latency_ms": 100 + n, **more},
                policy=policy,
                completion_id=uuid.uuid4().hex,
                status=502 if n < failed else 200,
            )
            for n in range(of)
        )
        at = flip.at + timedelta(hours=hours)
        Exchange.objects.filter(pk__in=[one.pk for one in made]).update(created_at=at)


def guard(flip: Flip, metric: str = "errors", **fields) -> Guard:
    return Guard.objects.create(
        deployment=flip.deployment, metric=metric, **{"least": 100, "margin": 0.01, **fields}
    )


def test_a_policy_whose_requests_fail_is_rolled_back_with_the_evidence(
    moved, researcher_of, project
):
    guard(moved)
    traffic(moved, before=1, now=20)
    (alarm,) = guarding.watch()
    assert alarm.acted
    deployment = Deployment.objects.get(project=project)
    assert (deployment.policy, deployment.previous) == (moved.before, moved.after)
    flip = deployment.flips.order_by("-pk").first()
    assert flip.actor is None
    assert "Requests that failed: 20.0 % in 100 requests, 1.0 % in 100 before" in flip.reason
    assert flip.evidence["rolled_back"] == moved.after.name
    assert flip.evidence["guard"]["figure"] == 0.2
    assert flip.evidence["guard"]["p_value"] <= flip.evidence["guard"]["level"]
    told = AuditEntry.objects.filter(project=project.pk).order_by("-number")
    assert list(told.values_list("who", "what")[:2]) == [
        ("system", "policy.rolled_back"),
        ("system", "guard.alarm"),
    ]
    assert guarding.watch() == [], "a roll-back is not watched: it would swing to and fro"
    page = text(researcher_of.get(f"/p/alpha/lab/policies/{moved.after.pk}/"))
    for words in ("A guard raised an alarm", "The alias was rolled back", "Rolled back from"):
        assert words in page, words
    assert "20.0 % in 100 requests" in text(researcher_of.get(PAGE))


def test_healthy_traffic_changes_nothing(moved, project):
    guard(moved)
    traffic(moved, before=5, now=6)
    assert guarding.watch() == []
    look = Look.objects.get()
    assert (look.number, look.alarm, look.seen) == (1, False, 100)
    assert guarding.watch() == []
    assert Look.objects.count() == 1, "it looks again after as many more requests"
    traffic(moved, before=0, now=5)
    guarding.watch()
    assert Look.objects.count() == 2
    assert Look.objects.first().level < look.level
    assert Deployment.objects.get(project=project).policy == moved.after


def test_too_few_requests_before_or_after_are_no_reason(moved):
    guard(moved)
    traffic(moved, before=0, now=90, of=90)
    assert guarding.watch() == []
    assert not Look.objects.exists()
    Exchange.objects.filter(policy=moved.before).delete()
    traffic(moved, before=0, now=50, of=50)
    assert guarding.watch() == []
    assert Look.objects.get().p_value is None


def test_a_guard_may_only_tell(moved, project):
    guard(moved, tell_only=True)
    traffic(moved, before=1, now=20)
    (alarm,) = guarding.watch()
    assert not alarm.acted
    assert Deployment.objects.get(project=project).policy == moved.after
    assert len(guarding.watch()) == 1
    assert Look.objects.count() == 1, "told once"


def test_what_somebody_has_moved_meanwhile_is_left_alone(moved, project):
    one = guard(moved)
    traffic(moved, before=1, now=20)
    look = guarding._look(one, moved)
    serving.roll_back(project, actor=None, reason="By hand.")
    guarding._roll_back(one, moved, look)
    look.refresh_from_db()
    assert "no longer" in look.trouble
    assert Deployment.objects.get(project=project).policy == moved.before


@pytest.mark.parametrize(
    ("metric", "worse"),
    [("latency", {"latency_ms": 400}), ("length", {"completion_tokens": 90}),
     ("empty", {"completion_tokens": 1})],
)  # fmt: skip
def test_latency_length_and_empty_answers_are_watched_too(moved, metric, worse):
    one = guard(moved, metric)
    traffic(moved, before=0, now=0, **worse)
    look = guarding._look(one, moved)
    assert look.alarm
    assert "(p = " in guarding.sentence(look)


def test_thumbs_are_of_the_policy_that_wrote_the_answer(moved):
    one = guard(moved, "down", least=50)
    traffic(moved, before=0, now=0, of=50)
    for exchange in Exchange.objects.all():
        Feedback.objects.create(
            project=exchange.project, name=exchange.completion_id, digest="0" * 64, key="thumbs",
            completion_id=exchange.completion_id, score=float(exchange.policy == moved.before),
        )  # fmt: skip
    look = guarding._look(one, moved)
    assert look.evidence["figure"] == 1.0
    assert look.evidence["previous_figure"] == 0.0
    assert look.alarm


def test_guards_are_chosen_on_their_page_and_ended_there(researcher_of, moved, alice):
    assert "Nothing is watched" in text(researcher_of.get(PAGE))
    chosen = {"metric": "errors", "minutes": 60, "least": 50, "margin": 2}
    page = text(researcher_of.post(PAGE, chosen, follow=True))
    assert "It is watched from now on" in page
    one = Guard.objects.get()
    assert (one.margin, one.created_by, one.tell_only) == (0.02, alice, False)
    again = researcher_of.post(PAGE, chosen)
    assert again.status_code == 422
    assert "watched already" in text(again)
    assert researcher_of.post(PAGE, {**chosen, "least": 1}).status_code == 422
    assert "watched no longer" in text(researcher_of.post(f"{PAGE}{one.pk}/end/", follow=True))
    assert guarding.watch() == []


@pytest.fixture
def researcher_of(client_for, alice):
    return client_for(alice)
