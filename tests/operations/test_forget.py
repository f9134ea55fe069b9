"""A person who is forgotten leaves votes and no name, and can no longer come in."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey, Membership, User
from plumbline.audit.models import AuditEntry
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Draft, Enrolment, Flag
from plumbline.gateway import chat, ids
from plumbline.gateway.models import Feedback, StoredCompletion
from plumbline.loop import rows
from plumbline.loop.models import Retraction, SavedView
from plumbline.operations import farewells, verifying
from plumbline.operations.models import Farewell
from plumbline.policies import serving
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture
def said(project, bob, vote, client_for):
    """Everything of bob that a project can hold."""
    campaign = open_campaign(project, comparisons=4, asks=["compare", "correct"])
    first, second = vote(campaign), vote(campaign)
    Ballot.objects.filter(pk=first.pk).update(
        comment="I am Bob",
        corrections={"0": "My words"},
        spans=[{"slot": 0, "start": 0, "end": 1, "label": "x", "note": "says Bob"}],
    )
    open_one = queue.claim_next(bob, campaign)
    Draft.objects.create(ballot=open_one, fields={"comment": "half a thought of Bob"})
    Flag.objects.create(ballot=second, reason="harmful", words="Bob saw this")
    SavedView.objects.create(project=project, owner=bob, name="Bob's", query="")
    keys.create(project, "Bob's app", ["infer"], bob)
    mine = {"project": project, "end_user": ids.end_user(project.pk, chat.member(bob))}
    StoredCompletion.objects.create(
        **mine,
        policy=serving.base_policy(project),
        completion_id="c1",
        answers=[],
        messages=[{"role": "user", "content": "Bob asks"}],
        expires_at=timezone.now() + timedelta(days=1),
    )
    Feedback.objects.create(
        project=project,
        user=bob,
        name="f",
        completion_id="c1",
        key="thumbs",
        comment="Bob says",
        digest="0" * 64,
    )
    bob.first_name, bob.email, bob.preferences = "Bob", "bob@bob.example", {"bob": 1}
    bob.save()
    return client_for(bob), [first, second]


def everything_stored() -> str:
    """Every row of every table, as text."""
    from django.apps import apps

    found = []
    for model in apps.get_models():
        found += [json.dumps(row, default=str) for row in model._default_manager.values()]
    return "\n".join(found)


def test_name_and_words_go_and_votes_stay(said, bob, alice, project):
    browser, votes = said
    before = rows.ballots_digest(votes)
    assert browser.get(f"/p/{project.slug}/").status_code == 200
    assert "Bob" in everything_stored()
    farewells.forget(bob, actor=alice, reason="They asked")
    stored = everything_stored().replace("Bob's app", "")  # the key is the project's, revoked
    assert "bob" not in stored.lower()
    assert "My words" not in stored
    ballots = Ballot.objects.filter(annotator=bob).exclude(outcome="")
    assert rows.ballots_digest(ballots) == before
    assert [one.ranking for one in ballots] == [[[1], [0]]] * 2
    assert ApiKey.objects.get().revoked_at is not None
    assert not Membership.objects.filter(user=bob).exists()
    assert Enrolment.objects.filter(user=bob, left_at=None).count() == 0
    assert "/accounts/login" in browser.get(f"/p/{project.slug}/").headers["Location"]
    gone = User.objects.get(pk=bob.pk)
    assert (gone.is_active, gone.has_usable_password()) == (False, False)
    assert verifying.verify(only=["votes"]).findings == []
    # What they had open is asked of others.
    assert Ballot.objects.get(annotator=bob, outcome="").seat is None


def test_the_audit_says_what_went_and_what_stays(said, bob, alice):
    farewell = farewells.forget(bob, actor=alice, reason="They asked")
    kept = Farewell.objects.get()
    entry = AuditEntry.objects.get(what="person.forgotten")
    assert (entry.who, entry.object) == (f"user:{alice.pk}", f"user:{bob.pk}")
    assert (kept.pk, kept.actor, kept.reason) == (farewell.pk, "alice", "They asked")
    assert kept.done_at is not None
    assert kept.done["votes_kept"] == 2
    assert kept.done["gone"]["comments and corrections"] == 1
    assert kept.done["gone"]["sessions"] == 1
    assert kept.done["gone"]["API keys revoked"] == ["Bob's app"]
    assert any("votes" in one for one in kept.done["stays"])
    with pytest.raises(ValueError, match="forgotten already"):
        farewells.forget(User.objects.get(pk=bob.pk), actor=alice, reason="Again")


def test_their_votes_can_be_taken_from_all_training_to_come(said, bob, alice, project):
    farewells.forget(bob, actor=alice, reason="They asked", withdraw_votes=True)
    one = Retraction.objects.get()
    assert (one.annotator, one.project) == (bob, project)


def test_the_only_admin_and_what_is_no_person_are_refused(project, dana, alice):
    with pytest.raises(ValueError, match="only admin of Alpha"):
        farewells.forget(dana, actor=alice, reason="x")
    robot = User.objects.create_user(username="robot", kind=User.Kind.AI)
    with pytest.raises(ValueError, match="is no person"):
        farewells.forget(robot, actor=alice, reason="x")
    assert not Farewell.objects.exists()


def test_the_command_says_it_in_sentences(said, bob, alice, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: "no")
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("forget", "bob", "--by", "alice", "--reason", "They asked")
    with pytest.raises(CommandError, match="nobody called zoe"):
        call_command("forget", "zoe", "--by", "alice", "--reason", "They asked")
    out = io.StringIO()
    call_command("forget", "bob", "--by", "alice", "--reason", "They asked", "--yes", stdout=out)
    assert f"bob is forgotten-{bob.pk} from now on" in out.getvalue()
    assert "API keys revoked: Bob's app" in out.getvalue()
    assert "\nBackups that were made before still hold it" in out.getvalue()


def test_a_wish_can_be_withdrawn(bob, alice):
    first = farewells.ask(bob)
    assert farewells.ask(bob) == first
    farewells.withdraw(bob)
    second = farewells.ask(bob)
    assert second != first
    assert farewells.forget(bob, actor=alice, reason="They asked").pk == second.pk
