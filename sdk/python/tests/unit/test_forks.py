"""Event loops that have agents are remembered without being kept alive."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

from soorma.runtime import process_forks


def test_a_loop_that_is_thrown_away_with_its_agents_is_not_kept() -> None:
    loop = asyncio.new_event_loop()
    process_forks.enter(loop)
    process_forks.enter(loop)
    known = ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert known() is None


def test_a_loop_is_known_until_its_last_agent_has_ended() -> None:
    loop = asyncio.new_event_loop()
    before = len(process_forks._loops)
    process_forks.enter(loop)
    process_forks.enter(loop)
    process_forks.leave(loop)
    assert len(process_forks._loops) == before + 1
    process_forks.leave(loop)
    process_forks.leave(loop)
    assert len(process_forks._loops) == before
    loop.close()
