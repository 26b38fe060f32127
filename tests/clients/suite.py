"""Drives every public method of the published Python client against a running server.

The server has the shop's contracts and nothing in it; everything comes from events that are posted to it
here. One list of checks serves both clients: what the asynchronous one gives is awaited. Ends with status 1
and says which check failed, and whether a public method was never called.

    python suite.py sync|async     settings in the environment: see `Settings`
"""

import asyncio
import inspect
import json
import os
import shutil
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta

import httpx
from agentflow import AgentFlowClient, AsyncAgentFlowClient, CircuitOpenError
from agentflow.circuit_breaker import CircuitBreaker, CircuitState
from agentflow.exceptions import (
    AgentFlowError,
    AuthError,
    DataFreshnessError,
    EntityNotFoundError,
    PermissionDeniedError,
    RateLimitError,
)
from agentflow.retry import RetryPolicy


class Settings:
    """What the test that starts the server says."""

    url = os.environ["SUITE_URL"]
    key = os.environ["SUITE_KEY"]
    # A key that may read products only.
    narrow_key = os.environ["SUITE_NARROW_KEY"]
    # A key with two requests a minute; one for each kind of client.
    slow_key = os.environ["SUITE_SLOW_KEY"]
    # A key of another tenant.
    other_key = os.environ["SUITE_OTHER_KEY"]
    # A server that has no keys yet, where its keys have to be put, and a file with the keys above.
    locked_url = os.environ["SUITE_LOCKED_URL"]
    locked_keys = os.environ["SUITE_LOCKED_KEYS"]
    keys = os.environ["SUITE_KEYS"]


NOW = datetime.now(UTC).replace(microsecond=0)
ORDER = "ORD-20260404-1001"
QUICK = RetryPolicy(max_attempts=3, initial_delay_s=0.01, max_delay_s=0.05, jitter_factor=0)
# Retries would only hide what a check looks at.
ONCE = RetryPolicy(max_attempts=1)


def at(**ago):
    return (NOW - timedelta(**ago)).isoformat().replace("+00:00", "Z")


def order(event, number, status, total, kind="order.created", order_id=None, user="USR-10001", **ago):
    return {
        "event_id": event, "event_type": kind, "timestamp": at(**ago), "source": "suite",
        "order_id": order_id or f"ORD-20260404-{number}", "user_id": user, "status": status,
        "items": [{"product_id": "PROD-1", "quantity": 1, "unit_price": total}],
        "total_amount": total, "currency": "RUB", "schema_version": 2,
    }


def events():
    products = [
        {
            "event_id": f"product-{n}", "event_type": "product.updated", "timestamp": at(hours=3),
            "source": "suite", "product_id": f"PROD-{n}", "name": f"Lamp number {n}",
            "category": "lighting", "price": 100 + n, "currency": "RUB", "in_stock": n != 12,
            "stock_quantity": 5 * n,
        }
        for n in range(1, 13)
    ]
    clicks = [
        {
            "event_id": f"click-{n}", "event_type": kind, "timestamp": at(minutes=10 - n),
            "source": "suite", "session_id": "SES-1", "user_id": "USR-10001", "page_url": page,
            "user_agent": "suite", "product_id": product,
        }
        for n, (kind, page, product) in enumerate(
            [
                ("page_view", "/", None),
                ("click", "/products/PROD-1", "PROD-1"),
                ("add_to_cart", "/cart", "PROD-1"),
                ("click", "/checkout", None),
            ]
        )
    ]
    orders = [
        order("order-1", 1001, "pending", 149.00, minutes=50),
        order("order-2", 1001, "confirmed", 149.00, kind="order.updated", minutes=40),
        order("order-3", 1002, "pending", 51.00, minutes=30),
        order("order-4", 1003, "pending", 20.00, minutes=20, user="USR-10002"),
        order("order-5", 1003, "cancelled", 20.00, kind="order.cancelled", minutes=15, user="USR-10002"),
    ]
    # Nothing reads these; they keep the share of what is refused small enough for good health.
    payments = [
        {
            "event_id": f"payment-{n}", "event_type": "payment.completed", "timestamp": at(minutes=5),
            "source": "suite", "payment_id": f"PAY-{n}", "order_id": ORDER, "amount": 10.00,
            "currency": "RUB", "method": "card", "status": "completed", "user_id": "USR-10001",
        }
        for n in range(300)
    ]
    return [products, clicks + orders, payments]


