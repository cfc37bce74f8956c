"""A process with a few clients that call one key at once, and print their requests and responses.

Settings come from the environment: MEMORY_URL, PLAN, CLIENTS (names, with commas), CALLS (of each),
CHANCE (a seed), MIX (the frequency of each request), RACY (1: increments read, then write: the
fault that the checker must find). Each client prints one line of JSON for each request, one for its
response or loss, and one at its end. A line on stdin lets them begin.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Asked: TypeAlias = tuple[str, int | None, int | None]
MIXES = {
    "all": {"get": 4, "put": 3, "put if": 4, "delete": 1, "delete if": 1, "increment": 5},
    "increments": {"increment": 1},
}
PATIENCE = 60.0
"""Seconds to wait for a response, and for a platform that is away."""


class Client:
    """A client that sends one request after another on a connection that it keeps."""

    def __init__(self, name: str, dice: Random, plan: str, address: tuple[str, int]) -> None:
        self.name = name
        self.dice = dice
        self.plan = plan
        self.headers = {
            "X-Tenant-ID": "tenant",
            "X-User-ID": "user",
            "Content-Type": "application/json",
        }
        self.seen = 0  # the revision of the key as this client knows it
        self._address = address
        self._connection: http.client.HTTPConnection | None = None
        self._connected = 0

    def run(self, calls: int, mix: dict[str, int], *, racy: bool) -> None:
        """Makes so many calls."""
        wishes = self.dice.choices(list(mix), list(mix.values()), k=calls)
        for number, wish in enumerate(wishes):
            repeats = self.dice.random() < 0.5
            asked = self._request(wish, number)
            ask = self._read_then_write if racy and asked[0] == "increment" else self._ask
            self._connect()
            self._say(asks=asked)
            try:
                told = self._until_told(ask, asked, number) if repeats else ask(asked, {})
            except (OSError, http.client.HTTPException):
                self._say(lost=self._connected)
                self._connection = None
            else:
                self._say(told=told)
        self._say(ends=True)

    def _request(self, wish: str, number: int) -> Asked:
        kind = wish.split(maxsplit=1)[0]
        value = {
            "put": int(self.name) * 1_000_000 + number * 1_000,
            "increment": self.dice.randint(1, 9),
        }.get(kind)
        return kind, value, self.seen if wish.endswith("if") else None

    def _until_told(self, ask: Callable[..., Any], asked: Asked, number: int) -> Any:
        """Repeats a request, under the same idempotency key, until it gets a response."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connect()
                return ask(asked, {"Idempotency-Key": f"{self.name} {number}"})
            except (OSError, http.client.HTTPException):
                self._connection = None
                if time.monotonic() > until:
                    raise

    def _ask(self, asked: Asked, more: dict[str, str]) -> tuple[Any, ...]:
        kind, value, expected = asked
        if expected is not None:
            more = {
                **more,
                **({"If-Match": f'"{expected}"'} if expected else {"If-None-Match": "*"}),
            }
        if kind == "increment":
            part = {
                "plan_id": self.plan,
                "operations": [{"op": "increment", "key": "key", "by": value}],
            }
            status, found = self._exchange("POST", "/v1/memory/commit", {"plans": [part]}, more)
            found = found["plans"][0] if status == 200 else found
        else:
            body = {"value": value} if kind == "put" else None
            path = f"/v1/memory/working/{self.plan}/key"
            status, found = self._exchange(
                {"get": "GET", "put": "PUT"}.get(kind, "DELETE"), path, body, more
            )
        return self._told(kind, status, found)

    def _told(self, kind: str, status: int, found: dict[str, Any]) -> tuple[Any, ...]:
        if status == 412:
            self.seen = found["current_revision"]
            return "conflict", self.seen
        if status == 404:
            self.seen = 0
            return ("missing",)
        if status != 200:
            raise RuntimeError(f"the platform responded with {status}: {found}")
        self.seen = 0 if kind == "delete" else found["revision"]
        if kind == "delete":
            return "deleted", found["deleted"], found["revision"]
        value = found["results"][0] if kind == "increment" else found["value"]
        return ("value" if kind == "get" else "done"), value, found["revision"]

    def _read_then_write(self, asked: Asked, more: dict[str, str]) -> tuple[Any, ...]:
        """Reads, lets others write in between, then writes: what an increment must not do."""
        first = self._ask(("get", None, None), {})
        for _ in range(20):
            if self._ask(("get", None, None), {}) != first:
                break
        value = (first[1] if first[0] == "value" else 0) + (asked[1] or 0)
        return self._ask(("put", value, None), more)

    def _exchange(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        assert self._connection is not None
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {**self.headers, **headers})
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def _connect(self) -> None:
        """Returns with a connection, once the platform takes one."""
        until = time.monotonic() + PATIENCE
        while self._connection is None:
            connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE)
            connection.auto_open = 0  # else it would connect again by itself, and nobody knew when
            try:
                connection.connect()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)
            else:
                self._connection, self._connected = connection, time.monotonic_ns()

    def _say(self, **what: Any) -> None:
        """One line, written at once: those of other threads do not mix with it."""
        line = json.dumps({"client": self.name, "at": time.monotonic_ns(), **what})
        os.write(1, f"{line}\n".encode())


def main() -> None:
    """Runs the clients, each in a thread of its own."""
    env = os.environ
    parts = urlsplit(env["MEMORY_URL"])
    address = (parts.hostname or "", parts.port or 80)
    mix, racy = MIXES[env["MIX"]], env["RACY"] == "1"
    threads = []
    for name in env["CLIENTS"].split(","):
        client = Client(name, Random(f"{env['CHANCE']} {name}"), env["PLAN"], address)
        threads.append(
            threading.Thread(
                target=client.run, args=(int(env["CALLS"]), mix), kwargs={"racy": racy}
            )
        )
    sys.stdin.readline()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
