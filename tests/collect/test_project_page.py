"""The project's overview and a campaign's page, by role."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plumbline.collect import queue, views
from plumbline.collect.models import Ballot
from plumbline.policies.models import Deployment, Policy
from tests.comparisons import open_campaign


def text(client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def test_an_annotator_sees_campaigns_with_their_progress(campaign, bob, prefer, client_for):
    prefer(queue.claim_next(bob, campaign))
    page = text(client_for(bob), "/p/alpha/")
    assert "A few left for you · 1 is yours" in page
    assert "30 %" in page
    assert "Serving now" not in page


def test_a_researcher_sees_what_is_served(project, alice, client_for):
    policy = Policy.objects.create(project=project, name="alpha-r2", weights="base", base_model="b")
    Deployment.objects.create(project=project, policy=policy)
    assert "alpha-r2" in text(client_for(alice), "/p/alpha/")


def test_the_bar_offers_what_the_role_may_open(project, alice, bob, dana, client_for):
    links = ("/p/alpha/members/", "/p/alpha/keys/")
    seen = {
        user.username: [
            link for link in links if f'href="{link}"' in text(client_for(user), "/p/alpha/")
        ]
        for user in (bob, alice, dana)
    }
    assert seen == {"bob": [], "alice": ["/p/alpha/keys/"], "dana": list(links)}


def test_the_overview_asks_few_questions(project, alice, client_for, django_assert_max_num_queries):
    for _ in range(3):
        open_campaign(project, comparisons=5)
    client = client_for(alice)
    with django_assert_max_num_queries(28):
        client.get("/p/alpha/")


def test_an_open_campaign_stays_in_sight_however_many_have_closed_since(
    project, alice, bob, client_for
):
    asked = open_campaign(project, comparisons=1)
    now = timezone.now()
    rounds = [open_campaign(project, comparisons=0) for _ in range(views.SHOWN)]
    for age, closed in enumerate(rounds):
        closed.closed_at = now - timedelta(hours=age)
        closed.save()
    page = text(client_for(bob), "/p/alpha/")
    places = [page.index(f">{one.name}<") for one in (asked, *rounds[:-1])]
    assert places == sorted(places), "what is open, then what closed last"
    assert f">{rounds[-1].name}<" not in page
    assert "There are more" in page
    assert "all campaigns" in text(client_for(alice), "/p/alpha/")
    rounds[-1].delete()
    assert "There are more" not in text(client_for(bob), "/p/alpha/")


def test_a_campaign_shows_its_guidelines_and_a_way_in(campaign, bob, client_for):
    campaign.guidelines = "Prefer **short** <script>x</script>"
    campaign.save()
    page = text(client_for(bob), f"/p/alpha/campaigns/{campaign.pk}/")
    assert "<strong>short</strong>" in page
    assert "<script>x" not in page
    assert "Start comparing" in page


def test_starting_claims_once_and_opens_the_ballot(campaign, bob, client_for):
    client = client_for(bob)
    claim = f"/p/alpha/campaigns/{campaign.pk}/claim/"
    first, again = client.post(claim), client.post(claim)
    assert first.status_code == 303
    assert first["Location"] == again["Location"]
    assert Ballot.objects.count() == 1


def test_a_closed_campaign_says_so(campaign, bob, prefer, client_for):
    prefer(queue.claim_next(bob, campaign))
    campaign.closed_at = timezone.now()
    campaign.save()
    page = text(client_for(bob), f"/p/alpha/campaigns/{campaign.pk}/")
    assert "This campaign is closed" in page
    assert "1 vote of yours stands" in page


def test_a_campaign_of_another_project_does_not_exist(campaign, charlie, client_for):
    assert client_for(charlie).get(f"/p/beta/campaigns/{campaign.pk}/").status_code == 404


def test_opening_pages_changes_nothing(project, campaign, bob, dana, client_for):
    ballot = queue.claim_next(bob, campaign)
    queue.skip(ballot, "x", uuid4())
    ballot = queue.claim_next(bob, campaign)
    for person, paths in {
        bob: [
            "/",
            "/p/alpha/",
            f"/p/alpha/campaigns/{campaign.pk}/",
            f"/p/alpha/ballots/{ballot.pk}/",
        ],
        dana: ["/p/alpha/members/", "/p/alpha/keys/"],
    }.items():
        client = client_for(person)
        for path in paths:
            with CaptureQueriesContext(_connection()) as queries:
                client.get(path)
            reads = ("SELECT", "EXECUTE plumbline_select")
            wrote = [query["sql"] for query in queries if not query["sql"].startswith(reads)]
            assert not wrote, (path, wrote)


def _connection():
    from django.db import connection

    return connection


@pytest.mark.parametrize("path", ["/", "/p/alpha/", "/accounts/login/", "/nowhere/", "/sign-in/"])
def test_every_answer_carries_the_content_security_policy(path, project, bob, client_for):
    policy = client_for(bob).get(path)["Content-Security-Policy"]
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
