"""Dead letters: looked up, and delivered again."""

from __future__ import annotations

from typing import Any

from soorma_common.names import Scope
from soorma_platform.engine.rows.dead_letters import (
    LetterFound,
    LetterNeed,
    LetterReplayed,
    LetterRow,
)
from soorma_platform.stores.sqlite import plans
from soorma_platform.stores.sqlite.owners import among
from soorma_platform.stores.sqlite.statements import Select, execute, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_letter = Select("dead_letter", LetterRow)


def load(loading: Loading, need: LetterNeed) -> None:
    """Loads the dead letter, its plan, and the subscription that takes its event now."""
    connection, found = loading.connection, loading.found.part(LetterFound)
    assert not isinstance(loading.whose, Scope)  # noqa: S101 - whoever made the command has seen to it
    letter = found.letter = _letter.one(connection, need.number, among(loading.whose))
    if letter is None:
        return
    if letter.plan_id is not None:
        found.plan = plans.plan_row(connection, letter.scope, letter.plan_id, loading.moment.wall)
    found.subscription_id = value(connection, "stands_in", need.number)


def replay(writing: Writing, row: LetterReplayed) -> None:
    """Delivers a dead letter again."""
    connection, letter = writing.connection, row.letter
    execute(connection, "remove_dead_letter", letter.id)
    if letter.parked:
        execute(connection, "unpark", row.at, letter.position, letter.group_id)
    else:
        delivery = (letter.group_id, row.subscription_id, letter.position, letter.lane)
        execute(connection, "replay_delivery", *delivery, row.at)
    writing.notice.groups.add(letter.group_id)


LOADERS: dict[type[Any], Any] = {LetterNeed: load}
WRITERS: dict[type[Any], Any] = {LetterReplayed: replay}
