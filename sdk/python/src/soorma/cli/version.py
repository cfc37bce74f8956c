"""`soorma version`: which one this is, and where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from soorma.cli import screen
from soorma_common import __version__


def version(*, as_json: bool) -> None:
    """Shows version, Python and place."""
    place = str(Path(__file__).resolve().parents[1])
    python = sys.version.split(maxsplit=1)[0]
    if as_json:
        facts = {"version": __version__, "python": python, "executable": sys.executable, "installed": place}
        screen.say(json.dumps(facts, indent=2))
    else:
        screen.say(f"soorma {__version__} (Python {python}, {sys.executable})\ninstalled in {place}")
