"""The health page tells admins in words how everything is, and what `verify` found last."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from plumbline.accounts.models import User
from plumbline.operations import signs
from plumbline.operations.models import Verification

pytestmark = pytest.mark.django_db
URL = "/p/alpha/health/"


@pytest.fixture(autouse=True)
def _no_redis(homes, settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"


def verified(findings=(), *, ago=timedelta(), quick=False) -> Verification:
    return Verification.objects.create(
        started_at=timezone.now() - ago,
        seconds=1.0,
        quick=quick,
        checked={"weights": 3, "votes": 9},
        findings=list(findings),
    )


FOUND = {"check": "weights", "about": "p", "sentence": "The policy p is away.", "remedy": "Look."}


def test_an_admin_reads_what_is_wrong_and_what_to_do(dana, client_for):
    page = client_for(dana).get(URL).content.decode()
    assert "Redis does not answer" in page
    assert "No loop runs" in page
    assert "manage.py runloop" in page
    assert "Never compared" in page
    signs.Watch().look()
    assert "No loop runs" not in client_for(dana).get(URL).content.decode()


def test_what_verify_found_last_is_there_with_its_age(dana, client_for):
    verified([FOUND])
    page = client_for(dana).get(URL).content.decode()
    assert "The policy p is away." in page
    assert "1 found" in page
    verified(quick=True)
    page = client_for(dana).get(URL).content.decode()
    assert "nothing found" in page
    assert "The policy p is away." not in page
    assert "With every byte read" in page
    Verification.objects.update(started_at=timezone.now() - timedelta(days=3))
    assert "long ago" in client_for(dana).get(URL).content.decode()


def test_other_projects_are_named_to_staff_alone(dana, charlie, client_for):
    verified([FOUND])
    page = client_for(dana).get(URL).content.decode()
    assert "The policy p is away." not in page
    assert "may name other projects" in page
    User.objects.filter(pk=dana.pk).update(is_staff=True)
    assert "The policy p is away." in client_for(dana).get(URL).content.decode()


def test_htmx_gets_the_part_that_changes(dana, client_for):
    part = client_for(dana).get(URL, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="section" id="health"')
    assert "<html" not in part


def test_engines_are_asked_in_a_part_of_their_own(dana, client_for, settings):
    settings.ENGINE_URL = "http://127.0.0.1:9"
    page = client_for(dana).get(URL + "engines/").content.decode()
    assert "1 of 1 engine gave no token" in page


def test_others_see_nothing(alice, bob, charlie, client_for):
    assert client_for(alice).get(URL).status_code == 403
    assert client_for(bob).get(URL).status_code == 403
    assert client_for(charlie).get(URL).status_code == 404


def test_the_cheap_answer_for_load_balancers_stays_cheap(client, db, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert client.get("/health/").json() == {"status": "ok"}
