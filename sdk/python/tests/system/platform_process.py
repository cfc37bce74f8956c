"""A platform as a process, to be killed and started again on the same ports and database."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

GATEWAY_PORT, REGISTRY_PORT, EVENTS_PORT, MEMORY_PORT = 8080, 8081, 8082, 8083
IDENTITY_PORT = 8085
BLOCK = range(8080, 8087)
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class PortReservation:
    """A port offset that nobody else on this machine uses: other tests, other workers, other runs.

    The claim is a set of UDP sockets on the same numbers, which no platform needs: the kernel
    releases it whatever becomes of this process. The numbers lie below those of outgoing
    connections.
    """

    def __init__(self) -> None:
        self._held = ExitStack()
        self.offset = next(self._offsets())

    def close(self) -> None:
        """Releases the offset."""
        self._held.close()

    def _offsets(self) -> Iterator[int]:
        first = os.getpid() * 7 % 2000
        for step in range(2000):
            offset = 2000 + (first + step) % 2000 * 10
            if self._claim(offset):
                yield offset
        raise RuntimeError("no free ports are left for a platform")

    def _claim(self, offset: int) -> bool:
        with ExitStack() as claimed:
            for port in BLOCK:
                guard = claimed.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                try:
                    guard.bind(("127.0.0.1", port + offset))
                    _try_to_listen(port + offset)
                except OSError:
                    return False
            self._held = claimed.pop_all()
        return True


def _try_to_listen(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen(1)


def answer_of(url: str, seconds: float = 2.0) -> dict[str, object] | None:
    """The service's response to GET /health, or None without one."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=seconds) as response:
            found: dict[str, object] = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, ValueError):
        return None
    return found


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without the Soorma settings of the person who runs the tests.

    In tests it names no certificates: aiohttp reads all of them when it is imported, for 50 ms, and
    what the tests start speaks plain HTTP on this machine. Benchmarks start what users start.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("SOORMA_")}
    if "PYTEST_VERSION" in os.environ:
        env["SSL_CERT_FILE"] = os.devnull
    return {**env, **more}


class PlatformProcess:
    """`python -m soorma_platform` on ports of its own, with its database and log in `folder`.

    start(), kill() (-9) and stop() (SIGTERM) can be called again and again: ports and database
    stay. As a context manager it is started, and is gone at the end whatever happened.
    """

    program: tuple[str, ...] = ("-m", "soorma_platform")

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.database = folder / "soorma.db"
        self.log = folder / "platform.log"
        self._reservation = PortReservation()
        self.offset = self._reservation.offset
        self.gateway_url = f"http://127.0.0.1:{GATEWAY_PORT + self.offset}"
        self.registry_url = f"http://127.0.0.1:{REGISTRY_PORT + self.offset}"
        self.memory_url = f"http://127.0.0.1:{MEMORY_PORT + self.offset}"
        self.events_url = f"http://127.0.0.1:{EVENTS_PORT + self.offset}"
        self.identity_url = f"http://127.0.0.1:{IDENTITY_PORT + self.offset}"
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        _all.add(self)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, "the platform does not run"
        return self._process.pid

    def start(self) -> Self:
        """Starts it and returns once all services are healthy."""
        assert self._process is None, "the platform runs already"
        env = clean_environment(
            **{
                "SOORMA_PORT_OFFSET": str(self.offset),
                "SOORMA_DATABASE": str(self.database),
                "SOORMA_ACCESS": "open",
                **self._env,
            }
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *self.program],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_healthy()
        return self

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Stops it with SIGTERM; returns its exit code. Does nothing if it does not run."""
        return self._end(signal.SIGTERM)

    def restart(self) -> Self:
        """Kills it with -9 and starts it again."""
        self.kill()
        return self.start()

    def close(self) -> None:
        """Ends it for good."""
        try:
            self.stop()
        finally:
            self._reservation.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_until_healthy(self) -> None:
        assert self._process is not None
        until = time.monotonic() + START_SECONDS
        while not all(
            answer_of(url)
            for url in (
                self.gateway_url,
                self.registry_url,
                self.events_url,
                self.memory_url,
                self.identity_url,
            )
        ):
            if self._process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
                continue
            code = self._process.poll()
            self.kill()
            said = self.log.read_text("utf-8", "replace")[-4000:]
            raise RuntimeError(f"the platform did not start (exit code {code}); it said:\n{said}")

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            return process.wait(STOP_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise


_all: weakref.WeakSet[PlatformProcess] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for platform in list(_all):
        platform.kill()
