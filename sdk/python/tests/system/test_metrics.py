"""`GET /metrics`, as Prometheus sees it: exact counts, what waits, and few labels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from platform_process import PlatformProcess
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text
from running import (
    AT_ONCE,
    Raw,
    Seen,
    config_of,
    context_of,
    eventually,
    path_of,
    platform_in,
    unique,
)

from soorma import Agent, HandlerContext, PlatformContext, Reject, Retry, RetryPolicy, WorkflowState

Series: TypeAlias = dict[tuple[str, tuple[tuple[str, str], ...]], float]
ROUTE = "/v1/memory/working/{plan_id}/{key}"


class Scraped:
    """All series of a scrape; the difference of two scrapes is what was counted between them."""

    def __init__(self, series: Series) -> None:
        self.series = series

    def value(self, name: str, **labels: str) -> float:
        """The value of a series, 0 if there is none."""
        return self.series.get((name, tuple(sorted(labels.items()))), 0)

    def labels_of(self, name: str, label: str) -> set[str]:
        """The values that a label of a metric has."""
        return {dict(labels)[label] for found, labels in self.series if found == name}


class Scraper:
    """A scraper of a service, which returns the changes since its first scrape."""

    def __init__(self, url: str) -> None:
        self._raw = Raw(url)
        self._before = self.now()

    def now(self) -> Scraped:
        """A scrape."""
        answer = self._raw("GET", "/metrics")
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"].startswith("text/plain; version=")
        families = of_text(answer.body.decode())
        samples = [sample for family in families for sample in family.samples]
        series = {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples}
        assert len(series) == len(samples), "a series is there twice"
        return Scraped(series)

    def grown(self, name: str, **labels: str) -> float:
        """The growth of a counter since this scraper was made."""
        return self.all_grown(name, **labels)[0]

    def all_grown(self, *names: str, **labels: str) -> list[float]:
        """The same for several counters at one moment: the platform goes on between two scrapes."""
        now = self.now()
        return [now.value(name, **labels) - self._before.value(name, **labels) for name in names]


@pytest.fixture
def scraper(running: PlatformProcess) -> Scraper:
    return Scraper(running.memory_url)


@pytest.fixture
def raw(running: PlatformProcess) -> Raw:
    return Raw(running.memory_url, unique("tenant"), unique("user"))


# HTTP


@pytest.mark.behaviour("metrics.counted")
def test_requests_are_counted_by_route_and_class_of_status(scraper: Scraper, raw: Raw) -> None:
    for plan in ("a", "b", "c"):
        assert raw("PUT", path_of(plan, "k"), {"value": plan}).status == 200
    assert raw("GET", path_of("a", "k")).status == 200
    for key in ("none", "no/ne"):
        assert raw("GET", path_of("a", key)).status == 404
    assert raw("PUT", path_of("a", "k"), {"other": 1}).status == 422

    def count(method: str, status: str) -> float:
        return scraper.grown(
            "soorma_http_requests_total",
            service="memory",
            method=method,
            route=ROUTE,
            status=status,
        )

    assert (count("PUT", "2xx"), count("GET", "2xx"), count("GET", "4xx"), count("PUT", "4xx")) == (
        3,
        1,
        2,
        1,
    )
    assert (
        scraper.grown(
            "soorma_http_requests_total", service="events", method="GET", route=ROUTE, status="2xx"
        )
        == 0
    )


@pytest.mark.behaviour("metrics.counted")
def test_how_long_answers_took(scraper: Scraper, raw: Raw) -> None:
    for n in range(20):
        raw("PUT", path_of("p", f"k{n}"), {"value": n})
    labels = {"service": "memory", "method": "PUT", "route": ROUTE}
    name = "soorma_http_request_duration_seconds"
    assert scraper.grown(f"{name}_count", **labels) == 20
    assert 0 < scraper.grown(f"{name}_sum", **labels) < 20
    found = scraper.now()
    bounds = sorted(found.labels_of(f"{name}_bucket", "le"), key=float)
    counts = [found.value(f"{name}_bucket", le=bound, **labels) for bound in bounds]
    assert counts == sorted(counts)
    assert counts[-1] == found.value(f"{name}_count", **labels)


@pytest.mark.behaviour("metrics.every-service")
def test_a_service_tells_of_its_process_whichever_is_asked(
    running: PlatformProcess, raw: Raw
) -> None:
    urls = (running.gateway_url, running.registry_url, running.events_url, running.memory_url)
    scrapers = [Scraper(url) for url in urls]
    raw("PUT", path_of("p", "k"), {"value": 1})
    assert [scraper.grown("soorma_commits_total", source="http") for scraper in scrapers] == [1] * 4
    found = scrapers[0].now()
    assert found.labels_of("soorma_build_info", "version") == {"1.0.0"}
    assert found.value("soorma_database_bytes", file="main") >= 4096
    assert found.value("process_resident_memory_bytes") > 0


@pytest.mark.behaviour("metrics.counted")
def test_a_request_through_the_gateway_is_the_services(
    running: PlatformProcess, scraper: Scraper
) -> None:
    assert Raw(running.gateway_url, "t", "u")("PUT", path_of("p", "k"), {"value": 1}).status == 200
    labels = {"method": "PUT", "route": ROUTE, "status": "2xx"}
    assert scraper.grown("soorma_http_requests_total", service="memory", **labels) == 1
    assert scraper.grown("soorma_http_requests_total", service="gateway", **labels) == 0


@pytest.mark.behaviour("metrics.every-service")
def test_openmetrics_for_who_asks_for_it(raw: Raw) -> None:
    answer = raw("GET", "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in of_openmetrics(answer.body.decode())}
    assert {"soorma_commits", "soorma_http_request_duration_seconds", "soorma_group_lanes"} <= names


@pytest.mark.behaviour("metrics.every-service")
def test_scrapes_are_guarded_as_all_else(raw: Raw, scraper: Scraper) -> None:
    assert raw("GET", "/metrics", Host="example.com").code == "forbidden"
    assert raw("GET", "/metrics", Origin="https://example.com").code == "forbidden"
    assert raw("POST", "/metrics", {}).code == "method_not_allowed"
    nowhere = {"service": "memory", "method": "other", "route": "other", "status": "4xx"}
    assert scraper.grown("soorma_http_requests_total", **nowhere) == 3


@pytest.mark.behaviour("metrics.few-labels")
def test_labels_stay_few_whatever_is_asked(running: PlatformProcess, scraper: Scraper) -> None:
    def ask(who: str) -> None:
        for url in (running.memory_url, running.events_url):
            raw = Raw(url, who, who)
            raw("PUT", path_of(who, who), {"value": who})
            raw("GET", path_of(who, who))
            raw("GET", f"/{who}/{who}")
            raw(who.replace("-", "").upper(), path_of(who, who))
            raw("POST", "/v1/events/publish", {"type": who, "topic": "business-facts", "data": who})

    ask(unique("first"))
    before = scraper.now().series.keys()
    others = [unique("other") for _ in range(10)]
    for who in others:
        ask(who)
    after = scraper.now().series.keys()
    assert after == before
    told = str(after).lower()
    assert not [who for who in others if who in told or who.replace("-", "") in told]


# commits


@pytest.mark.behaviour("metrics.counted")
def test_commits_and_conflicts(scraper: Scraper, raw: Raw) -> None:
    assert raw("PUT", path_of("p", "k"), {"value": 1}).status == 200
    assert raw("PUT", path_of("p", "k"), {"value": 2}, If_Match='"7"').code == "conflict"
    assert raw("PUT", path_of("p", "k"), {"value": 2}, If_None_Match="*").code == "conflict"
    assert scraper.grown("soorma_commits_total", source="http") == 1
    assert scraper.grown("soorma_conflicts_total", source="http") == 2
    assert scraper.grown("soorma_commits_total", source="handler") == 0


@pytest.mark.behaviour("metrics.counted")
def test_the_same_request_again_is_one_commit(scraper: Scraper, raw: Raw) -> None:
    for _ in range(3):
        assert raw("PUT", path_of("p", "k"), {"value": 1}, Idempotency_Key="one").status == 200
    assert scraper.grown("soorma_commits_total", source="http") == 1


@pytest.mark.behaviour("metrics.counted")
def test_events_are_counted_by_topic(running: PlatformProcess, scraper: Scraper) -> None:
    publish = {"type": unique("a"), "topic": "plan-events", "id": unique("event")}
    raw = Raw(running.events_url, unique("tenant"), "u")
    for _ in range(2):  # the second is the first one sent again
        assert raw("POST", "/v1/events/publish", publish).status == 200
    assert (
        raw("POST", "/v1/events/publish", [{"type": "b", "topic": "plan-events"}] * 3).status == 200
    )
    assert scraper.grown("soorma_events_published_total", topic="plan-events") == 4
    assert scraper.grown("soorma_events_published_total", topic="billing-events") == 0


@pytest.mark.behaviour("metrics.counted")
def test_transactions_of_the_store(scraper: Scraper, raw: Raw) -> None:
    for n in range(5):
        raw("PUT", path_of("p", "k"), {"value": n})
    count, jobs = scraper.all_grown("soorma_store_batch_size_count", "soorma_store_batch_size_sum")
    assert jobs >= count >= 5
    assert scraper.grown("soorma_store_transaction_seconds_sum") > 0


@pytest.mark.behaviour("metrics.counted")
async def test_a_handlers_commit_and_its_conflict(
    scraper: Scraper, context: PlatformContext, agent: Agent
) -> None:
    done = Seen()

    @agent.on_event("a")
    async def handle(event: Any, handler: HandlerContext) -> None:
        state = WorkflowState(handler.memory, "p")
        found = await state.get("n", 0)
        if not done:
            await context.memory.set_plan_state("p", "n", 7)  # somebody else changes what was read
        done.append(found)
        await state.set("n", found + 1)

    async with agent:
        await context.bus.publish("a", "business-facts", plan_id="p")
        await done.until(2)
        await eventually(lambda: scraper.grown("soorma_commits_total", source="handler") == 1)
    assert scraper.grown("soorma_conflicts_total", source="handler") == 1
    assert scraper.grown("soorma_deliveries_total", group=agent.name) == 1


@pytest.mark.behaviour("metrics.counted")
async def test_retries_and_dead_letters(
    running: PlatformProcess, scraper: Scraper, context: PlatformContext, agent: Agent
) -> None:
    replayed = Seen()

    @agent.on_event("a", retry=RetryPolicy(max_attempts=3, first_delay=0, jitter=0))
    async def handle(event: Any, handler: HandlerContext) -> None:
        if event.data == "replayed":
            replayed.append(event)
            return
        raise Retry("again") if handler.attempt < 3 else ValueError("no good")

    @agent.on_event("b")
    async def refuse(event: Any, _: Any) -> None:
        raise Reject("not mine")

    def counted() -> tuple[float, float, float]:
        group = {"group": agent.name}
        return (
            scraper.grown("soorma_retries_total", **group),
            scraper.grown("soorma_dead_letters_total", **group),
            scraper.now().value("soorma_group_dead_letters", **group),
        )

    async with agent:
        await context.bus.publish("a", "business-facts", "secret", plan_id="p")
        await context.bus.publish("b", "business-facts", "secret", plan_id="q")
        await eventually(lambda: counted() == (2, 2, 2))
        letters = Raw(running.events_url)(
            "GET", f"/v1/events/dead-letters?group={agent.name}"
        ).json["dead_letters"]
        await agent.stop()
    assert (
        Raw(running.events_url)("POST", f"/v1/events/dead-letters/{letters[0]['id']}/replay").status
        == 200
    )
    assert counted() == (2, 2, 1)
    assert "secret" not in running.log.read_text("utf-8")


@pytest.mark.behaviour("metrics.counted")
def test_a_fenced_commit(scraper: Scraper, raw: Raw) -> None:
    commit = {"plans": [{"plan_id": "p", "operations": []}], "fence": "0" * 32}
    assert raw("POST", "/v1/memory/commit", commit).code == "fenced"
    assert scraper.grown("soorma_fenced_total") == 1
    assert scraper.grown("soorma_commits_total", source="handler") == 0


@pytest.mark.behaviour("metrics.counted", "schemas.off-and-warn")
def test_payloads_that_do_not_fit(running: PlatformProcess, scraper: Scraper) -> None:
    tenant, kind = unique("tenant"), unique("a")
    definition = {"topic": "business-facts", "schema": {"type": "object"}, "check": "enforce"}
    defined = Raw(running.registry_url, tenant, "u")(
        "PUT", f"/v1/registry/events/{kind}/versions/1", definition
    )
    assert defined.status == 200, defined.body
    event = {"type": kind, "topic": "business-facts"}
    raw = Raw(running.events_url, tenant, "u")
    assert (
        raw("POST", "/v1/events/publish", event | {"data": "no object"}).code == "invalid_payload"
    )
    assert raw("POST", "/v1/events/publish", event | {"data": {}}).status == 200
    assert scraper.grown("soorma_payloads_refused_total") == 1
    assert scraper.grown("soorma_events_published_total", topic="business-facts") == 1


# groups


@pytest.mark.behaviour("metrics.waiting")
async def test_what_waits_for_a_group_and_since_when(
    scraper: Scraper, context: PlatformContext, agent: Agent
) -> None:
    begun, go = Seen(), asyncio.Event()

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        begun.append(event)
        await go.wait()

    def lanes(state: str) -> float:
        return scraper.now().value("soorma_group_lanes", group=agent.name, state=state)

    def of_group(name: str) -> float:
        return scraper.now().value(f"soorma_group_{name}", group=agent.name)

    async with agent:
        assert of_group("replicas") == 1
        for plan in ("p", "p", "q"):
            await context.bus.publish("a", "business-facts", plan_id=plan)
        await begun.until(2)
        assert (lanes("in_hand"), lanes("ready"), of_group("events")) == (2, 0, 3)
        first = of_group("oldest_event_age_seconds")
        assert first > 0
        assert of_group("oldest_event_age_seconds") >= first
        go.set()
        await eventually(lambda: of_group("events") == 0)
        assert of_group("oldest_event_age_seconds") == 0
    await eventually(lambda: of_group("replicas") == 0)
    for plan in ("p", "p", "q"):
        await context.bus.publish("a", "business-facts", plan_id=plan)
    assert (lanes("in_hand"), lanes("ready"), of_group("events")) == (0, 2, 3)


@pytest.mark.behaviour("metrics.few-labels")
async def test_groups_of_one_name_are_told_together(
    running: PlatformProcess, scraper: Scraper, agent: Agent
) -> None:
    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        """Never called: it stops before there is an event."""

    for tenant_id in (unique("one"), unique("two")):
        config = config_of(running, tenant_id=tenant_id)
        twin = Agent(agent.name, config=config)
        twin.on_event("a")(handle)
        async with twin:
            pass
        async with context_of(running, tenant_id=tenant_id) as context:
            await context.bus.publish("a", "business-facts")
    found = scraper.now()
    assert found.value("soorma_group_events", group=agent.name) == 2
    assert found.value("soorma_deliveries_total", group=agent.name) == 0


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[PlatformProcess]:
    """A platform that removes groups once they were not seen for a moment."""
    with platform_in(tmp_path / "forgetful", SOORMA_KEEP_GROUPS="1") as platform:
        yield platform


@pytest.mark.behaviour("metrics.waiting")
async def test_a_group_that_was_removed_is_no_longer_told_of(forgetful: PlatformProcess) -> None:
    scraper, seen = Scraper(forgetful.memory_url), Seen()
    agent = Agent(unique("agent"), config=config_of(forgetful), retry=AT_ONCE)

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        seen.append(event)

    async with agent, context_of(forgetful) as context:
        await context.bus.publish("a", "business-facts")
        await seen.until(1)
        assert agent.name in scraper.now().labels_of("soorma_deliveries_total", "group")
    await eventually(lambda: agent.name not in str(scraper.now().series))


@pytest.mark.behaviour("metrics.waiting")
async def test_counts_begin_anew_with_the_process_and_what_waits_does_not(
    platform: PlatformProcess,
) -> None:
    agent = Agent(unique("agent"), config=config_of(platform))

    @agent.on_event("a")
    async def handle(event: Any, _: Any) -> None:
        """Never called."""

    async with agent:
        pass
    async with context_of(platform) as context:
        await context.bus.publish("a", "business-facts")
    platform.restart()
    found = Scraper(platform.events_url).now()
    assert found.value("soorma_events_published_total", topic="business-facts") == 0
    assert found.value("soorma_group_events", group=agent.name) == 1
    assert found.value("soorma_log_end_position") == 1
