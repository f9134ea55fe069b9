"""Fifty requests at the same moment, through the pages: what may happen once happens once."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
from django.utils import timezone

from plumbline.accounts import invitations, keys
from plumbline.accounts.forms import KeyLimitsForm
from plumbline.accounts.models import ApiKey, Invitation, Membership, User
from plumbline.collect import enrolment
from plumbline.collect.models import Ballot
from plumbline.loop.models import Experiment, Retraction
from plumbline.policies.models import Deployment, Flip
from tests.collect.test_concurrency import at_once
from tests.security.tenants import browser_of, stranger
from tests.security.world import tenant

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 50
SECRET = "a long and unusual sentence"


@pytest.fixture
def alpha(shared_db):
    return tenant("alpha", lambda field: field)


def statuses(tasks):
    found = Counter(response.status_code for response in at_once(tasks))
    assert not any(status >= 500 for status in found), found
    return found


def posts(browser, path, count, **fields):
    def one(number):
        def send():
            given = {k: v(number) if callable(v) else v for k, v in fields.items()}
            return browser().post(path, given)

        return send

    return [one(number) for number in range(count)]


def test_an_invitation_lets_one_new_person_in(alpha):
    _, token = invitations.create(alpha.project, "annotator", alpha.people["admin"])
    before = Membership.objects.count()
    named = {"username": lambda n: f"eve-{n}", "password1": SECRET, "password2": SECRET}
    statuses(posts(stranger, f"/invitation/{token}/", 8, **named))
    assert Membership.objects.count() == before + 1
    assert User.objects.filter(username__startswith="eve-").count() == 1, "nobody is half in"


def test_a_campaigns_link_lets_one_person_in_of_fifty_who_are_signed_in(alpha):
    people = User.objects.bulk_create(User(username=f"eve-{n}") for n in range(MANY))
    campaign = alpha.project.campaigns.first()
    _, token = enrolment.invite(campaign, alpha.people["admin"])
    browsers = [browser_of(person) for person in people]
    statuses([lambda b=b: b().post(f"/campaign/{token}/") for b in browsers])
    assert Membership.objects.filter(user__username__startswith="eve-").count() == 1
    assert Invitation.objects.exclude(accepted_by=None).count() == 1


def test_a_revoked_key_stays_revoked_while_its_limits_are_saved(alpha):
    researcher = browser_of(alpha.people["researcher"])
    limits = posts(researcher, alpha.path("key"), MANY // 2, requests_per_minute=lambda n: n + 1)
    revokes = posts(researcher, alpha.path("key-revoke"), MANY // 2)
    statuses([one for pair in zip(limits, revokes, strict=True) for one in pair])
    assert ApiKey.objects.get().revoked_at is not None
    assert keys.verify(alpha.objects["secret"]) is None


def test_limits_that_were_read_before_a_revocation_do_not_undo_it(alpha, monkeypatch):
    """The same with the moment chosen: the key is revoked and rotated while the form is read."""
    before = ApiKey.objects.get()

    def meanwhile(form):
        ApiKey.objects.update(revoked_at=timezone.now(), digest="0" * 64)
        return whole(form)

    whole = KeyLimitsForm.clean
    monkeypatch.setattr(KeyLimitsForm, "clean", meanwhile)
    sent = {"requests_per_minute": 7}
    browser_of(alpha.people["researcher"])().post(alpha.path("key"), sent)
    after = ApiKey.objects.get()
    assert after.requests_per_minute == 7
    assert after.revoked_at is not None
    assert after.digest == "0" * 64 != before.digest


def test_a_retraction_is_undone_once(alpha):
    researcher = browser_of(alpha.people["researcher"])
    statuses(posts(researcher, alpha.path("retraction-undo"), MANY, reason="A slip."))
    one = Retraction.objects.get()
    assert one.undone_at is not None
    again = {"vote": alpha.objects["vote"], "reason": "Again."}
    statuses(posts(researcher, alpha.path("retractions"), MANY, **again))
    assert Retraction.objects.filter(undone_at=None).count() == 1


def test_a_vote_is_cast_once_however_often_it_is_sent(alpha):
    annotator = browser_of(alpha.people["annotator"])
    campaign = alpha.project.campaigns.get(pk=alpha.objects["campaign"])
    campaign.asks = ["compare"]
    campaign.save()
    vote = {"choice": lambda n: ("A2", "B3", "tie")[n % 3], "key": lambda n: str(UUID(int=n + 1))}
    statuses(posts(annotator, alpha.path("ballot"), MANY, **vote))
    cast = Ballot.objects.get(pk=alpha.objects["ballot"])
    assert cast.outcome == "ranked"
    same = Ballot.objects.filter(comparison=cast.comparison, annotator=cast.annotator)
    assert same.count() == 1


def test_fifty_launches_of_one_name_are_one_experiment_each_with_one_round(alpha):
    researcher = browser_of(alpha.people["researcher"])
    next_round = alpha.path("experiment-next")
    statuses(posts(researcher, next_round, MANY))
    experiment = Experiment.objects.get()
    assert experiment.rounds.filter(finished_at=None).count() <= 1
    numbers = list(experiment.rounds.values_list("number", flat=True))
    assert len(numbers) == len(set(numbers)) <= 2


def test_a_candidate_is_decided_once_by_fifty_who_reject_and_hold(alpha):
    researcher = browser_of(alpha.people["researcher"])
    rejects = posts(researcher, alpha.path("policy-reject"), MANY // 2, reason="Worse.")
    holds = posts(researcher, alpha.path("policy-hold"), MANY // 2, reason="Wait.", do="hold")
    statuses(rejects + holds)
    flips = Flip.objects.count()
    assert flips == 1, "no alias has moved"
    assert Deployment.objects.filter(alias="current").count() == 1
