"""Figures of the memory service over plain HTTP: cost per request, latency under load, ladders."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

from load import Result
from measuring import (
    FULL_COMMIT,
    READ,
    Figure,
    Plot,
    Table,
    ms,
    percentile,
    ratio_of,
    rounds,
    say,
    times,
)
from stage import How, Stage

Calls = dict[str, list[float]]
"""Latencies of each kind of call."""

CONNECTIONS = 32
STEP_SECONDS = 6.0
LADDER_PLAN_KEYS = 100
FILL_OPERATIONS = 500


def cost_per_request(stage: Stage) -> None:
    """The server's processor time for GET and PUT, against a bare response on the same settings.

    The GETs come first: sweeping after the PUTs is part of the PUTs' cost alone.
    """
    say("server CPU per request, 32 connections")
    count = stage.sizes.cpu_requests
    stage.fill("cpu", LADDER_PLAN_KEYS)
    kinds: dict[str, Callable[..., Result]] = {
        "get": lambda **how: stage.get("cpu", **how),
        "bare get": stage.bare_get,
        "put": lambda **how: stage.put("cpu", pad=80, **how),
        "bare put": lambda **how: stage.bare_put(pad=80, **how),
    }
    cost: dict[str, list[float]] = {name: [] for name in kinds}
    speed: dict[str, list[float]] = {name: [] for name in kinds}
    for pair in (("get", "bare get"), ("put", "bare put")):
        for turn in rounds(stage.sizes.rounds + 1, 30, least=2):
            for name in pair:
                # A bare answer is cheap and the kernel counts in ticks: more of them make its
                # figure as exact.
                requests = count * 2 if name.startswith("bare") else count
                found = kinds[name](requests=requests, connections=CONNECTIONS, first=turn * count)
                if turn:  # the first round warms up
                    cost[name].append(max(found.cpu, 1e-3) / requests)
                    speed[name].append(requests / found.seconds)
    targets = (
        ("get", "GET of a key", 2.2, READ),
        ("put", "durable PUT of a key", 5.0, FULL_COMMIT),
    )
    for name, what, target, durability in targets:
        ratio = ratio_of(zip(cost[name], cost[f"bare {name}"], strict=True))
        stage.report.numbers[f"server CPU per request: {what}, s"] = median(cost[name])
        stage.report.numbers[f"{what}, {CONNECTIONS} connections, /s"] = median(speed[name])
        stage.report.figures.append(
            Figure(
                f"server CPU per request: {what}, {CONNECTIONS} connections",
                f"{median(cost[name]) * 1e6:.0f} µs, {median(speed[name]):,.0f}/s",
                f"bare ASGI answer: {median(cost[f'bare {name}']) * 1e6:.0f} µs, "
                f"{median(speed[f'bare {name}']):,.0f}/s",
                times(ratio),
                f"≤ {target} ×",
                ratio <= target,
                durability,
            )
        )


def open_loop(stage: Stage) -> None:
    """Latencies at given rates, each counted from the time its request should have begun."""
    seconds, plan = stage.sizes.open_seconds, "open"
    stage.fill(plan, LADDER_PLAN_KEYS)
    kinds: dict[str, Callable[..., Result]] = {
        "bare GET": stage.bare_get,
        "GET": lambda **how: stage.get(plan, **how),
        "PUT": lambda **how: stage.put(plan, pad=80, **how),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for turn in rounds(stage.sizes.open_rounds, 80):
        for rate in stage.sizes.rates:
            say(f"open loop, {rate:,} requests/s, round {turn + 1}")
            for name, run in kinds.items():
                taken = run(
                    requests=round(rate * seconds),
                    connections=64,
                    rate=rate,
                    first=turn * 1_000_000,
                )
                found.setdefault((name, rate), []).extend(taken.latencies)
    stage.report.numbers |= {
        f"{name} at {rate:,}/s, p50, s": median(values)
        for (name, rate), values in found.items()
        if name != "bare GET"
    }
    shares = (0.5, 0.99, 0.999)
    rows = [
        (name, f"{rate:,}", f"{len(values):,}",
         *(ms(percentile(values, share)) for share in shares),
         {"PUT": FULL_COMMIT, "GET": READ}.get(name, "floor"))
        for (name, rate), values in sorted(found.items(), key=lambda item: item[0][1])
    ]  # fmt: skip
    stage.report.tables.append(
        Table(
            "Latency at a given rate (open loop)",
            "Requests begin at random times (Poisson), at that rate on average and whether or not "
            "earlier ones were "
            "answered, over at most 64 connections. A latency counts from when its request should "
            "have begun, so that "
            "a stall shows in every request that it held up (no coordinated omission).",
            ("request", "per second", "samples", "p50", "p99", "p99.9", "durability"),
            rows,
            "open-loop",
        )
    )
    lines = {
        f"{name} {label}": [
            percentile(found[name, rate], share) * 1e3 for rate in stage.sizes.rates
        ]
        for name in kinds
        for label, share in (("p50", 0.5), ("p99", 0.99))
    }
    steps = tuple(f"{rate:,}" for rate in stage.sizes.rates)
    stage.report.plots.append(
        Plot("open-loop", "Latency at a given rate", "requests/s", "ms", steps, lines)
    )


def payloads(stage: Stage) -> None:
    """One connection, values from small to large, against a bare response of the same size."""
    ladder = _Ladder(stage, "payloads", "Size of a value", "bytes of the value")
    for size in stage.sizes.payloads:
        say(f"payload of {size:,} bytes")
        stage.fill(f"payload-{size}", 10, size=size)
        ladder.step(f"{size:,}", partial(_payload_calls, stage, size))
    ladder.report(
        "p50 over one connection. The floor of a PUT is a bare PUT of the same size and a bare "
        "FULL commit of it. "
        f"PUT and commit: {FULL_COMMIT}.",
        {"GET": ("bare GET",), "PUT": ("bare PUT", "bare commit")},
    )


def plan_sizes(stage: Stage) -> None:
    """Reading and writing one key of plans with few keys and with many."""
    ladder = _Ladder(stage, "plan-size", "Keys of a plan", "keys of the plan")
    for keys in stage.sizes.plan_keys:
        say(f"plan of {keys:,} keys")
        _fill_in_commits(stage, f"plan-{keys}", keys)
        ladder.step(f"{keys:,}", partial(_plan_calls, stage, f"plan-{keys}", keys))
    ladder.report(
        f"p50 of reading and of writing one key over one connection. PUT: {FULL_COMMIT}.",
        {"GET": ("bare GET",), "PUT": ("bare PUT", "bare commit")},
    )


def histories(stage: Stage) -> None:
    """Plans that were changed a few times and many times."""
    ladder = _Ladder(stage, "history", "Revisions of a plan", "revisions before the first call")
    for revisions in stage.sizes.revisions:
        say(f"history of {revisions:,} revisions")
        stage.put(f"history-{revisions}", requests=revisions, keys=10, pad=80)
        ladder.step(f"{revisions:,}", partial(_history_calls, stage, revisions))
    ladder.report(
        "p50 over one connection; `100 changes` is a page of the history from near its end. "
        f"PUT and record_action: {FULL_COMMIT}.",
        {
            "GET": ("bare GET",),
            "PUT": ("bare PUT", "bare commit"),
            "record_action": ("bare PUT", "bare commit"),
            "100 changes": ("bare GET",),
        },
    )


def contention(stage: Stage) -> None:
    """Writers that add to one number, against as many that each add to one of their own."""
    rows, one_key, own_keys = [], [], []
    plan, total = "contention", 0
    for writers in stage.sizes.writers:
        say(f"{writers} writers on one key")
        found: dict[str, list[Result]] = {"shared": [], "own-<c>": []}
        requests = max(stage.sizes.contended_writes * min(writers, 16) // 16, writers)
        for _ in rounds(stage.sizes.ladder_rounds, STEP_SECONDS):
            for key, results in found.items():
                body = (
                    f'{{"plans": [{{"plan_id": "{plan}", "operations": [{{"op": "increment", '
                    f'"key": "{key}"}}]}}]}}'
                )
                results.append(stage.commit(body, requests=requests, connections=writers))
            total += requests
        shared, own = found.values()
        pairs = [(len(one.latencies) / one.seconds, len(two.latencies) / two.seconds)
                 for one, two in zip(shared, own, strict=True)]  # fmt: skip
        waits = [latency for result in shared for latency in result.latencies]
        one_key.append(median(one for one, _ in pairs))
        own_keys.append(median(two for _, two in pairs))
        stage.report.numbers[f"{writers} writers on one key, /s"] = one_key[-1]
        stage.report.numbers[f"{writers} writers on own keys, /s"] = own_keys[-1]
        rows.append(
            (str(writers), f"{one_key[-1]:,.0f}/s",
             ms(percentile(waits, 0.5)), ms(percentile(waits, 0.99)),
             f"{own_keys[-1]:,.0f}/s", times(ratio_of(pairs)))
        )  # fmt: skip
    counted = _shared_number(stage, plan)
    if counted != total:
        raise RuntimeError(f"{total} increments were acknowledged and {counted} are there")
    stage.report.tables.append(
        Table(
            "Writers on one key",
            "Increments by 1, each over a connection of its own; the floor is as many writers, "
            "each on a key of its "
            f"own. {FULL_COMMIT}. At the end the key held {counted:,}: every acknowledged "
            "increment, none twice.",
            ("writers", "one key", "p50", "p99", "own keys", "one key / own keys"),
            rows,
            "contention",
        )
    )
    steps = tuple(str(writers) for writers in stage.sizes.writers)
    lines = {"one key": one_key, "own keys": own_keys}
    stage.report.plots.append(
        Plot("contention", "Writers on one key", "writers", "increments/s", steps, lines)
    )


class _Ladder:
    """Steps of one size, with the medians of alternating calls and floors."""

    def __init__(self, stage: Stage, name: str, title: str, x: str) -> None:
        self._stage = stage
        self._name, self._title, self._x = name, title, x
        self._steps: dict[str, list[dict[str, float]]] = {}

    def step(self, label: str, measure: Callable[[], Calls]) -> None:
        turns = rounds(self._stage.sizes.ladder_rounds, STEP_SECONDS)
        self._steps[label] = [
            {name: median(values) for name, values in measure().items()} for _ in turns
        ]

    def report(self, about: str, floors: dict[str, Iterable[str]]) -> None:
        rows = []
        lines: dict[str, list[float]] = {}
        for label, turns in self._steps.items():
            cells = [label]
            for call, parts in floors.items():
                pairs = [(found[call], sum(found[part] for part in parts)) for found in turns]
                typical, floor = (median(side) for side in zip(*pairs, strict=True))
                cells += [ms(typical), ms(floor), times(ratio_of(pairs))]
                lines.setdefault(call, []).append(typical * 1e3)
                self._stage.report.numbers[f"{self._title}: {call} at {label}, p50, s"] = typical
                lines.setdefault(f"{call}, floor", []).append(floor * 1e3)
            rows.append(tuple(cells))
        columns = [self._x, *(text for call in floors for text in (call, "floor", "ratio"))]
        report = self._stage.report
        report.tables.append(Table(self._title, about, tuple(columns), rows, self._name))
        report.plots.append(
            Plot(self._name, self._title, self._x, "ms (p50)", tuple(self._steps), lines)
        )


def _payload_calls(stage: Stage, size: int) -> Calls:
    plan, calls = f"payload-{size}", min(stage.sizes.ladder_calls, max(10, 16_000_000 // size))
    how: How = {"requests": calls, "connections": 1, "keys": 10, "pad": size}
    return {
        "GET": stage.get(plan, **how).latencies,
        "bare GET": stage.bare_get(size, **how).latencies,
        "PUT": stage.put(plan, **how).latencies,
        "bare PUT": stage.bare_put(**how).latencies,
        "bare commit": stage.commits.many(calls, size),
    }


def _plan_calls(stage: Stage, plan: str, keys: int) -> Calls:
    how: How = {"requests": stage.sizes.ladder_calls, "connections": 1, "keys": keys, "pad": 80}
    return {
        "GET": stage.get(plan, **how).latencies,
        "bare GET": stage.bare_get(**how).latencies,
        "PUT": stage.put(plan, **how).latencies,
        "bare PUT": stage.bare_put(**how).latencies,
        "bare commit": stage.commits.many(stage.sizes.ladder_calls),
    }


def _history_calls(stage: Stage, revisions: int) -> Calls:
    plan, how = f"history-{revisions}", How(requests=stage.sizes.ladder_calls, connections=1)
    action = (
        f'{{"plans": [{{"plan_id": "{plan}", "operations": [{{"op": "record_action", "name": '
        f'"a<n>"}}]}}]}}'
    )
    page = f"/v1/memory/history/{plan}?limit=100&after={max(0, revisions - 100)}"
    return {
        **_plan_calls(stage, plan, 10),
        "record_action": stage.commit(action, **how).latencies,
        "100 changes": stage.read(page, **how).latencies,
    }


def _fill_in_commits(stage: Stage, plan: str, keys: int) -> None:
    for first in range(0, keys, FILL_OPERATIONS):
        numbers = range(first, min(keys, first + FILL_OPERATIONS))
        operations = ", ".join(
            f'{{"op": "set", "key": "k{n}", "value": {{"n": {n}}}}}' for n in numbers
        )
        body = f'{{"plans": [{{"plan_id": "{plan}", "operations": [{operations}]}}]}}'
        stage.commit(body, requests=1, connections=1)


def _shared_number(stage: Stage, plan: str) -> int:
    import asyncio  # noqa: PLC0415 - the one place here that speaks through the SDK

    from soorma import MemoryClient, WorkflowState  # noqa: PLC0415

    async def read() -> int:
        async with MemoryClient(config=stage.config) as memory:
            return int(await WorkflowState(memory, plan).get("shared"))

    return asyncio.run(read())
