"""The API against its own description: thousands of good and bad requests by every kind of key."""

from __future__ import annotations

import copy
import itertools
import json

import httpx
import pytest
import schemathesis
from django.conf import settings as site
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.core import NotSet
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from plumbline.accounts import keys
from plumbline.gateway import openapi, said, wire, wire_responses
from tests.security.test_gateway_access import NOWHERE, OPEN, ROUTES

load_all_checks()


def without_keys():
    """The description less its keys, which we give ourselves: bodies alone are spoiled."""
    described = copy.deepcopy(openapi.document(site.MAX_MODEL_LEN))
    for methods in described["paths"].values():
        for one in methods.values():
            del one["security"]
    del described["components"]
    return described


SCHEMA = schemathesis.openapi.from_dict(without_keys())
OPERATIONS = {f"{one.ok().method} {one.ok().path}": one.ok() for one in SCHEMA.get_all_operations()}
SCOPES = ([], ["infer"], ["feedback"], ["manage"], ["infer", "feedback", "manage"])
CHECKS = [status_code_conformance, response_schema_conformance, negative_data_rejection]
# What has a body is asked with good ones and with bad ones.
WAYS = [
    pytest.param(name, mode, id=f"{name} {mode.value}")
    for name, one in OPERATIONS.items()
    for mode in schemathesis.GenerationMode
    if one.body or mode is schemathesis.GenerationMode.POSITIVE
]
ORDINARY, NIGHTLY = 110, 4000  # examples of each operation and manner


def test_the_description_names_what_the_checks_know():
    longest = site.MAX_MODEL_LEN
    for described, checks in (
        (openapi.chat(longest), wire._chat_checks(longest)),
        (openapi.plain(longest), wire._completion_checks(longest)),
        (openapi.responses(longest), wire_responses._checks(longest)),
        (openapi.feedback(), said.FEEDBACK),
        (openapi.by_link(), said.SAID),
        (openapi.link(), said.LINK),
        (openapi.comparison(), said.COMPARISON),
        (openapi.forget(), {"end_user"}),
    ):
        assert set(described["properties"]) == set(checks)
        assert described["additionalProperties"] is False


def test_the_description_names_every_route_and_its_scope():
    described = {}
    for path, methods in openapi.document(512)["paths"].items():
        for method, one in methods.items():
            (scope,) = one["security"][0]["key"] if one["security"] else ["open"]
            described[method.upper(), path] = scope
    wanted = {
        route: scope
        for route, scope in ROUTES.items()
        if route[1].startswith("/v1/") and route[0] != "OPTIONS"
    }
    del wanted["GET", "/v1/openapi.json"]
    assert described == wanted


def test_the_description_is_served_to_everybody(start_gateway, project):
    answer = httpx.get(start_gateway(NOWHERE).url + "/v1/openapi.json", trust_env=False)
    assert answer.json() == openapi.document(site.MAX_MODEL_LEN)


@pytest.fixture
def callers(project, alice):
    """Headers of each kind of key, and of none."""
    made = [keys.create(project, "app", one, alice)[1] for one in SCOPES if one]
    return [({}, [])] + [
        ({"Authorization": f"Bearer {secret}"}, scopes)
        for secret, scopes in zip(made, SCOPES[1:], strict=True)
    ]


def written(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def fuzz(operation, mode, examples, url, callers):
    turns, asked = itertools.cycle(callers), 0
    wanted = ROUTES[operation.method.upper(), operation.path]
    scope = None if wanted == OPEN else wanted

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        nonlocal asked
        asked += 1
        headers, scopes = next(turns) if asked % 2 else callers[-1]
        # By a client of our own: the fuzzer's would take the key away where it spoils a request.
        body = {} if isinstance(case.body, NotSet) else {"content": written(case.body)}
        answer = client.request(case.method, case.formatted_path, headers=headers, **body)
        status = answer.status_code
        assert status < 500 or status == 503, (status, answer.text)
        if scope is not None and not headers:
            assert status == 401, f"a request without a key got {status}"
        elif scope is not None and scope not in scopes:
            assert status == 403, f"a key without the scope got {status}"
        elif status not in (404, 405):  # an odd path is another path
            checks = CHECKS if mode is schemathesis.GenerationMode.NEGATIVE else CHECKS[:2]
            case.validate_response(answer, checks=checks)

    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        run()
    return asked


@pytest.mark.sqlite
@pytest.mark.parametrize(("name", "mode"), WAYS)
@pytest.mark.django_db(transaction=True)
def test_no_request_breaks_the_api_or_gets_around_a_key(name, mode, start_gateway, callers):
    asked = fuzz(OPERATIONS[name], mode, ORDINARY, start_gateway(NOWHERE).url, callers)
    assert asked >= (ORDINARY if OPERATIONS[name].body else 1)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "mode"), [way for way in WAYS if OPERATIONS[way.values[0]].body])
@pytest.mark.django_db(transaction=True)
def test_thousands_of_requests_break_nothing(name, mode, start_gateway, callers):
    fuzz(OPERATIONS[name], mode, NIGHTLY, start_gateway(NOWHERE).url, callers)
