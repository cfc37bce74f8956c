"""What the tests of the documentation share."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (
    HERE,
    HERE.parent / "system",
):  # `from doc_pages import …`, `from platform_process import …`
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
