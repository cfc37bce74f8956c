"""The guard that ends the agents of a `soorma run` which was killed: they learn nothing of that.

A process of its own, started with this file. Each agent's process announces itself on its standard
input with `+PID`, the supervisor signs it off with `-PID`. The end of the input means that the
supervisor is dead: whoever is still announced is killed as it was, with its process group. What the
agents had in hand is delivered again.
"""

import os
import signal
import sys


def main() -> None:
    """Reads the announcements to their end, and kills what is left."""
    left: set[int] = set()
    for line in sys.stdin.buffer:
        number = int(line[1:])
        if line.startswith(b"+"):
            left.add(number)
        else:
            left.discard(number)
    for number in left:
        try:
            os.killpg(number, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    main()
