"""The guard that kills the agents of a `soorma run` which was killed: they do not notice that.

It is a process of its own, which runs this file. On the guard's standard input, each agent's
process signs on with `+PID`, and the supervisor signs it off with `-PID`. The end of the input
means that the supervisor is dead: each process that is still signed on is then killed, with its
process group. The events that the agents were handling are delivered again.
"""

import os
import signal
import sys


def main() -> None:
    """Reads the announcements to their end, and kills the processes that are left."""
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
