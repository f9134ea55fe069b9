"""What changes a state leaves its entry, with who did it; what failed leaves none."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from plumbline.accounts import invitations, keys
from plumbline.accounts.models import ApiKey, Membership, User
from plumbline.audit import checking
from plumbline.audit.models import AuditEntry
from plumbline.audit.record import record
from plumbline.collect import enrolment
from plumbline.collect.quality import people
from plumbline.judges import endpoints
from plumbline.loop import decisions, retractions, rounds
from plumbline.loop.models import Stage
from plumbline.policies.models import Policy
from plumbline.transfer import uploads
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"


def last() -> tuple[str, str, str]:
    entry = AuditEntry.objects.order_by("-number")[0]
    return entry.who, entry.what, entry.object


def whats() -> list[str]:
    return list(AuditEntry.objects.order_by("number").values_list("what", flat=True))


@pytest.fixture(autouse=True)
def _whole(db):
    """Whatever a test did, the chain is whole at its end."""
    yield
    assert [str(fault) for fault in checking.faults()] == []


@pytest.fixture
def campaign(project):
    return open_campaign(project)


@pytest.fixture
def bela(project) -> User:
    return User.objects.create_user("bela", password=PASSWORD)


def test_signing_in_and_out(bela):
    client, me = Client(), f"user:{bela.pk}"
    client.post("/accounts/login/", {"login": "bela", "password": "another long password"})
    assert last() == ("nobody", "sign_in.failed", me)
    client.post("/accounts/login/", {"login": PASSWORD, "password": PASSWORD})
    assert last() == ("nobody", "sign_in.failed", "")
    client.post("/accounts/login/", {"login": "bela", "password": PASSWORD})
    assert last() == (me, "sign_in", me)
    client.post("/accounts/logout/")
    assert last() == (me, "sign_out", me)
    told = "".join(AuditEntry.objects.values_list("details", flat=True))
    assert PASSWORD not in told, "a name that was typed may be a password"


def test_changing_a_password(bela):
    client = Client()
    client.post("/accounts/login/", {"login": "bela", "password": PASSWORD})
    fresh = "another long password"
    said = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    client.post("/accounts/password/", said)
    assert last() == (f"user:{bela.pk}", "password.changed", f"user:{bela.pk}")


def test_members_come_change_and_go(project, dana, bela, client_for):
    page = client_for(dana).post("/p/alpha/members/invite/", {"role": "researcher"})
    assert last()[:2] == (f"user:{dana.pk}", "invitation.made")
    token = re.search(r"/invitation/([\w-]+)/", unescape(page.content.decode()))[1]
    assert token not in AuditEntry.objects.order_by("-number")[0].details
    client_for(bela).post(f"/invitation/{token}/")
    assert whats()[-2:] == ["invitation.used", "membership.made"]
    assert last() == (f"user:{bela.pk}", "membership.made", f"user:{bela.pk}")
    theirs = Membership.objects.get(user=bela)
    theirs.role = "admin"
    theirs.save()
    entry = AuditEntry.objects.order_by("-number")[0]
    assert (entry.what, entry.told, entry.project) == (
        "membership.changed",
        {"role": "admin"},
        project.pk,
    )
    theirs.delete()
    assert last()[1:] == ("membership.ended", f"user:{bela.pk}")


def test_a_used_invitation_leaves_no_second_entry(project, dana, bela):
    made, _ = invitations.create(project, "annotator", dana)
    invitations.accept(made, bela)
    before = whats()
    with pytest.raises(ValueError, match="already"):
        invitations.accept(made, User.objects.create_user("late"))
    assert whats() == before


def test_deleted_people_leave_their_entries_and_no_name(project, bela):
    Membership.objects.create(project=project, user=bela, role="annotator")
    pk = bela.pk
    bela.delete()
    assert whats()[-2:] == ["person.deleted", "membership.ended"]
    told = AuditEntry.objects.filter(object=f"user:{pk}")
    assert told.count() == 3
    assert "bela" not in str(list(told.values()))


def test_keys(project, alice, client_for):
    client, me = client_for(alice), f"user:{alice.pk}"
    client.post("/p/alpha/keys/new/", {"name": "app", "scopes": ["infer"]})
    key = ApiKey.objects.get()
    assert last() == (me, "key.created", f"apikey:{key.pk}")
    assert key.digest not in str(list(AuditEntry.objects.values()))
    client.post(f"/p/alpha/keys/{key.pk}/", {"requests_per_minute": "5"})
    assert last() == (me, "key.limited", f"apikey:{key.pk}")
    client.post(f"/p/alpha/keys/{key.pk}/rotate/", {"overlap": "1"})
    assert last() == (me, "key.rotated", f"apikey:{key.pk}")
    client.post(f"/p/alpha/keys/{key.pk}/revoke/")
    assert last() == (me, "key.revoked", f"apikey:{key.pk}")
    before = whats()
    client.post(f"/p/alpha/keys/{key.pk}/revoke/")
    with pytest.raises(ValueError, match="no longer in use"):
        keys.rotate(key, timedelta(hours=1))
    assert whats() == before


def test_rounds(project, alice):
    experiment = lab.experiment(project)
    begun = rounds.begin(experiment)
    assert last() == ("system", "round.begun", f"round:{begun.pk}")
    rounds.cancel(begun, alice)
    assert last() == (f"user:{alice.pk}", "round.cancelled", f"round:{begun.pk}")
    rounds.cancel(begun, alice)
    assert whats().count("round.cancelled") == 1


def test_trying_a_round_again(project):
    failed = rounds.begin(lab.experiment(project))
    type(failed).objects.filter(pk=failed.pk).update(stage=Stage.FAILED)
    failed.refresh_from_db()
    rounds.retry(failed)
    assert last()[1:] == ("round.retried", f"round:{failed.pk}")


def test_the_end_of_a_round(project):
    from plumbline.loop import advance

    begun = rounds.begin(lab.experiment(project))
    assert advance._leave(begun, Stage.FAILED, "It broke.")
    assert last() == ("system", "round.ended", f"round:{begun.pk}")


def test_pausing_an_experiment_and_stopping_a_job(project, alice, client_for):
    experiment, client = lab.experiment(project), client_for(alice)
    url = reverse("experiment-pause", args=["alpha", experiment.pk])
    client.post(url, {"state": "paused"})
    assert last()[:2] == (f"user:{alice.pk}", "experiment.switched")
    job = lab.train_job(lab.round_at(experiment, Stage.TRAIN), state="queued")
    client.post(reverse("job-cancel", args=["alpha", job.pk]))
    assert last() == (f"user:{alice.pk}", "job.cancelled", f"job:{job.pk}")


def test_holding_and_rejecting_a_policy(project, alice):
    made = lab.policy(project, "better", parent=lab.policy(project), state=Policy.State.CANDIDATE)
    decisions.hold(made, actor=alice, reason="Let us look first.")
    assert last() == (f"user:{alice.pk}", "policy.held", f"policy:{made.pk}")
    decisions.resume(made, actor=alice, reason="It is good.")
    assert last()[1] == "policy.let_go"
    decisions.reject(made, actor=alice, reason="It is not.")
    assert last() == (f"user:{alice.pk}", "policy.rejected", f"policy:{made.pk}")
    told = "".join(AuditEntry.objects.values_list("details", flat=True))
    assert "It is not" not in told, "what people wrote stays where it can be deleted"


def test_campaigns(project, alice, campaign, client_for):
    client, thing = client_for(alice), f"campaign:{campaign.pk}"
    for step, done in [
        ("pause", "paused"),
        ("resume", "resumed"),
        ("close", "closed"),
        ("reopen", "reopened"),
    ]:
        client.post(reverse("campaign-step", args=["alpha", campaign.pk]), {"do": step})
        assert last() == (f"user:{alice.pk}", f"campaign.{done}", thing)


def test_excluding_an_annotator(project, campaign, bob):
    people.exclude(campaign, bob, "Always the left one.")
    assert whats()[-2:] == ["annotator.paused", "annotator.excluded"]
    entry = AuditEntry.objects.order_by("-number")[0]
    assert (entry.object, entry.told) == (
        f"user:{bob.pk}",
        {"campaign": campaign.pk, "votes": 0},
    )
    people.include(campaign, bob)
    assert whats()[-2:] == ["annotator.resumed", "annotator.included"]
    with pytest.raises(ValueError, match="Say why"):
        people.exclude(campaign, bob, " ")
    assert whats()[-1] == "annotator.included"


def test_withdrawing_a_link(project, campaign, alice):
    invited, _ = enrolment.invite(campaign, alice)
    assert enrolment.withdraw(campaign, invited.invitation_id)
    assert whats()[-2:] == ["invitation.made", "invitation.withdrawn"]


def test_endpoints_of_judges(project):
    made = endpoints.add(
        project, "Big", "https://api.example/v1", "big-1", price_in=Decimal(1), price_out=Decimal(2)
    )
    assert last()[1:] == ("endpoint.added", f"endpoint:{made.pk}")
    endpoints.retire(made)
    endpoints.retire(made)
    assert whats().count("endpoint.retired") == 1


def test_retracting_votes(project, alice, campaign):
    ballot = lab.ballot(campaign.comparisons.first())
    made = retractions.retract_vote(ballot, actor=alice, reason="By mistake.")
    assert last() == (f"user:{alice.pk}", "votes.retracted", f"retraction:{made.pk}")
    retractions.undo(made, actor=alice, reason="It was right.")
    assert last()[1] == "votes.restored"


def test_imports_and_exports(project, alice, client_for, settings, tmp_path):
    settings.UPLOADS_DIR = tmp_path
    client = client_for(alice)
    row = b'{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\n'
    sent = {"chosen": [SimpleUploadedFile("pairs.jsonl", row)], "set_name": "P", "heldout": "0"}
    client.post("/p/alpha/data/import/", sent)
    assert last()[:2] == (f"user:{alice.pk}", "import.received")
    uploads.drop(project.uploads.get())
    assert last()[1] == "import.dropped"
    answer = client.get(reverse("export-download", args=["alpha"]), {"format": "votes"})
    assert answer.status_code == 200
    assert last()[:2] == (f"user:{alice.pk}", "export.downloaded")


def test_the_page_shows_an_admin_who_did_what(project, dana, alice, campaign, client_for):
    client_for(alice).post(reverse("campaign-step", args=["alpha", campaign.pk]), {"do": "pause"})
    keys.create(project, "app", ["infer"], dana)
    url = reverse("audit", args=["alpha"])
    page = unescape(client_for(dana).get(url).content.decode())
    assert "Campaign paused" in page
    assert "infer</span>" in page, "scopes in words, not as Python writes a list"
    row = '<th scope="row">'
    assert page.index(f"{row}Key created") < page.index(f"{row}Campaign paused"), "newest first"
    only = unescape(client_for(dana).get(url, {"who": f"user:{alice.pk}"}).content.decode())
    assert '<th scope="row">Campaign paused' in only
    assert '<th scope="row">Key created' not in only
    none = client_for(dana).get(url, {"what": "x' OR 1=1"}).content.decode()
    assert "Nothing of the kind" in none
    assert client_for(alice).get(url).status_code == 403


def test_the_page_calls_policies_by_their_names(project, dana, alice, client_for):
    made = lab.policy(project, "better", parent=lab.policy(project), state=Policy.State.CANDIDATE)
    decisions.reject(made, actor=alice, reason="Worse.")
    page = client_for(dana).get(reverse("audit", args=["alpha"])).content.decode()
    assert "better" in page
    assert str(made.pk) not in page


def test_the_page_shows_no_other_project(project, dana, charlie, client_for):
    keys.create(project, "app", ["infer"], dana)
    assert client_for(charlie).get(reverse("audit", args=["alpha"])).status_code == 404
    page = client_for(charlie).get(reverse("audit", args=["beta"])).content.decode()
    assert "Key created" not in page


def test_many_entries_come_in_pages(
    project, dana, alice, client_for, django_assert_max_num_queries
):

    for place in range(70):
        record("thing.made", alice, project=project, actor=alice, place=place)
    client = client_for(dana)
    with django_assert_max_num_queries(12):
        page = client.get(reverse("audit", args=["alpha"])).content.decode()
    assert page.count("Thing made</th>") == 50
    second = client.get(reverse("audit", args=["alpha"]), {"page": 2, "what": "thing.made"})
    assert second.content.decode().count("Thing made</th>") == 20
