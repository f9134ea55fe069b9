"""Fixtures: two whole tenants, made once a file, and browsers of all who may come to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.test import Client
from django.test.client import ClientHandler

from tests.comparisons import shared_db  # noqa: F401  # a fixture, here too
from tests.gateway.conftest import start_gateway  # noqa: F401  # and this

if TYPE_CHECKING:
    from tests.security.world import Tenant

HANDLER = ClientHandler(enforce_csrf_checks=False)


def mark(slug: str) -> str:
    """In every text of a tenant, and in none of another's."""
    return f"{slug}zonly"


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[tuple[Tenant, Tenant]]:
    from tests.security.world import tenant

    with django_db_blocker.unblock(), transaction.atomic():
        yield (
            tenant("alpha", lambda field: f"{mark('alpha')} {field}"),
            tenant("beta", lambda field: f"{mark('beta')} {field}"),
        )
        transaction.set_rollback(True)


@pytest.fixture(scope="module")
def callers(world: tuple[Tenant, Tenant]) -> dict[str, Callable[[], Client]]:
    """Whoever may come to alpha's pages: `callers["admin"]()` is a browser as it was."""
    from plumbline.accounts.models import User
    from tests.security.world import ROLES

    alpha, beta = world
    root = User.objects.create_superuser(username="root")
    found = {role: browser_of(alpha.people[role]) for role in ROLES}
    bearer = {"Authorization": f"Bearer {alpha.objects['secret']}"}
    return {
        **found,
        "member of another project": browser_of(beta.people["admin"]),
        "superuser without a project": browser_of(root),
        "nobody": stranger,
        "API key": lambda **options: stranger(headers=bearer, **options),
    }


def stranger(**options: Any) -> Client:
    """A browser without a session. All share one handler, whose middleware takes long to load."""
    client = Client(raise_request_exception=False, **options)
    if client.handler.enforce_csrf_checks == HANDLER.enforce_csrf_checks:
        client.handler = HANDLER
    return client


def browser_of(user: Any) -> Callable[[], Client]:
    first = Client()
    first.force_login(user, backend="plumbline.accounts.backends.ByPassword")

    def browser(**options: Any) -> Client:
        client = stranger(**options)
        client.cookies["sessionid"] = first.cookies["sessionid"].value
        return client

    return browser


@pytest.fixture
def undone() -> Callable[[], Any]:
    """`with undone():` what is done within leaves no row."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)

    return block
