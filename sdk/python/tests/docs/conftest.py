"""Fixtures of the documentation tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
# `from doc_pages import …`, `from platform_process import …`
for folder in (HERE, HERE.parent / "system"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
