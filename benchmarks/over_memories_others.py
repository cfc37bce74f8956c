"""Figures of the same passages and vectors in memories elsewhere: what they find, and their costs.

Soorma runs as its users run it: a platform in a process of its own, and a client. The others are
libraries, each in its own process and in the environment .venv-others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import memories_material
import memories_table
import memory_platform
import uvloop
from measuring import rounds, say
from memories_material import MADE, MADE_QUERIES, Asked
from memories_table import Costs, Found, Series
from over_memories import Served, served
from over_others import ENVIRONMENT, Program, elsewhere, is_there
from over_retrieval import Answers, Asking
from over_sdk import BareClient, timed_calls
from retrieval_sets import DOMAINS, READER, RetrievalSet
from stage import Stage

from soorma import ClientConfig, MemoryClient
from soorma_platform.work.embedding import offline

HERE = "Soorma"
SCRIPTS = {
    "mem0": "mem0_memories.py",
    "LangGraph": "langgraph_memories.py",
    "bare": "bare_memories.py",
}
ASKED = 100
"""Queries of a command."""
BATCH = 100
SINGLES = 30
"""For so many passages that are stored one at a time, one batch is stored."""
SECONDS = 60.0
WAIT = 30.0
"""Seconds that vectors may take."""


def memories_others(stage: Stage) -> None:
    """Quality, latency and writes of four systems."""
    missing = None
    if not is_there() or not any(ENVIRONMENT.glob("lib/*/site-packages/mem0")):
        missing = "their environment (.venv-others), which `sh tools/run bench` makes"
    elif offline.model_file() is None:
        missing = "the offline model, the extra `embeddings`"
    if missing:
        say(f"memories elsewhere: {missing} is not there: not measured")
        stage.report.notes.append(f"**Memories elsewhere were not measured:** they need {missing}.")
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_quality(stage))
        costs, floors = runner.run(_costs(stage))
    memories_table.report(stage, found, costs, floors)


# --- What is found -------------------------------------------------------------------------


async def _quality(stage: Stage) -> list[Found]:
    """Asks all queries of both sets, without distractors and among them."""
    folder, sizes = stage.folder / "compared", stage.sizes
    folder.mkdir()
    sets = [Asked(RetrievalSet.load(domain, sizes.retrieval_step)) for domain in DOMAINS]
    say("memories elsewhere: the vectors of all texts")
    vectors = await memories_material.embedded(sets, sizes.distractors)
    memories_material.write(folder, sets, vectors, sizes.distractors)
    found = [one for asked in sets for one in await _found_here(stage, asked, folder)]
    for name in SCRIPTS:
        say(f"memories elsewhere: searches on {name}")
        both = (_found_elsewhere(stage, name, asked, folder) for asked in sets)
        found += [one for of in await asyncio.gather(*both) for one in of]
    return found


async def _found_here(stage: Stage, asked: Asked, folder: Path) -> list[Found]:
    of, found = asked.of, list[Found]()
    say(f"memories elsewhere: searches of {of.domain} on {HERE}")
    platform = stage.new_platform(f"compared-{of.domain}", BENCH_VECTORS=str(folder))
    platform.program = (memory_platform.__file__,)
    with platform:
        config = ClientConfig(platform.memory_url, platform.events_url, "bench", READER)
        async with MemoryClient(config=config) as memory:
            asking = Asking(memory, of.domain, await of.store(memory, of.domain))
            for distractors in (0, stage.sizes.distractors):
                await of.store_distractors(memory, of.domain, distractors)
                await memory.search_knowledge(
                    of.cases[0].query, wait=WAIT, tenant_id=of.domain, user_id=READER
                )
                pairs = await asking.all(of.pairs, "hybrid", min_score=0.0)
                cases = await asking.all(of.cases, "hybrid")
                hard = await asking.all(of.hard, "hybrid")
                found.append(Found(HERE, of.domain, distractors, cases, hard, pairs))
    return found


async def _found_elsewhere(stage: Stage, name: str, asked: Asked, folder: Path) -> list[Found]:
    of, found = asked.of, list[Found]()
    with _started(name, folder, stage.folder / f"{name}-{of.domain}") as program:
        await program.told()
        await program.ask("store", file=f"{of.domain}.json", size=1)
        for distractors in (0, stage.sizes.distractors):
            if distractors:
                await program.ask("store", file=f"{of.domain}-distractors.json", size=1)
            answers = await _answers(program, asked)
            cases, hard = len(of.cases), len(of.hard)
            found.append(
                Found(name, of.domain, distractors, answers[:cases],
                      answers[cases : cases + hard], answers[cases + hard :])
            )  # fmt: skip
    return found


async def _answers(program: Program, asked: Asked) -> Answers:
    """All queries, some at a time: with its filters mem0 takes long."""
    found: Answers = []
    for first in range(0, len(asked.queries), ASKED):
        last, file = first + ASKED, f"{asked.of.domain}-queries.json"
        told = await program.ask("search", file=file, first=first, last=last)
        found += zip(asked.queries[first:last], told["found"], strict=True)
    return found


def _started(name: str, material: Path, folder: Path) -> Program:
    folder.mkdir()
    return elsewhere(SCRIPTS[name], str(material), str(folder))


# --- What it costs -------------------------------------------------------------------------


class Elsewhere:
    """One of the others."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def store(self, first: int, last: int, size: int) -> tuple[float, float]:
        """Returns the seconds until these passages are stored, and until they have vectors."""
        told = await self._program.ask("store", file=MADE, first=first, last=last, size=size)
        return told["seconds"], told["seconds"]

    async def latencies(self) -> list[float]:
        """Returns the seconds of each query."""
        found: list[float] = (await self._program.ask("search", file=MADE_QUERIES))["latencies"]
        return found


