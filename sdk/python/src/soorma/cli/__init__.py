"""The `soorma` command.

One noun a module; those with commands of their own are imported when they are named (`nouns`). Only `runner`
imports the platform, and only when it is asked to run or prepare one (`checks` reads its settings): the rest
starts and looks at it from outside, so that `soorma version` costs little more than typer.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command of `sys.argv` and exits with its code (`soorma.cli.exits.Exit`)."""
    from soorma.cli.app import run  # noqa: PLC0415 - importing soorma.cli alone costs nothing

    sys.exit(run(sys.argv[1:]))
