"""Who is in a campaign, and links that lead into it from end to end."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.accounts.models import Invitation, Membership, User
from plumbline.collect import enrolment, lifecycle, queue, versions

pytestmark = pytest.mark.django_db


def link(client, campaign) -> str:
    """The link a researcher makes, as its page shows it."""
    page = client.post(f"/p/alpha/campaigns/{campaign.pk}/people/invite/").content.decode()
    found = re.search(r"http://testserver(/campaign/[\w-]+/)", page)
    assert found is not None
    return found[1]


def test_a_link_makes_a_new_person_and_leads_into_the_campaign(client_for, client, alice, campaign):
    versions.change(campaign, {"invited_only": True, "warning": "Medical texts."}, alice)
    path = link(client_for(alice), campaign)
    page = client.get(path).content.decode()
    assert "alice invites you" in page
    assert "Medical texts." in page
    sent = {"username": "erin", "password1": "plumb-line-9", "password2": "plumb-line-9"}
    response = client.post(path, sent)
    assert response.url == f"/p/alpha/campaigns/{campaign.pk}/"
    erin = User.objects.get(username="erin")
    assert Membership.objects.get(user=erin).role == "annotator"
    assert erin.enrolments.get().campaign == campaign
    assert client.get(response.url).status_code == 200, "they are signed in"
    ballot = client.post(f"{response.url}claim/").url
    assert client.get(ballot).status_code == 200


def test_a_campaign_for_invited_people_is_for_nobody_else(client_for, alice, bob, carol, campaign):
    versions.change(campaign, {"invited_only": True}, alice)
    client_for(bob).post(link(client_for(alice), campaign))
    assert queue.claim_next(bob, campaign) is not None
    assert queue.claim_next(carol, campaign) is None
    assert "Campaign 0" in client_for(bob).get("/p/alpha/").content.decode()
    assert "Campaign 0" not in client_for(carol).get("/p/alpha/").content.decode()
    enrolment.remove(campaign, bob)
    assert queue.why_not(bob, campaign)
    assert "Campaign 0" not in client_for(bob).get("/p/alpha/").content.decode()


def test_a_link_works_once(client_for, client, alice, bob, carol, campaign):
    path = link(client_for(alice), campaign)
    assert client_for(bob).post(path).status_code == 302
    assert bob.enrolments.get().campaign == campaign
    assert client_for(carol).get(path).status_code == 404
    assert client_for(carol).post(path).status_code == 404


def test_a_member_who_follows_a_link_is_enrolled_and_keeps_their_role(
    client_for, alice, dana, campaign
):
    path = link(client_for(alice), campaign)
    client_for(dana).post(path)
    assert Membership.objects.get(user=dana).role == "admin"
    assert dana.enrolments.exists()


def test_who_is_in_already_leaves_the_link_for_somebody_else(client_for, alice, bob, campaign):
    enrolment.enrol(campaign, bob)
    path = link(client_for(alice), campaign)
    page = client_for(bob).post(path, follow=True).content.decode()
    assert "You are in Campaign 0 already." in page
    assert client_for(bob).get(path).status_code == 200


def test_a_member_of_another_project_joins_this_one(client_for, alice, charlie, campaign):
    client_for(charlie).post(link(client_for(alice), campaign))
    assert Membership.objects.filter(user=charlie).count() == 2


def test_a_link_taken_back_or_out_of_date_opens_nothing(client_for, alice, bob, campaign):
    client = client_for(alice)
    path = link(client, campaign)
    change = f"/p/alpha/campaigns/{campaign.pk}/people/change/"
    client.post(change, {"do": "withdraw", "which": str(Invitation.objects.get().pk)})
    assert client_for(bob).get(path).status_code == 404
    late = link(client, campaign)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert client_for(bob).get(late).status_code == 404


def test_a_link_is_shown_once(client_for, alice, campaign):
    client = client_for(alice)
    path = link(client, campaign)
    page = client.get(f"/p/alpha/campaigns/{campaign.pk}/people/").content.decode()
    assert path not in page
    assert "Not used yet" in page


def test_a_closed_campaign_invites_nobody(client_for, alice, campaign):
    lifecycle.step(campaign, "close", alice)
    page = f"/p/alpha/campaigns/{campaign.pk}/people/invite/"
    text = client_for(alice).post(page, follow=True).content.decode()
    assert "reopen it before inviting people" in text
    assert not Invitation.objects.exists()


def test_members_are_enrolled_left_out_and_let_in_again(client_for, alice, bob, campaign):
    client, change = client_for(alice), f"/p/alpha/campaigns/{campaign.pk}/people/change/"
    client.post(change, {"do": "enrol", "which": str(bob.pk)})
    place = bob.enrolments.get()
    assert place.left_at is None
    client.post(change, {"do": "remove", "which": str(bob.pk)})
    place.refresh_from_db()
    assert place.left_at is not None
    page = client.get(f"/p/alpha/campaigns/{campaign.pk}/people/").content.decode()
    assert "Let in: bob" in page
    client.post(change, {"do": "enrol", "which": str(bob.pk)})
    place.refresh_from_db()
    assert place.left_at is None


def test_a_stranger_cannot_be_enrolled(client_for, alice, charlie, campaign):
    change = f"/p/alpha/campaigns/{campaign.pk}/people/change/"
    page = client_for(alice).post(change, {"do": "enrol", "which": str(charlie.pk)}, follow=True)
    assert "is not a member of this project" in page.content.decode()
    assert not charlie.enrolments.exists()


def test_an_ordinary_invitation_is_none_to_a_campaign(client_for, alice, project, campaign):
    from plumbline.accounts import invitations

    _, token = invitations.create(project, "annotator", alice)
    assert client_for(alice).get(f"/campaign/{token}/").status_code == 404
