"""Helpers for tests with a running platform: clients, agents as processes, bounded waits."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

from platform_process import PlatformProcess, clean_environment

from soorma import Agent, ClientConfig, PlatformContext, RetryPolicy

WAIT = 15.0
"""Seconds after which a test gives up waiting for something that should come at once."""

AT_ONCE = RetryPolicy(first_delay=0, jitter=0)
"""Retries that cost a test no time."""


def unique(what: str) -> str:
    """A name that no other test uses."""
    return f"{what}-{uuid4().hex[:12]}"


@contextmanager
def platform_in(folder: Path, **env: str) -> Iterator[PlatformProcess]:
    """A platform with settings of its own; gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with PlatformProcess(folder, env) as running:
        yield running


def config_of(platform: PlatformProcess, **more: Any) -> ClientConfig:
    """The configuration of a client of this platform, whatever the environment says."""
    addresses = {"memory_url": platform.memory_url, "events_url": platform.events_url}
    return ClientConfig(registry_url=platform.registry_url, **addresses, **more)


def context_of(platform: PlatformProcess, source: str = "test", **more: Any) -> PlatformContext:
    """The platform from outside any handler."""
    return PlatformContext.on(config_of(platform, **more), source)


def another(agent: Agent, name: str | None = None, **more: Any) -> Agent:
    """An agent of the same platform, tenant and retries; a replica of it if the name is its own."""
    return Agent(name or unique("agent"), config=agent._config, retry=agent._retry, **more)


def addresses_of(platform: PlatformProcess) -> dict[str, str]:
    """The variables that name this platform to the SDK."""
    return {
        "SOORMA_MEMORY_URL": platform.memory_url,
        "SOORMA_EVENT_SERVICE_URL": platform.events_url,
        "SOORMA_REGISTRY_URL": platform.registry_url,
        "SOORMA_IDENTITY_URL": platform.identity_url,
    }


@contextmanager
def environment_of(platform: PlatformProcess) -> Iterator[dict[str, str]]:
    """Sets what a user exports to reach this platform as this process's environment."""
    saved = dict(os.environ)
    named = addresses_of(platform)
    for name in [name for name in os.environ if name.startswith("SOORMA_")]:
        del os.environ[name]
    os.environ.update(named)
    try:
        yield named
    finally:
        os.environ.clear()
        os.environ.update(saved)


async def eventually(check: Callable[[], Any | Awaitable[Any]], seconds: float = WAIT) -> Any:
    """The first true thing that `check` returns; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


class Seen(list[Any]):
    """The values that a handler or listener was given, for a test to wait for."""

    async def until(self, count: int, seconds: float = WAIT) -> list[Any]:
        """All of it, once there are `count`."""
        try:
            await eventually(lambda: len(self) >= count, seconds)
        except TimeoutError:
            raise AssertionError(
                f"{len(self)} of {count} came within {seconds} s: {list(self)[:20]}"
            ) from None
        return list(self)


# raw HTTP


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a problem document, after a look at its form."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        problem = self.json
        assert problem["status"] == self.status
        assert problem["type"].startswith("urn:soorma:problem:")
        assert problem["title"]
        assert problem["detail"]
        return str(problem["code"])


class Raw:
    """A service over plain HTTP, as any other program sees it; one connection per request."""

    def __init__(self, url: str, tenant_id: str | None = None, user_id: str | None = None) -> None:
        self.url = url
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self.headers: dict[str, str] = {}
        if tenant_id is not None:
            self.headers["X-Tenant-ID"] = tenant_id
        if user_id is not None:
            self.headers["X-User-ID"] = user_id

    def __call__(
        self,
        method: str,
        path: str,
        content: Any = ...,
        *,
        body: bytes | None = None,
        **headers: str | None,
    ) -> Answer:
        """One request. `content` is sent as JSON, `body` as it is; a header of None is left out."""
        given: dict[str, str | None] = dict(self.headers)
        if content is not ...:
            body = json.dumps(content).encode()
        if body is not None:
            given["Content-Type"] = "application/json"
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        sent = {name: value for name, value in given.items() if value is not None}
        with closing(http.client.HTTPConnection(*self._address, timeout=WAIT)) as connection:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def stream(self, path: str, **headers: str) -> SentEvents:
        """Server-sent events, as they come."""
        return SentEvents(
            self._address,
            path,
            {**self.headers, **{n.replace("_", "-"): v for n, v in headers.items()}},
        )

    def is_healthy(self) -> bool:
        """True if GET /health reports health."""
        answer = self("GET", "/health")
        return answer.status == 200 and answer.json["status"] == "ok"


class SentEvents:
    """A stream of server-sent events.

    Use it as a context manager; `status` is that of the response.
    """

    def __init__(self, address: tuple[str, int], path: str, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=WAIT)
        self._connection.request("GET", path, headers=dict(headers))
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._answer.close()
        self._connection.close()

    def next(self) -> tuple[str, str | None, Any]:
        """The next block that is an event: its kind, its id and its data."""
        while True:
            fields = self.block()
            if "data" in fields:
                return fields.get("event", "message"), fields.get("id"), json.loads(fields["data"])

    def block(self) -> dict[str, str]:
        """The next block, comments left out."""
        fields: dict[str, str] = {}
        while line := self._answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
        return fields


def path_of(*names: str) -> str:
    """The path of a plan, or of a key of it."""
    return "/v1/memory/working/" + "/".join(quote(name, safe="") for name in names)


# processes

_PRELUDE = """
import asyncio, os, sys, time
from soorma import Agent, EventClient, MemoryClient, PlatformContext, Reject, Retry, RetryPolicy, \
Worker, WorkflowState
def say(*words):
    print(*words, flush=True)
"""


class PythonProcess:
    """A Python program that reaches the platform by its environment; its output is kept by line.

    Use it as a context manager: it is gone at the end, whatever happened.
    """

    def __init__(self, platform: PlatformProcess, program: str, **env: str) -> None:
        known = addresses_of(platform)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PRELUDE + program],
            cwd=platform.folder,
            env=clean_environment(**known, **env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        for number in (signal.SIGCONT, signal.SIGKILL):
            self.send(number)
        self.process.wait(WAIT)
        self._reader.join(WAIT)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):
            for line in self.process.stdout:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    def send(self, number: signal.Signals) -> None:
        """Signals the process; fine if it is gone."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def go(self) -> None:
        """Sends the program the line that it waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kills it with -9, and waits until it is gone."""
        self.send(signal.SIGKILL)
        self.process.wait(WAIT)

    def wait(self, seconds: float = WAIT) -> int:
        """The exit code, once all output was read."""
        code = self.process.wait(seconds)
        self._reader.join(WAIT)
        return code

    def until_blocking(self, text: str, count: int = 1, seconds: float = WAIT) -> str:
        """The `count`-th line that holds `text`."""
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                found = [line for line in self.lines if text in line]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(
                        f"{text!r} was not said {count} times in {seconds} s:\n"
                        + "\n".join(self.lines)
                    )
                self._news.wait(left)

    async def until(self, text: str, count: int = 1, seconds: float = WAIT) -> str:
        """Waits for a condition; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.until_blocking, text, count, seconds)

    async def subscribed(self, count: int = 1) -> Self:
        """Returns itself, once its agent has reported that it is subscribed."""
        await self.until("is subscribed to", count)
        return self