@dataclass
class Here:
    """Soorma: its client is this process."""

    on: Served
    texts: list[str]
    queries: list[str]

    async def store(self, first: int, last: int, size: int) -> tuple[float, float]:
        memory = self.on.memory
        started = time.perf_counter()
        for at in range(first, last, size):
            if size == 1:
                await memory.store_knowledge(self.texts[at])
            else:
                await memory.store_knowledge_batch(self.texts[at : min(at + size, last)])
        stored = time.perf_counter() - started
        await memory.search_knowledge(self.queries[0], limit=1, wait=WAIT)
        return stored, time.perf_counter() - started

    async def latencies(self) -> list[float]:
        return await timed_calls(
            len(self.queries), lambda number: self.on.memory.search_knowledge(self.queries[number])
        )


class _Floor:
    """What a store costs at least where the client is another process: a request and a commit."""

    def __init__(self, stage: Stage, size: int) -> None:
        self._server, self._commits, self._size = BareClient(stage), stage.commits, size

    async def rate(self, count: int, size: int) -> float:
        """Returns passages a second."""
        started = time.perf_counter()
        for number in range(count // size):
            await self._server.put(number)
            self._commits.commit(size * self._size)
        return count / (time.perf_counter() - started)

    async def close(self) -> None:
        """Closes its connection."""
        await self._server.close()


@dataclass
class _Turns:
    """The systems by turns, each on its own collection."""

    running: dict[str, Here | Elsewhere]
    costs: dict[str, Costs]
    floor: _Floor
    floors: dict[int, list[float]] = field(default_factory=dict)
    stored: int = field(default=0)

    async def fill(self, count: int) -> None:
        """Stores the first passages in batches."""
        for name, system in self.running.items():
            say(f"memories elsewhere: {count:,} passages on {name}")
            await system.store(0, count, BATCH)
            await system.latencies()  # what is loaded once
        self.stored = count

    async def searches(self) -> None:
        """One round of searches."""
        for name, system in self.running.items():
            self.costs[name].latencies.append(await system.latencies())

    async def stores(self, singly: int) -> None:
        """One round of stores: one at a time, then in batches."""
        for size, count in ((1, singly), (BATCH, max(1, singly // SINGLES) * BATCH)):
            first, self.stored = self.stored, self.stored + count
            for name, system in self.running.items():
                took, until_found = await system.store(first, self.stored, size)
                series: Series = self.costs[name].stores.setdefault(size, Series())
                series.answered.append(count / took)
                series.found.append(count / until_found)
            self.floors.setdefault(size, []).append(await self.floor.rate(count, size))


async def _costs(stage: Stage) -> tuple[dict[str, Costs], dict[int, list[float]]]:
    """Measures all systems, and the floor of stores by the passages of a call."""
    sizes, folder = stage.sizes, stage.folder / "compared-costs"
    folder.mkdir()
    each = sizes.compared_stores + max(1, sizes.compared_stores // SINGLES) * BATCH
    count = sizes.compared_passages + sizes.rounds * each
    queries = memories_material.write_made(folder, count, max(1, sizes.searches // 5))
    texts = [row["text"] for row in json.loads((folder / MADE).read_text("utf-8"))]
    async with AsyncExitStack() as held:
        running: dict[str, Here | Elsewhere] = {}
        costs: dict[str, Costs] = {}
        on = await held.enter_async_context(_platform(stage, folder))
        running[HERE] = Here(on, texts, queries)
        costs[HERE] = Costs(f"{HERE}, SQLite {apsw.sqlite_lib_version()}", "wal/2")
        for name in SCRIPTS:
            program = held.enter_context(_started(name, folder, stage.folder / f"{name}-costs"))
            running[name] = Elsewhere(program)
            costs[name] = _told(name, await program.told())
        floor = _Floor(stage, len(texts[0]))
        held.push_async_callback(floor.close)
        turns = _Turns(running, costs, floor)
        await turns.fill(sizes.compared_passages)
        say("memories elsewhere: searches by turns")
        for _ in rounds(sizes.rounds, SECONDS):
            await turns.searches()
        say("memories elsewhere: stores by turns")
        for _ in rounds(sizes.rounds, SECONDS):
            await turns.stores(sizes.compared_stores)
    return costs, turns.floors


def _told(name: str, told: dict[str, Any]) -> Costs:
    shown = {"bare": "bare sqlite-vec", "LangGraph": "LangGraph Store"}.get(name, name)
    return Costs(f"{shown} {told['version']}, SQLite {told['sqlite']}", told["commits"])


@asynccontextmanager
async def _platform(stage: Stage, vectors: Path) -> AsyncIterator[Served]:
    async with served(stage, "compared-costs-here", BENCH_VECTORS=str(vectors)) as on:
        await on.start()
        yield on
