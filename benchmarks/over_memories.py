"""Figures of memories at size: searches, stores, loads, and the room that they take."""

# ruff: noqa: RUF001 - people read this: its signs are meant

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import TypeAlias, TypeVar

import apsw
import memory_platform
import numpy as np
import uvloop
from bare_search import LIMIT, BareSearch
from made_texts import Texts, vector_of
from measuring import (
    FULL_COMMIT,
    READ,
    Figure,
    Table,
    ms,
    percentile,
    ratio_of,
    resident_mib,
    rounds,
    say,
    times,
)
from memory_platform import held_by
from over_sdk import BareClient, in_flight, timed_calls
from platform_process import PlatformProcess  # of the tests: stage.py has put them in the path
from stage import Stage

from soorma import ClientConfig, MemoryClient
from soorma_common.semantic import Hits
from soorma_platform.engine.retrieval.vectors import VectorIndex, packed, unit

RARE, EACH = "rare", 1_000
"""The tag of one in so many passages."""
FILL, BATCH = 1_000, 100
"""Passages of a commit: of one that fills a collection, and of one that is timed."""
OF_A_SCOPE, SCOPES_OF_A_TENANT = 10, 10
IN_FLIGHT = 8
ELSEWHERE, LATER = 10_000_000, 20_000_000
"""The numbers of the first texts of other scopes, and of those that are stored at the end."""
LOOK_EACH = 10
SECONDS = 30.0
PATIENCE = 600.0
SLOWEST, LONGEST, MOST_BYTES, LEAST_RECALL = 0.020, 0.020, 2_048, 0.97
OVER_FLOORS, WITH_OTHERS = 1.5, 1.1

T = TypeVar("T")
Row: TypeAlias = tuple[str, str, str, str, str]
"""Of the table: what, measured, floor, ratio, durability."""


