"""`python -m soorma_platform`: the platform in the foreground, set up by the environment."""

from __future__ import annotations

import asyncio
import sys

from uvicorn.loops.auto import auto_loop_factory

from soorma_common.errors import SoormaError
from soorma_common.starting import exit_status
from soorma_platform import logs
from soorma_platform.runtime import run
from soorma_platform.settings import Settings


def main() -> int:
    """Runs the platform; returns 0 if it was told to stop, else the exit status of its error."""
    try:
        settings = Settings.from_env()
        logs.configure(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(run(settings))
    except SoormaError as error:
        sys.stderr.write(f"soorma: {error.message}\n")
        return exit_status(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
