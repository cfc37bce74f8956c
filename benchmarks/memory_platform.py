"""A platform as it is, but for its embedder: that of texts made up by chance, which takes no time.

Where the variable BENCH_VECTORS names a folder, the vectors are those that its files give.

SIGUSR1 begins to look how long the event loop is held, and ends it, by turns. The end writes what
was seen into FILE, in the folder of the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))  # the Python of a platform leaves it out

import memories_material
from made_texts import MadeEmbedder

from soorma_platform import logs, runtime
from soorma_platform.settings import Settings
from soorma_platform.work.embedding.protocol import Embedder

try:
    from soorma_platform import assembly
except ImportError:  # an older checkout, measured for a comparison
    PLACES: tuple[ModuleType, ...] = (runtime,)
else:
    PLACES = (runtime, assembly)

FILE = "loop.json"
PERIOD = 0.001
PATIENCE = 10.0


Held = dict[str, float]
"""The longest times between two looks, in seconds.

`late` is by the clock, and counts what other threads and processes do; `worked` is the processor
time of the loop's own thread.
"""


@contextmanager
def held_by(pid: int, folder: Path) -> Iterator[Held]:
    """Yields what is filled in at the end: how long a platform's loop was held meanwhile."""
    file, found = folder / FILE, Held(late=0.0, worked=0.0)
    os.kill(pid, signal.SIGUSR1)
    yield found
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            raise RuntimeError("the platform does not say how long its loop was held")
        time.sleep(0.005)
    found.update(json.loads(file.read_text("utf-8")))
    file.unlink()


class _Looks:
    """Looks each millisecond what has passed since the last time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._task: asyncio.Task[None] | None = None
        self._held = Held(late=0.0, worked=0.0)

    def turn(self) -> None:
        """Begins, or ends and writes what was seen."""
        if self._task is None:
            self._held = Held(late=0.0, worked=0.0)
            self._task = asyncio.create_task(self._look())
            return
        self._task.cancel()
        self._task = None
        scratch = self._file.with_suffix(".new")
        scratch.write_text(json.dumps(self._held), "utf-8")
        scratch.rename(self._file)

    async def _look(self) -> None:
        loop, held = asyncio.get_running_loop(), self._held
        now, worked = loop.time(), time.thread_time()
        while True:
            await asyncio.sleep(PERIOD)
            before, worked_before = now, worked
            now, worked = loop.time(), time.thread_time()
            held["late"] = max(held["late"], now - before - PERIOD)
            held["worked"] = max(held["worked"], worked - worked_before)


async def serve(settings: Settings) -> None:
    """Serves until it is told to stop."""
    looks = _Looks(settings.database.parent / FILE)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, looks.turn)
    await runtime.run(settings)


def _choose(embedder_of: Callable[..., Embedder]) -> None:
    """Replaces the choice of an embedder, where this checkout makes it."""
    made = [module for module in PLACES if hasattr(module, "embedder_of")]
    if not made:
        raise RuntimeError("nothing chooses an embedder any more: the platform takes its own")
    for module in made:
        vars(module)["embedder_of"] = embedder_of


def main() -> None:
    """Runs the platform, set up by the environment."""
    from uvicorn.loops.auto import auto_loop_factory  # noqa: PLC0415 - only the process needs it

    settings = Settings.from_env()
    logs.configure(settings.log_level, settings.log_format)
    folder = os.environ.get("BENCH_VECTORS")
    embedder = memories_material.GivenEmbedder(Path(folder)) if folder else MadeEmbedder()
    _choose(lambda *_: embedder)  # else the settings choose
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        runner.run(serve(settings))


if __name__ == "__main__":
    main()
