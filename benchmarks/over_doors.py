"""Figures of the door: requests with a key on a closed platform, beside the same on an open one."""

from __future__ import annotations

from statistics import median

from load import Result
from measuring import READ, Figure, ratio_of, rounds, say, times
from platform_process import PlatformProcess
from stage import Stage

from soorma_platform.identity.credentials import fresh_key

CONNECTIONS = 32
SECONDS = 60
MOST = 1.08
"""Of the processor time of an open platform."""
KEYS = 100


def keyed_requests(stage: Stage) -> None:
    """The server's processor time for GET and PUT with a key, against open mode."""
    say("requests with a key, by turns with an open platform")
    credential = fresh_key().credential
    file = stage.folder / "keys.toml"
    file.write_text(f'[[keys]]\nname = "app"\nrole = "app"\ncredential = "{credential}"\n')
    closed = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
    with (
        stage.new_platform("door-open") as believing,
        stage.new_platform("door-closed", **closed) as checking,
    ):
        heads = {believing: "", checking: f"Authorization: Bearer {credential}\r\n"}
        for of, head in heads.items():
            stage.put("door", of=of, head=head, requests=KEYS, keys=KEYS)
        for method in ("GET", "PUT"):
            _compare(stage, method, heads)


def _compare(stage: Stage, method: str, heads: dict[PlatformProcess, str]) -> None:
    count = stage.sizes.cpu_requests
    cost: list[list[float]] = [[], []]
    for turn in rounds(2 * stage.sizes.rounds + 1, SECONDS, least=3):
        for number, (of, head) in enumerate(heads.items()):
            found = _requests(stage, method, of, head, count)
            if turn:  # the first round warms up
                cost[number].append(max(found.cpu, 1e-3) / count)
    ratio = ratio_of(zip(cost[1], cost[0], strict=True))
    believed, checked = median(cost[0]), median(cost[1])
    stage.report.figures.append(
        Figure(
            f"server CPU of a {method} with a key, {CONNECTIONS} connections",
            f"{checked * 1e6:.0f} µs",
            f"without one, open: {believed * 1e6:.0f} µs",
            times(ratio),
            f"≤ {MOST} ×",  # noqa: RUF001
            ratio <= MOST,
            READ,
        )
    )


def _requests(stage: Stage, method: str, of: PlatformProcess, head: str, count: int) -> Result:
    how = stage.get if method == "GET" else stage.put
    return how("door", of=of, head=head, requests=count, connections=CONNECTIONS, keys=KEYS)
