"""A person's copy of what is kept of them: all of it, nobody else's, and no secret."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import User
from plumbline.audit.models import AuditEntry
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Draft
from plumbline.gateway import chat, ids
from plumbline.gateway.models import Feedback, StoredCompletion
from plumbline.loop.models import SavedView
from plumbline.operations import own_data
from plumbline.policies import serving
from tests.comparisons import open_campaign

pytestmark = pytest.mark.django_db
URL = "/accounts/data/"


def copy_of(browser) -> dict:
    answer = browser.post(f"{URL}download/")
    assert answer.status_code == 200
    return json.loads(b"".join(answer))


@pytest.fixture
def busy(project, bob, carol, vote):
    """Bob and carol have both said things, bob of every kind."""
    campaign = open_campaign(project, comparisons=3, overlap=2)
    for person in (bob, carol):
        said = vote(campaign, person)
        Ballot.objects.filter(pk=said.pk).update(comment=f"said {person}")
    Draft.objects.create(ballot=queue.claim_next(bob, campaign), fields={"comment": "half"})
    SavedView.objects.create(project=project, owner=bob, name="Mine", query="a=1")
    StoredCompletion.objects.create(
        project=project,
        end_user=ids.end_user(project.pk, chat.member(bob)),
        policy=serving.base_policy(project),
        completion_id="c1",
        answers=[{"text": "So"}],
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
    return bob


def test_the_copy_has_what_a_person_said_and_nothing_of_others(busy, client_for):
    told = copy_of(client_for(busy))
    assert told["account"]["username"] == "bob"
    (vote,) = (one for one in told["votes"] if one["outcome"])  # the other is an open claim
    assert vote["comment"] == "said bob"
    assert vote["ranking"] == [[1], [0]]
    assert told["drafts"][0]["fields"] == {"comment": "half"}
    assert told["kept_texts"][0]["messages"][0]["content"] == "Bob asks"
    assert told["feedback"][0]["comment"] == "Bob says"
    assert [one["name"] for one in told["saved_views"]] == ["Mine"]
    assert told["memberships"] == [{"project": "Alpha", "role": "annotator"}]
    assert "carol" not in json.dumps(told)
    assert AuditEntry.objects.get(what="own_data.downloaded").who == f"user:{busy.pk}"


def test_the_copy_holds_no_secret(project, busy, client_for):
    busy.set_password("a long enough password")
    busy.save()
    browser = client_for(busy)
    _, secret = keys.create(project, "Bob's app", ["infer"], busy)
    text = json.dumps(copy_of(browser))
    assert "Bob's app" in text
    for hidden in (secret, secret.rpartition("_")[2], busy.password, "digest"):
        assert hidden not in text
    assert browser.cookies["sessionid"].value not in text


def test_no_table_that_points_at_people_is_left_out(busy, client_for):
    """Also one that is added tomorrow."""
    told = copy_of(client_for(busy))
    listed = {f"{model._meta.label}.{field}" for model, field in own_data.IN_PARTS}
    for relation in User._meta.get_fields(include_hidden=True):
        if relation.is_relation and relation.auto_created:
            model = relation.related_model
            if not model._meta.auto_created:
                name = f"{model._meta.label}.{relation.field.name}"
                assert name in listed or name in told["named_in"], name


def test_a_thousand_votes_are_read_in_pages(busy, vote, client_for, monkeypatch):
    monkeypatch.setattr(own_data, "PAGE", 2)
    campaign = open_campaign(busy.projects.get(), comparisons=5)
    while vote(campaign, busy):
        pass
    with CaptureQueriesContext(
        connection,
    ) as asked:
        told = copy_of(client_for(busy))
    voted = Ballot.objects.filter(annotator=busy)
    assert [one["id"] for one in told["votes"]] == [str(one.pk) for one in voted.order_by("pk")]
    pages = [one["sql"] for one in asked if 'FROM "collect_ballot"' in one["sql"]]
    assert len([sql for sql in pages if "LIMIT 2" in sql]) >= voted.count() // 2


def test_the_page_counts_what_is_kept(busy, client_for):
    page = client_for(busy).get(URL).content.decode()
    assert "<dt>Votes</dt><dd>2</dd>" in page
    assert "Ask to be forgotten" in page
    assert client_for(busy).get(f"{URL}download/").status_code == 405  # looking records nothing
