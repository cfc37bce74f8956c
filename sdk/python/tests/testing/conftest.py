"""The setup that the tests of `soorma.testing` share: agents in the modules beside them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `from greeter import worker` in these tests
