"""Usage: counted with the exchanges, shown by key, policy and day, with what it cost."""

from __future__ import annotations

import csv
import io
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.gateway import usage
from plumbline.gateway.models import Exchange, Usage
from plumbline.policies import serving

TODAY = datetime.now(UTC).date()


@pytest.fixture
def key(project: Any, alice: Any) -> Any:
    return keys.create(project, "app", ["infer"], alice)[0]


@pytest.fixture
def exchange(project: Any, key: Any) -> Any:
    """`exchange(name)`: one that has ended, not yet written."""
    policy = serving.base_policy(project)

    def make(name: str, **changes: Any) -> Exchange:
        fields = {
            "project_id": project.pk,
            "api_key_id": key.pk,
            "policy_id": policy.pk,
            "status": 200,
            "latency_ms": 100,
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "created_at": timezone.now(),
        }
        return Exchange(completion_id=name, asked_for="current", **{**fields, **changes})

    return make


def total() -> tuple[int, int, int, int]:
    rows = Usage.objects.values_list(*usage.COUNTS)
    return tuple(map(sum, zip(*rows, strict=True)))


def test_usage_agrees_with_the_exchanges_it_counts(exchange: Any) -> None:
    usage.count([exchange("a"), exchange("b", status=502, completion_tokens=None)])
    usage.count([exchange("c", latency_ms=5000)])
    assert total() == (3, 1, 30, 40)
    assert Usage.objects.count() == 2  # by latency


@pytest.mark.django_db(transaction=True)
def test_gateways_that_count_at_once_lose_nothing(exchange: Any) -> None:
    batches = [[exchange(f"{i}-{j}", latency_ms=j) for j in range(8)] for i in range(8)]

    def write(batch: list[Exchange]) -> None:
        usage.count(batch)
        connections.close_all()

    threads = [threading.Thread(target=write, args=[batch]) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total() == (64, 0, 640, 1280)


def test_percentiles_are_within_five_percent() -> None:
    draw = random.Random(1)
    latencies = sorted(round(draw.lognormvariate(6, 1)) + 20 for _ in range(5000))
    figures = usage.Figures()
    for one in latencies:
        figures.add(usage.bucket(one), (1, 0, 0, 0))
    assert figures.p50 == pytest.approx(latencies[2500], rel=0.05)
    assert figures.p95 == pytest.approx(latencies[4750], rel=0.05)


def test_a_keys_spending_is_that_of_its_days(exchange: Any, key: Any) -> None:
    usage.count([exchange("a"), exchange("b", created_at=timezone.now() - timedelta(days=3))])
    assert usage.spent(key, TODAY) == 30
    assert usage.spent(key, TODAY - timedelta(days=3)) == 60


def test_the_page_shows_keys_policies_and_days(exchange: Any, alice: Any, client_for: Any) -> None:
    usage.count([exchange("a"), exchange("b", created_at=timezone.now() - timedelta(days=3))])
    page = client_for(alice).get("/p/alpha/usage/").content.decode()
    for said in ("app", "alpha-base", ">2<", f"{TODAY:%Y}", "103 ms"):
        assert said in page
    week_ago = client_for(alice).get("/p/alpha/usage/?days=7&key=999999").content.decode()
    assert "No requests in these days" in week_ago


def test_cost_shows_once_an_admin_has_set_both_prices(
    exchange: Any, alice: Any, dana: Any, client_for: Any
) -> None:
    usage.count([exchange(str(i), prompt_tokens=10**6, completion_tokens=10**5) for i in range(3)])
    researcher, admin = client_for(alice), client_for(dana)
    assert "USD" not in researcher.get("/p/alpha/usage/").content.decode()
    wanted = {"price_in": "0.5", "price_out": "2", "currency": "eur"}
    assert researcher.post("/p/alpha/usage/prices/", wanted).status_code == 403
    half = admin.post("/p/alpha/usage/prices/", {**wanted, "price_out": ""})
    assert (half.status_code, b"Give both prices" in half.content) == (422, True)
    assert admin.post("/p/alpha/usage/prices/", wanted).status_code == 302
    page = researcher.get("/p/alpha/usage/").content.decode()
    assert "EUR" in page
    assert ">2.10<" in page  # 3 x (0.5 + 0.2)


def test_the_download_has_a_line_for_each_day_key_and_policy(
    exchange: Any, key: Any, alice: Any, client_for: Any
) -> None:
    key.name = "=1+1"
    key.save()
    before = timezone.now() - timedelta(days=1)
    usage.count([exchange("a"), exchange("b", latency_ms=900), exchange("c", created_at=before)])
    answer = client_for(alice).get("/p/alpha/usage/usage.csv")
    lines = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [line["requests"] for line in lines] == ["1", "2"]
    assert lines[1]["tokens_out"] == "40"
    assert lines[1]["key"] == "'=1+1"  # no formula
    assert "attachment" in answer["Content-Disposition"]


def test_the_charts_have_a_point_for_every_day(exchange: Any, alice: Any, client_for: Any) -> None:
    usage.count([exchange("a")])
    drawn = client_for(alice).get("/p/alpha/usage/charts/?days=7").json()["charts"]
    assert [chart["key"] for chart in drawn] == ["requests", "tokens", "latency"]
    assert drawn[0]["series"][0]["mean"] == [0] * 6 + [1]
    assert drawn[2]["series"][0]["mean"] == [None] * 6 + [103]


def test_another_projects_usage_is_not_shown(exchange: Any, charlie: Any, client_for: Any) -> None:
    usage.count([exchange("a")])
    assert b"No requests" in client_for(charlie).get("/p/beta/usage/").content


def test_the_page_never_reads_the_exchanges(exchange: Any, alice: Any, client_for: Any) -> None:
    Exchange.objects.bulk_create([exchange("a")])
    usage.count([exchange("a")])
    client = client_for(alice)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        client.get("/p/alpha/usage/")
        client.get("/p/alpha/usage/usage.csv")
    assert not [one for one in asked if "gateway_exchange" in one["sql"]]