class Served:
    """A platform with the embedder of the made texts, and a client of it."""

    def __init__(self, process: PlatformProcess) -> None:
        self.process = process
        process.program = (memory_platform.__file__,)
        self.memory = self._client()

    def _client(self) -> MemoryClient:
        there = self.process
        return MemoryClient(
            config=ClientConfig(there.memory_url, there.events_url, "bench", "bench")
        )

    async def start(self) -> None:
        """Starts it, again if it runs: the client's connections are those of the new process."""
        await self.memory.close()
        self.process.stop()
        self.process.start()
        self.memory = self._client()

    async def fill(self, texts: Sequence[str]) -> None:
        """Stores texts in one collection."""
        for first in range(0, len(texts), FILL):
            await self.memory.store_knowledge_batch(
                {"content": text, "tags": [] if number % EACH else [RARE]}
                for number, text in enumerate(texts[first : first + FILL], first)
            )
        await self.embedded()

    async def fill_scopes(self, texts: Sequence[str]) -> None:
        """Stores texts in many small collections, those of some users in each of some tenants."""

        async def store(number: int) -> None:
            tenant, user = divmod(number, SCOPES_OF_A_TENANT)
            first = number * OF_A_SCOPE
            await self.memory.store_knowledge_batch(
                texts[first : first + OF_A_SCOPE], tenant_id=f"t{tenant}", user_id=f"u{user}"
            )

        await in_flight(len(texts) // OF_A_SCOPE, IN_FLIGHT, store)
        await self.embedded()

    async def embedded(self) -> None:
        """Waits until all that is stored has a vector."""
        until = time.monotonic() + PATIENCE
        reading = apsw.Connection(str(self.process.database), flags=apsw.SQLITE_OPEN_READONLY)
        left = "SELECT 1 FROM passage_parts WHERE model = 0 AND terms IS NOT NULL LIMIT 1"
        while reading.execute(left).fetchone():
            if time.monotonic() > until:
                raise RuntimeError(f"not all is embedded after {PATIENCE:.0f} s")
            await asyncio.sleep(0.05)
        reading.close()

    def stop(self) -> int:
        """Stops it; returns the bytes of its record."""
        self.process.stop()
        return sum(file.stat().st_size for file in self.process.folder.glob("soorma.db*"))


@asynccontextmanager
async def served(stage: Stage, name: str, **settings: str) -> AsyncIterator[Served]:
    """A platform that is not started yet, and is gone at the end."""
    one = Served(stage.new_platform(name, **settings))
    try:
        yield one
    finally:
        await one.memory.close()
        one.process.close()


def memories(stage: Stage) -> None:
    """A large collection, alone and beside many small ones."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_memories(stage))


async def _memories(stage: Stage) -> None:
    made, report = Texts(), stage.report
    texts = [made.passage(number) for number in range(stage.sizes.passages)]
    async with AsyncExitStack() as held:
        alone = await held.enter_async_context(served(stage, "memories"))
        crowded = await held.enter_async_context(served(stage, "crowded"))
        say(f"a collection of {len(texts):,} passages with vectors")
        await alone.start()
        started = time.perf_counter()
        await alone.fill(texts)
        rate = len(texts) / (time.perf_counter() - started)
        before = alone.stop()
        shutil.copy(alone.process.database, crowded.process.database)
        await crowded.start()
        room = await _room(stage, crowded, before)
        await crowded.start()
        vectors = [packed(vector_of(text)) for text in texts]
        bare = BareSearch(stage.folder / "bare.db", texts, vectors)
        held.callback(bare.close)
        on = _Collection(stage, made, alone, crowded, bare)
        rows = [(f"stored in commits of {FILL:,}, until all have vectors", f"{rate:,.0f}/s", "–",
                 "", FULL_COMMIT)]  # fmt: skip
        loading = await on.loads(rows)
        report.figures += [*await on.searches(), on.codes(vectors), await on.holds(), loading]
        report.figures += [await on.filtered(), await on.stores(rows), room]
    report.tables.append(
        Table(
            "A large collection of memories",
            f"{len(texts):,} passages of one user, of 40 words that were made up by chance, with "
            "vectors of 384 numbers. The embedder is one of the benchmark that takes no time; what "
            "a model takes comes on top of a search: 3 to 5 ms for the offline one. A platform and "
            "its client are in processes of their own.",
            ("what", "measured", "floor, same run", "ratio", "durability"),
            rows,
        )
    )


async def _room(stage: Stage, crowded: Served, before: int) -> Figure:
    """Fills many small scopes, then stops: the room that they take is what the record has grown."""
    count = stage.sizes.scopes * OF_A_SCOPE
    say(f"{stage.sizes.scopes:,} scopes of {OF_A_SCOPE} passages with vectors")
    made = Texts()
    texts = [made.passage(ELSEWHERE + number) for number in range(count)]
    await crowded.fill_scopes(texts)
    size = sum(len(text.encode()) for text in texts)
    each = (crowded.stop() - before - size) / count
    stage.report.numbers["bytes of a passage with its vector"] = each
    return Figure(
        f"bytes on disk of a passage with its vector, {stage.sizes.scopes:,} scopes of "
        f"{OF_A_SCOPE}", f"{each:,.0f} on top of its text", f"text {size / count:,.0f}, vector 768",
        "", f"≤ {MOST_BYTES:,}", each <= MOST_BYTES, FULL_COMMIT,
    )  # fmt: skip


class _Collection:
    """The large collection: on a platform of its own, on one with many others, and bare."""

    def __init__(
        self, stage: Stage, made: Texts, alone: Served, crowded: Served, bare: BareSearch
    ) -> None:
        self._stage, self._made = stage, made
        self._alone, self._crowded, self._bare = alone, crowded, bare
        self._queries = [made.query(number) for number in range(stage.sizes.searches)]
        self._vectors = [unit(vector_of(query)) for query in self._queries]
        self._mean_size = len(made.passage(0))
        self._what = f"among {stage.sizes.passages:,} passages"

    async def loads(self, rows: list[Row]) -> Figure:
        """Restarts and searches: the first search loads the index."""
        say("loads of the index; the client warns that no answer comes for a second")
        process, found = self._alone.process, list[dict[str, float]]()
        for turn in rounds(self._stage.sizes.ladder_rounds + 1, SECONDS, least=2):
            await self._alone.start()
            before = resident_mib(process.pid)
            with held_by(process.pid, process.folder) as looks:
                (took,) = await timed_calls(1, self._search(self._alone))
            one = {"took": took, "bare": self._read(), "before": before,
                   "after": resident_mib(process.pid), **looks}  # fmt: skip
            if turn:  # the first one finds cold files
                found.append(one)
        middle = {name: median(one[name] for one in found) for name in found[0]}
        self._stage.report.numbers[f"first search {self._what}, s"] = middle["took"]
        rows += [
            ("first search after a start, which loads the index", f"{middle['took']:.2f} s",
             f"bare SELECTs of terms and vectors: {middle['bare']:.2f} s",
             times(ratio_of((one["took"], one["bare"]) for one in found)), READ),
            ("resident memory after it", f"{middle['after']:.0f} MiB",
             f"before it: {middle['before']:.0f} MiB", "", "–"),
        ]  # fmt: skip
        return self._held_figure("while the index is loaded", found)

    def _read(self) -> float:
        """The seconds of reading what the index is made of."""
        database = str(self._alone.process.database)
        reading = apsw.Connection(database, flags=apsw.SQLITE_OPEN_READONLY)
        started = time.perf_counter()
        for table in ("passage_parts", "part_vectors"):
            for _ in reading.execute(f"SELECT * FROM {table}"):  # noqa: S608 - one of these two
                pass
        took = time.perf_counter() - started
        reading.close()
        return took

    async def searches(self) -> list[Figure]:
        """Searches one at a time, on either platform and bare, by turns."""
        say(f"searches {self._what}")
        took: dict[str, list[list[float]]] = {}
        for turn in rounds(self._stage.sizes.rounds + 1, 2 * SECONDS, least=2):
            series = {
                "alone": await self._timed(self._alone),
                "scan": [_seconds(self._bare.scan, vector) for vector in self._vectors],
                "words": [_seconds(self._bare.words, query) for query in self._queries],
                "crowded": await self._timed(self._crowded),
            }
            for name, values in series.items():
                if turn:  # the first round loads the index and embeds the queries
                    took.setdefault(name, []).append(values)
        turns = {name: [median(values) for values in of] for name, of in took.items()}
        p50 = {name: median(of) for name, of in turns.items()}
        p99 = {name: percentile([one for values in of for one in values], 0.99)
               for name, of in took.items()}  # fmt: skip
        floors = [scan + words for scan, words in zip(turns["scan"], turns["words"], strict=True)]
        over = ratio_of(zip(turns["alone"], floors, strict=True))
        beside = ratio_of(zip(turns["crowded"], turns["alone"], strict=True))
        self._stage.report.numbers[f"search {self._what}, p50, s"] = p50["alone"]
        shown = {name: f"{ms(p50[name])} (p99 {ms(p99[name])})" for name in p50}
        tenants = -(-self._stage.sizes.scopes // SCOPES_OF_A_TENANT)
        return [
            Figure(
                f"search {self._what} by words and meaning, p50", shown["alone"],
                f"bare scan of codes + bare FTS5: {ms(p50['scan'])} + {ms(p50['words'])}",
                times(over), f"≤ {OVER_FLOORS} × and ≤ {SLOWEST * 1e3:.0f} ms",
                over <= OVER_FLOORS and p50["alone"] <= SLOWEST, READ,
            ),
            Figure(
                f"the same where {tenants:,} other tenants have passages, too", shown["crowded"],
                f"without them: {shown['alone']}", times(beside), f"≤ {WITH_OTHERS} ×",
                beside <= WITH_OTHERS, READ,
            ),
        ]  # fmt: skip

    async def _timed(self, on: Served) -> list[float]:
        return await timed_calls(len(self._queries), self._search(on))

    def _search(self, on: Served) -> Callable[[int], Awaitable[Hits]]:
        return lambda number: on.memory.search_knowledge(self._queries[number])

    def codes(self, vectors: Sequence[bytes]) -> Figure:
        """The nearest that the platform's index finds by codes, against the exactly nearest."""
        say("recall of the search by codes")
        index = VectorIndex()
        index.put(list(range(len(vectors))), list(vectors))
        everything, nothing = np.ones(len(vectors), np.bool_), np.zeros(0, np.int64)
        right = 0
        for vector, nearest in zip(self._vectors, self._bare.exact(self._vectors), strict=True):
            found = np.argsort(-index.near(vector, everything, nothing))[:LIMIT]
            right += len(nearest.intersection(found.tolist()))
        share = right / LIMIT / len(self._vectors)
        return Figure(
            f"search by codes {self._what}, recall@{LIMIT}", f"{share:.3f}",
            "all cosines computed: 1", "", f"≥ {LEAST_RECALL}", share >= LEAST_RECALL,
        )  # fmt: skip

    async def holds(self) -> Figure:
        """How long the loop is held during searches, some at a time."""
        say("the event loop during searches")
        process, found = self._alone.process, list[dict[str, float]]()
        for _ in rounds(self._stage.sizes.rounds, SECONDS):
            with held_by(process.pid, process.folder) as looks:
                await in_flight(len(self._queries), IN_FLIGHT, self._search(self._alone))
            found.append({**looks})
        return self._held_figure(f"during searches, {IN_FLIGHT} in flight", found)

    def _held_figure(self, when: str, found: Sequence[Mapping[str, float]]) -> Figure:
        worked, late = max(one["worked"] for one in found), median(one["late"] for one in found)
        return Figure(
            f"longest hold of the event loop {when}", f"{ms(worked)} of its processor time",
            f"by the clock, with what other threads and processes did: {ms(late)}", "",
            f"< {LONGEST * 1e3:.0f} ms", worked < LONGEST,
        )  # fmt: skip

    async def filtered(self) -> Figure:
        """Searches within the few passages that have a tag, for as many as a search returns."""
        say("searches with a filter")
        tagged = -(-self._stage.sizes.passages // EACH)
        limit, found = min(LIMIT, tagged), list[int]()

        async def search(number: int) -> None:
            hits = await self._alone.memory.search_knowledge(
                self._queries[number], tags=[RARE], limit=limit, min_score=0.0
            )
            found.append(sum(hit.tags == [RARE] for hit in hits))

        took = await timed_calls(len(self._queries), search)
        least = min(found)
        return Figure(
            f"hits of a search {self._what} with a tag that {tagged:,} have",
            f"at least {least} each, p50 {ms(median(took))}",
            f"asked for: {limit}", "", f"{limit}", least == limit, READ,
        )  # fmt: skip

    async def stores(self, rows: list[Row]) -> Figure:
        """Stores passages, singly and in batches; some are searched for as soon as they are."""
        say("stores of passages")
        count = self._stage.sizes.stores
        kinds = {1: count, BATCH: -(-count // BATCH)}
        looked = missing = 0
        server = BareClient(self._stage)
        for size, commits in kinds.items():
            took, bare = [], []
            for number in range(commits):
                first = LATER + size * count + number * size
                seconds, stored = await self._store(first, size)
                took.append(seconds)
                if size > 1 or number % LOOK_EACH == 0:
                    word = _mark(first + size - 1)
                    hits = await self._alone.memory.search_knowledge(word, mode="text", limit=1)
                    looked += 1
                    missing += [hit.id for hit in hits] != [stored]
                started = time.perf_counter()
                await server.put(number)
                self._stage.commits.commit(size * self._mean_size)
                bare.append(time.perf_counter() - started)
            rate, floor = (size / median(one) for one in (took, bare))
            what = "stored one at a time" if size == 1 else f"stored in commits of {size}"
            self._stage.report.numbers[f"passages {what}, /s"] = rate
            rows.append(
                (f"passages {what}, found by their words at once", f"{rate:,.0f}/s",
                 f"bare PUT + bare FULL commit of as much text: {floor:,.0f}/s",
                 times(rate / floor), FULL_COMMIT)
            )  # fmt: skip
        await server.close()
        return Figure(
            "passages not found by their words as soon as they were stored", f"{missing}",
            f"{looked:,} were searched for", "", "0", missing == 0, FULL_COMMIT,
        )  # fmt: skip

    async def _store(self, first: int, count: int) -> tuple[float, str]:
        """Stores texts, each with a word of its own; returns the seconds and the last one's id."""
        memory = self._alone.memory
        texts = [f"{self._made.passage(one)} {_mark(one)}" for one in range(first, first + count)]
        started = time.perf_counter()
        if count == 1:
            stored = await memory.store_knowledge(texts[0])
        else:
            stored = (await memory.store_knowledge_batch(texts))[-1].id
        return time.perf_counter() - started, stored


def _mark(number: int) -> str:
    return f"mark{number}"


def _seconds(call: Callable[[T], object], argument: T) -> float:
    started = time.perf_counter()
    call(argument)
    return time.perf_counter() - started
