"""A kept connection to PostgreSQL that has ended is noticed, and another one opened."""

from __future__ import annotations

import psycopg
import pytest
from django.core.signals import request_started
from django.db import connection

from plumbline.accounts.models import User

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


def test_what_the_server_has_closed_is_opened_anew_with_the_next_request(bob):
    connection.close()  # it may be old enough to be closed anyway
    connection.ensure_connection()
    before = connection.connection
    request_started.send(sender=None)
    assert User.objects.get() == bob
    assert connection.connection is before, "an idle connection is kept"
    known = connection.settings_dict
    with psycopg.connect(
        host=known["HOST"] or None, user="postgres", dbname=known["NAME"]
    ) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [before.info.backend_pid])
    request_started.send(sender=None)
    assert User.objects.get() == bob
    assert connection.connection is not before
