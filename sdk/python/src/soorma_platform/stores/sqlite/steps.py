"""Steps of deliveries: what a handler has done outside the platform."""

from __future__ import annotations

from typing import Any

import apsw

from soorma_common.delivery import RecordedStep
from soorma_platform.engine.rows.deliveries import InHand
from soorma_platform.engine.rows.steps import StepNeed, StepRow, StepsFound
from soorma_platform.stores.sqlite.statements import Mutation, Select, value
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_recorded = Select("steps", RecordedStep)
_so_far = Select("steps_so_far", StepsFound)
_insert = Mutation("insert_step", StepRow)


def recorded(connection: apsw.Connection, group_id: int, position: int) -> list[RecordedStep]:
    """Returns the steps that earlier attempts of a delivery have recorded."""
    return _recorded.all(connection, group_id, position)


def load(loading: Loading, need: StepNeed) -> None:
    """Loads a step, if it was recorded before, and the number and size of all recorded ones."""
    if (delivery := loading.found.part(InHand).delivery) is None:
        return
    delivery_key = (delivery.group_id, delivery.position)
    found = _so_far.one(loading.connection, *delivery_key)
    steps = loading.found.part(StepsFound)
    if found is not None:
        steps.count, steps.size = found.count, found.size
    steps.recorded = value(loading.connection, "step", *delivery_key, need.name, need.occurrence)


def write(writing: Writing, row: StepRow) -> None:
    """Records the result of a step."""
    _insert.run(writing.connection, row)


LOADERS: dict[type[Any], Any] = {StepNeed: load}
WRITERS: dict[type[Any], Any] = {StepRow: write}
