"""Histories of clients in processes of their own, recorded during a schedule of faults."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from linearizability import Call
from platform_process import PlatformProcess
from register import Request
from running import PythonProcess, unique

PROGRAM = (
    f"import runpy; runpy.run_path({str(Path(__file__).with_name('register_client.py'))!r}, "
    "run_name='__main__')"
)
PROCESSES, CLIENTS = 4, 8
STALLED_SECONDS = 60.0

Fault: TypeAlias = Literal[
    "platform is killed", "platform freezes", "client is killed", "client freezes"
]
FAULTS: tuple[Fault, ...] = (
    "platform is killed",
    "platform freezes",
    "client is killed",
    "client freezes",
    "platform is killed",
)


@dataclass(frozen=True)
class Plan:
    """The plan of a recording.

    All of it follows from its seed; what the faults hit depends on the machine.
    """

    chance: str
    calls: int
    mix: Literal["all", "increments"] = "all"
    racy: bool = False
    faults: tuple[tuple[float, Fault, int], ...] = ()
    """(share of the responses after which it happens, which fault, which process of clients)"""

    @classmethod
    def with_faults(cls, dice: Random, calls: int) -> Plan:
        """Each of the faults once or more, at moments in order."""
        shares = sorted(dice.uniform(0.05, 0.8) for _ in FAULTS)
        faults = dice.sample(FAULTS, len(FAULTS))
        # the first process lives, to have something to see
        victims = dice.choices(range(1, PROCESSES), k=len(FAULTS))
        return cls(
            str(dice.random()), calls, faults=tuple(zip(shares, faults, victims, strict=True))
        )


@dataclass
class Recorder:
    """Runs the clients, causes the faults, and keeps what the clients printed."""

    platform: PlatformProcess
    plan: Plan
    deaths: list[int] = field(default_factory=list)
    """when a platform was known to be dead, in ns of the monotonic clock"""

    def record(self) -> list[Call]:
        """The history."""
        with ExitStack() as stack:
            name = unique("plan")
            self._processes = [
                stack.enter_context(self._start(name, number)) for number in range(PROCESSES)
            ]
            for process in self._processes:
                process.go()
            for share, fault, victim in self.plan.faults:
                self._wait_for(share * CLIENTS * self.plan.calls)
                self._cause(fault, self._processes[victim])
            for process in self._processes:
                assert process.wait(STALLED_SECONDS) in (0, -signal.SIGKILL), process.lines[-20:]
            said = [[_parsed(line) for line in process.lines] for process in self._processes]
        return sorted(self._calls(said), key=lambda call: call.invoked)

    def _start(self, plan: str, number: int) -> PythonProcess:
        each = CLIENTS // PROCESSES
        names = ",".join(str(client) for client in range(number * each, number * each + each))
        return PythonProcess(
            self.platform, PROGRAM, MEMORY_URL=self.platform.memory_url, PLAN=plan, CLIENTS=names,
            CALLS=str(self.plan.calls), CHANCE=self.plan.chance, MIX=self.plan.mix,
            RACY=str(int(self.plan.racy)),
        )  # fmt: skip

    def _cause(self, fault: Fault, victim: PythonProcess) -> None:
        match fault:
            case "platform is killed":
                self.platform.kill()
                self.deaths.append(time.monotonic_ns())
                self.platform.start()
            case "platform freezes":
                os.kill(self.platform.pid, signal.SIGSTOP)
                try:
                    _wait(self._is_everybody_waiting)
                finally:
                    os.kill(self.platform.pid, signal.SIGCONT)
            case "client is killed":
                victim.kill()
            case "client freezes":
                victim.send(signal.SIGSTOP)
                try:
                    before = self._answers()
                    _wait(lambda: self._answers() >= before + CLIENTS or self._is_over(but=victim))
                finally:
                    victim.send(signal.SIGCONT)

    def _answers(self) -> int:
        return sum(len(process.lines) for process in self._processes) // 2

    def _is_over(self, but: PythonProcess | None = None) -> bool:
        return all(
            process is but or process.process.poll() is not None for process in self._processes
        )

    def _wait_for(self, answers: float) -> None:
        _wait(lambda: self._answers() >= answers or self._is_over())

    def _is_everybody_waiting(self) -> bool:
        """True if each living client has sent a request, and none gets a response."""
        alive = [process for process in self._processes if process.process.poll() is None]
        last = {
            line["client"]: line for process in alive for line in map(_parsed, list(process.lines))
        }
        return not any("told" in line or "lost" in line for line in last.values())

    def _calls(self, said: Iterable[list[dict[str, Any]]]) -> Iterable[Call]:
        for lines in said:
            asked: dict[str, dict[str, Any]] = {}
            for line in lines:
                if "asks" in line:
                    asked[line["client"]] = line
                elif "ends" not in line:
                    yield from self._call(asked.pop(line["client"]), line)
            yield from chain.from_iterable(self._call(line, {}) for line in asked.values())

    def _call(self, asks: dict[str, Any], told: dict[str, Any]) -> Iterable[Call]:
        """The call; nothing, if it had no visible effect."""
        client, request, invoked = asks["client"], Request(*asks["asks"]), asks["at"]
        if "told" in told:
            yield Call(client, request, invoked, told["at"], tuple(told["told"]))
        elif request.kind != "get":
            until = self._dead_by(told["lost"]) if "lost" in told else inf
            if until > invoked:
                yield Call(client, request, invoked, until, answered=False)

    def _dead_by(self, connected: int) -> float:
        """The time by which the platform of this connection and its requests were gone, or inf."""
        return min((death for death in self.deaths if death >= connected), default=inf)


def _parsed(line: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        raise AssertionError(f"a client failed: {line}") from None
    return found


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + STALLED_SECONDS
    while not condition():
        assert time.monotonic() < until, "the clients do not get on"
        time.sleep(0.002)


def tell(plan: Plan, calls: list[Call]) -> None:
    """Prints a summary of a history, for failures and for runs with -s."""
    unanswered = sum(not call.answered for call in calls)
    lasting = sum(call.returned == inf for call in calls)
    sys.stdout.write(
        f"\n{plan}: {len(calls)} calls, {unanswered} unanswered, {lasting} of them for ever\n"
    )