def post(batch, key=Settings.key):
    answer = httpx.post(f"{Settings.url}/v1/events", json=batch, headers={"X-API-Key": key}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def raw(method, path, **more):
    headers = {"X-API-Key": Settings.key, **more.pop("headers", {})}
    return httpx.request(method, Settings.url + path, headers=headers, timeout=30, **more)


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


async def value(result):
    return await result if inspect.isawaitable(result) else result


async def pages(result):
    """The pages of `paginate`, which is an iterator of one kind or the other."""
    if hasattr(result, "__aiter__"):
        return [page async for page in result]
    return list(result)


async def raises(kind, function, *positional, **named):
    """The error that a call raises, at once or when it is awaited."""
    try:
        await value(function(*positional, **named))
    except kind as error:
        assert type(error) is kind, f"{type(error).__name__} is not {kind.__name__}: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


class Clients:
    """Makes clients of one kind and notes which of their methods are called."""

    def __init__(self, kind):
        self.kind = {"sync": AgentFlowClient, "async": AsyncAgentFlowClient}[kind]
        self.is_async = kind == "async"
        self.called = set()

    def make(self, key=Settings.key, url=Settings.url, **more):
        more.setdefault("retry_policy", ONCE)
        return Noting(self.kind(url, key, **more), self.called)

    def public(self):
        return {name for name in dir(self.kind) if not name.startswith("_")}


class Noting:
    def __init__(self, client, called):
        self._client, self._called = client, called

    def __getattr__(self, name):
        self._called.add(name)
        return getattr(self._client, name)


# -- entities


@check
async def an_order_is_read(clients):
    client = clients.make()
    envelope = await value(client.get_entity("order", ORDER))
    assert (envelope.entity_type, envelope.entity_id) == ("order", ORDER)
    assert envelope.data["status"] == "confirmed" and envelope.data["total_amount"] == 149.0
    assert envelope.last_updated is not None and envelope.freshness_seconds >= 0
    assert envelope.meta.is_historical is False and envelope.meta.as_of is None
    found = await value(client.get_order(ORDER))
    assert (found.order_id, found.user_id, found.status) == (ORDER, "USR-10001", "confirmed")
    # An update does not move the time of creation.
    assert found.created_at == NOW - timedelta(minutes=50) and not found.is_overdue


@check
async def an_order_is_read_as_it_was(clients):
    client = clients.make()
    for then in (NOW - timedelta(minutes=45), at(minutes=45)):
        found = await value(client.get_order(ORDER, as_of=then))
        assert found.status == "pending"
    envelope = await value(client.get_entity("order", ORDER, as_of=NOW - timedelta(minutes=45)))
    assert envelope.meta.is_historical and envelope.meta.as_of == at(minutes=45)
    assert envelope.meta.freshness_seconds is None
    error = await raises(EntityNotFoundError, client.get_order, ORDER, as_of=NOW - timedelta(hours=2))
    assert error.entity_id == ORDER
    await raises(AgentFlowError, client.get_order, ORDER, as_of=NOW + timedelta(days=1))


@check
async def a_user_is_made_of_orders(clients):
    user = await value(clients.make().get_user("USR-10001"))
    assert (user.total_orders, user.total_spent) == (2, 200.0)
    assert user.first_order_at == NOW - timedelta(minutes=50)
    assert user.last_order_at == NOW - timedelta(minutes=30)
    assert user.preferred_category == "lighting"


@check
async def a_product_is_read_now_and_as_it_was(clients):
    client = clients.make()
    product = await value(client.get_product("PROD-3"))
    assert (product.name, product.category, product.price) == ("Lamp number 3", "lighting", 103.0)
    assert (product.in_stock, product.stock_quantity) == (True, 15)
    then = await value(client.get_product("PROD-3", as_of=NOW - timedelta(hours=1)))
    assert then == product


@check
async def a_session_is_made_of_clicks(clients):
    session = await value(clients.make().get_session("SES-1"))
    assert (session.session_id, session.user_id) == ("SES-1", "USR-10001")
    assert (session.event_count, session.unique_pages) == (4, 4)
    assert (session.funnel_stage, session.is_conversion) == ("checkout", True)
    assert session.duration_seconds == 180.0 and session.ended_at is None


# -- metrics


@check
async def metrics_are_read(clients):
    client = clients.make()
    revenue = await value(client.get_metric("revenue"))
    assert (revenue.metric_name, revenue.value, revenue.unit, revenue.window) == ("revenue", 200.0, "RUB", "1h")
    assert revenue.meta.is_historical is False and revenue.meta.freshness_seconds >= 0
    assert revenue.computed_at.tzinfo is not None
    for name, window, expected in [
        ("order_count", "1h", 2.0), ("order_count", "5m", 0.0), ("avg_order_value", "24h", 100.0),
        ("conversion_rate", "1h", 1.0), ("active_sessions", "now", 1.0),
    ]:
        found = await value(client.get_metric(name, window))
        assert found.value == expected, f"{name} over {window}: {found.value}"
    assert 0 < (await value(client.get_metric("error_rate", "24h"))).value < 1
    then = await value(client.get_metric("revenue", "1h", as_of=NOW - timedelta(minutes=35)))
    assert then.value == 149.0 and then.meta.is_historical


@check
async def a_question_to_a_metric_that_does_not_fit_is_an_error(clients):
    client = clients.make()
    # Its only window is `now`.
    await raises(AgentFlowError, client.get_metric, "active_sessions")
    await raises(AgentFlowError, client.get_metric, "revenues")


# -- query


@check
async def questions_are_answered(clients):
    client = clients.make()
    result = await value(client.query("What is the revenue in the last hour?"))
    assert isinstance(result.answer, list) and result.sql
    assert any(number == 200.0 for row in result.answer for number in row.values()), result.answer
    assert result.metadata["has_more"] is False and "execution_time_ms" in result.metadata
    limited = await value(client.query("Show me top 10 products", limit=4))
    assert len(limited.answer) == 4 and limited.metadata["has_more"]
    cursor = limited.metadata["next_cursor"]
    rest = await value(client.query("Show me top 10 products", limit=4, cursor=cursor))
    assert len(rest.answer) == 4 and rest.answer[0] not in limited.answer
    await raises(AgentFlowError, client.query, "xyzzy plugh")
    await raises(AgentFlowError, client.query, "Show me top 10 products", cursor="nonsense")


@check
async def pages_follow_each_other(clients):
    client = clients.make()
    found = await pages(client.paginate("Show me top 10 products", page_size=5))
    assert [len(page) for page in found] == [5, 5]
    rows = [json.dumps(row, sort_keys=True) for page in found for row in page]
    assert len(set(rows)) == 10


@check
async def a_question_is_explained(clients):
    client = clients.make()
    plan = await value(client.explain_query("Show me top 5 products", contract_version="product:v1"))
    assert plan.question and plan.sql and plan.engine
    assert any("product" in table for table in plan.tables_accessed), plan.tables_accessed


@check
async def a_query_that_is_sent_again_is_answered_once(clients):
    client = clients.make()
    key = f"suite-query-{time.time_ns()}-{clients.is_async}"
    first = await value(client.query("What is the revenue in the last hour?", idempotency_key=key))
    second = await value(client.query("What is the revenue in the last hour?", idempotency_key=key))
    assert first.answer == second.answer


# -- search, catalog, contracts


@check
async def search_finds_rows_fields_and_metrics(clients):
    client = clients.make()
    found = await value(client.search("lamp number 7"))
    best = found.results[0]
    assert found.query == "lamp number 7"
    assert (best.type, best.entity_type, best.id) == ("entity", "product", "PROD-7")
    assert best.score == 1.0 and "Lamp number 7" in best.snippet
    assert raw("GET", best.endpoint).json()["entity_id"] == "PROD-7"
    metric = (await value(client.search("revenue in roubles"))).results[0]
    assert (metric.type, metric.id, metric.entity_type) == ("metric", "revenue", None)
    assert len((await value(client.search("lamp", limit=3))).results) == 3
    typed = await value(client.search("confirmed lighting", entity_types=["order", "user"]))
    assert typed.results and {result.entity_type for result in typed.results} <= {"order", "user"}
    await raises(AgentFlowError, client.search, "x")


@check
async def the_catalog_tells_what_there_is(clients):
    catalog = await value(clients.make().catalog())
    assert {"order", "user", "product", "session"} <= set(catalog.entities)
    entity = catalog.entities["order"]
    assert entity.primary_key == "order_id" and entity.contract_version == "2" and "status" in entity.fields
    metric = catalog.metrics["revenue"]
    assert metric.available_windows == ["5m", "15m", "1h", "6h", "24h"]
    assert metric.source_events == ["order.created", "order.updated", "order.cancelled"]
    assert catalog.audit_sources["lineage"].layers
    stream = catalog.streaming_sources["events"]
    assert (stream.path, stream.transport) == ("/v1/stream/events", "sse") and stream.description


@check
async def contracts_are_listed_and_read(clients):
    client = clients.make()
    listed = await value(client.list_contracts())
    names = [(contract.entity, contract.version, contract.status) for contract in listed]
    assert ("order", "1", "deprecated") in names and ("metric.revenue", "1", "stable") in names
    newest = await value(client.get_contract("order"))
    assert (newest.version, newest.status) == ("2", "stable")
    fields = {field.name: field for field in newest.fields}
    assert fields["status"].values == ["pending", "confirmed", "shipped", "delivered", "cancelled"]
    assert fields["order_id"].required and fields["total_amount"].type == "float"
    for version in ("1", "v1"):
        old = await value(client.get_contract("order", version))
        assert (old.version, old.status, old.released) == ("1", "deprecated", "2026-01-01")
    metric = await value(client.get_contract("metric.revenue"))
    assert {"value", "unit", "window", "computed_at"} <= {field.name for field in metric.fields}
    await raises(AgentFlowError, client.get_contract, "order", "9")
    await raises(AgentFlowError, client.get_contract, "orders")


@check
async def contracts_are_compared(clients):
    client = clients.make()
    diff = await value(client.diff_contracts("order", "1", "2"))
    assert (diff.entity, diff.from_version, diff.to_version) == ("order", "1", "2")
    assert diff.breaking_changes == [] or all("type" in change for change in diff.breaking_changes)
    assert {"type": "field_added", "field": "city"}.items() <= diff.additive_changes[0].items()
    back = await value(client.diff_contracts("order", "v2", "v1"))
    assert "field_removed" in {change["type"] for change in back.breaking_changes}
    await raises(AgentFlowError, client.diff_contracts, "order", "1", "9")


@check
async def a_contract_that_may_come_is_judged(clients):
    client = clients.make()
    newest = await value(client.get_contract("order"))
    fields = [field.model_dump(exclude_none=True) for field in newest.fields]
    candidate = {"entity": "order", "version": "2", "fields": fields}
    same = await value(client.validate_contract("order", candidate))
    assert not same.is_breaking and not same.breaking_changes and not same.requires_version_bump
    assert (same.base_version, same.candidate_version) == ("2", "2")
    candidate["fields"] = [field for field in fields if field["name"] != "status"]
    broken = await value(client.validate_contract("order", candidate, idempotency_key="suite-validate"))
    assert broken.is_breaking and broken.requires_version_bump
    assert broken.breaking_changes[0]["type"] == "field_removed"
    await raises(AgentFlowError, client.validate_contract, "order", {"entity": "user", "fields": []})


@check
async def the_way_of_an_order_is_told(clients):
    client = clients.make()
    lineage = await value(client.get_lineage("order", ORDER))
    assert (lineage.entity_type, lineage.entity_id) == ("order", ORDER)
    assert lineage.validated and lineage.freshness_seconds >= 0
    assert len(lineage.lineage) >= 3
    assert all(node.layer and node.system and node.table_or_topic for node in lineage.lineage)
    await raises(AgentFlowError, client.get_lineage, "order", "ORD-20260404-9999")


@check
async def the_changelog_is_read(clients):
    changelog = await value(clients.make().get_changelog())
    dates = [version.date for version in changelog.versions]
    assert dates == sorted(dates) and {"2026-01-01", "2026-04-11"} <= set(dates)
    assert changelog.latest_version == dates[-1] and all(v.changes for v in changelog.versions)


# -- health


@check
async def health_and_freshness_are_told(clients):
    client = clients.make()
    fresh = order(f"fresh-{time.time_ns()}", 2000, "pending", 1.00, user="USR-20000")
    fresh["timestamp"] = datetime.now(UTC).isoformat()
    post([fresh], Settings.other_key)
    health = await value(client.health())
    assert health.status == "healthy", [c for c in health.components if c.status != "healthy"]
    assert {"serving", "freshness", "quality"} <= {component.name for component in health.components}
    assert health.freshness_seconds is not None
    assert await value(client.is_fresh()) is True
    assert await value(client.is_fresh(max_age_seconds=-1)) is False


# -- batch


@check
async def a_batch_is_answered_in_its_order(clients):
    client = clients.make()
    requests = [
        client.batch_entity("order", ORDER, request_id="one"),
        client.batch_metric("revenue", "1h", request_id="two"),
        client.batch_entity("product", "PROD-2", request_id="three"),
        client.batch_entity("order", "ORD-20260404-9999"),
        client.batch_metric("revenue", "2h"),
    ]
    answer = await value(client.batch(requests))
    results = answer["results"]
    assert [result["id"] for result in results[:3]] == ["one", "two", "three"]
    assert [result["status"] for result in results] == ["ok", "ok", "ok", "error", "error"]
    assert results[0]["data"]["status"] == "confirmed"
    assert results[1]["data"]["value"] == 200.0 and results[1]["data"]["unit"] == "RUB"
    assert results[2]["data"]["stock_quantity"] == 10
    assert all(result["error"] for result in results[3:]) and answer["duration_ms"] >= 0
    key = f"suite-batch-{time.time_ns()}"
    again = await value(client.batch(requests[:1], idempotency_key=key))
    assert again["results"][0]["status"] == "ok"
    await raises(AgentFlowError, client.batch, [client.batch_entity("order", ORDER)] * 21)


@check
async def a_batch_answers_questions(clients):
    client = clients.make()
    request = client.batch_query("Show me top 3 products", context={"any": 1}, request_id="q")
    result = (await value(client.batch([request])))["results"][0]
    assert (result["id"], result["status"]) == ("q", "ok"), result
    assert len(result["data"]["answer"]) == 3 and result["data"]["sql"]


# -- versions


@check
async def a_pinned_api_version_is_kept(clients):
    client = clients.make(api_version="2026-01-01")
    envelope = await value(client.get_entity("order", ORDER))
    assert envelope.data["status"] == "confirmed"
    assert (client.last_server_version, client.last_deprecated) == ("2026-01-01", "true")
    assert client.last_latest_version and client.last_latest_version > "2026-04-11"
    assert "2026-01-01" in client.last_deprecation_warning
    body = raw("GET", f"/v1/entity/order/{ORDER}", headers={"X-AgentFlow-Version": "2026-01-01"}).json()
    assert "is_historical" not in body["meta"]

    newest = clients.make()
    await value(newest.get_metric("revenue"))
    assert newest.last_server_version == newest.last_latest_version == client.last_latest_version
    assert newest.last_deprecated == "false" and newest.last_deprecation_warning is None
    await raises(AgentFlowError, clients.make(api_version="2020-01-01").catalog)


@check
async def a_pinned_contract_version_is_kept(clients):
    old = await value(clients.make(contract_version="order:v1").get_entity("order", ORDER))
    new = await value(clients.make(contract_version="order:2").get_entity("order", ORDER))
    assert set(old.data) == {"order_id", "user_id", "status", "total_amount", "currency", "created_at"}
    assert set(old.data) < set(new.data)
    assert (await value(clients.make(contract_version="order:v1").get_order(ORDER))).status == "confirmed"
    await raises(AgentFlowError, clients.make(contract_version="order:v9").get_entity, "order", ORDER)


# -- errors, limits, tenants


@check
async def errors_have_their_classes(clients):
    await raises(AuthError, clients.make(key="wrong").get_order, ORDER)
    error = await raises(PermissionDeniedError, clients.make(key=Settings.narrow_key).get_order, ORDER)
    assert "order" in str(error)
    await raises(PermissionDeniedError, clients.make(key=Settings.narrow_key).get_metric, "revenue")
    assert (await value(clients.make(key=Settings.narrow_key).get_product("PROD-1"))).stock_quantity == 5
    found = await value(clients.make(key=Settings.narrow_key).search("lamp confirmed"))
    assert {result.entity_type for result in found.results} == {"product"}
    error = await raises(EntityNotFoundError, clients.make().get_order, "ORD-20260404-9999")
    assert (error.entity_type, error.entity_id) == ("order", "ORD-20260404-9999")
    await raises(EntityNotFoundError, clients.make().get_entity, "ordr", ORDER)


@check
async def another_tenant_sees_nothing_of_it(clients):
    client = clients.make(key=Settings.other_key)
    await raises(EntityNotFoundError, client.get_order, ORDER)
    assert (await value(client.get_metric("conversion_rate"))).value == 0.0
    assert all("PROD" not in result.id for result in (await value(client.search("lamp"))).results)


@check
async def too_many_requests_are_told_apart_and_tried_again(clients):
    client = clients.make(key=Settings.slow_key)
    for _ in range(2):
        await value(client.get_product("PROD-1"))
    error = await raises(RateLimitError, client.get_product, "PROD-1")
    assert isinstance(error.retry_after, int) and 0 < error.retry_after <= 60
    # It waits as long as its policy allows, not as long as the server says.
    assert client.configure_resilience(retry_policy=QUICK) is not None
    before = refused(client)
    await raises(RateLimitError, client.get_product, "PROD-1")
    assert refused(client) - before == QUICK.max_attempts


def refused(_):
    """How many requests the server has answered with 429."""
    text = raw("GET", "/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("agentflow_http_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'status="429"' in line)


@check
async def a_server_that_is_not_ready_is_waited_for(clients):
    keys = Settings.locked_keys
    if os.path.exists(keys):
        os.remove(keys)
    await until(lambda: httpx.get(f"{Settings.locked_url}/v1/catalog", headers={"X-API-Key": Settings.key}).status_code == 503)
    # Without patience the breaker opens, and nothing is sent any more.
    breaker = CircuitBreaker(failure_threshold=2, reset_timeout_s=0.2)
    client = clients.make(url=Settings.locked_url, circuit_breaker=breaker)
    for _ in range(2):
        await raises(AgentFlowError, client.catalog)
    assert breaker.state == CircuitState.OPEN
    await raises(CircuitOpenError, client.catalog)

    # With patience the answer comes as soon as the server has its keys.
    threading.Timer(0.5, shutil.copy, [Settings.keys, keys]).start()
    patient = RetryPolicy(max_attempts=100, initial_delay_s=0.1, max_delay_s=0.1, jitter_factor=0)
    other = clients.make(url=Settings.locked_url).configure_resilience(retry_policy=patient)
    assert "order" in (await value(other.catalog())).entities
    await asyncio.sleep(0.25)
    assert "order" in (await value(client.catalog())).entities
    assert breaker.state == CircuitState.CLOSED
    # Nothing has come there yet.
    await raises(DataFreshnessError, client.is_fresh)


@check
async def a_server_that_is_not_there_is_an_error(clients):
    client = clients.make(url="http://127.0.0.1:9", retry_policy=QUICK, timeout=1.0)
    error = await raises(AgentFlowError, client.health)
    assert "Request failed" in str(error)


async def until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.05)


async def main(kind):
    clients = Clients(kind)
    for batch in events():
        answer = post(batch)
        assert answer["rejected"] == 0, answer
    # One that is refused: the share of errors is not nought.
    assert post([{**order("bad", 1001, "pending", 149.00, minutes=1), "total_amount": 1}])["rejected"] == 1
    failed = []
    for one in CHECKS:
        try:
            await one(clients)
            print(f"ok      {one.__name__}", flush=True)
        except BaseException:  # noqa: BLE001 - a check that fails must not hide the others
            failed.append(one.__name__)
            print(f"FAILED  {one.__name__}\n{traceback.format_exc()}", flush=True)
    never = clients.public() - clients.called
    if never:
        failed.append(f"methods that no check calls: {', '.join(sorted(never))}")
    print(f"{kind}: {len(CHECKS)} checks, {len(failed)} failed; {len(clients.called)} members called")
    for name in failed:
        print(f"failed: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
