"""Checks of payloads against the schemas of their events, at publishing."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeAlias

import msgspec

from soorma_common.errors import InvalidPayload
from soorma_common.events import Envelope
from soorma_common.registry import LARGEST_VERSION, Mode
from soorma_platform.engine.rows.registry import DefinitionRow
from soorma_platform.logs import Log
from soorma_platform.stores.ports.registry import DefinitionState, RegistryStore
from soorma_platform.work.checking import Apart, Check
from soorma_platform.work.schemas import Misfit

FRESH_SECONDS = 1.0
"""Time for which a definition is cached; another process may have changed it since."""

TURN_SECONDS = 0.01
"""Time for which the events of one commit are checked before others get a turn."""

LONGEST_VERSION = len(str(LARGEST_VERSION))
MOST_RULES = 4_096
MOST_SCHEMAS = 512

log = Log("soorma.payloads")


class Rule(msgspec.Struct, frozen=True):
    """A version of a definition, against which payloads are checked.

    Without a schema, that version does not exist.
    """

    type: str
    version: int
    mode: Mode
    schema: Check | None

    async def misfit(self, event: Envelope) -> Misfit | None:
        """Returns where the event's payload does not fit; None if it fits.

        An event without data has the payload null.
        """
        if self.schema is None:
            return Misfit("", f"event {self.type!r} has no version {self.version}")
        return await self.schema.misfit(
            b"null" if event.data is msgspec.UNSET else bytes(event.data)
        )


_RuleKey: TypeAlias = tuple[str, str, str | None]
"""tenant, type of the event, the schema it names"""


class PayloadCheck:
    """The checks of payloads against the definitions of their types, each in its mode.

    The definitions are those of the event's tenant. An event without one is not checked, which
    costs a table look-up. Definitions are read again after a second. Close it at the end.
    """

    def __init__(self, registry: RegistryStore, mode: Mode = "enforce") -> None:
        self._registry = registry
        self._mode = mode
        self._rules: dict[_RuleKey, tuple[float, Rule | None]] = {}
        self._schemas: dict[str, Check] = {}
        self._apart = Apart()

    async def check(self, tenant_id: str, events: list[Envelope]) -> None:
        """Raises InvalidPayload if a payload must fit its schema and does not.

        Then none of the events is published.
        """
        since = time.monotonic()
        for index, event in enumerate(events):
            if time.monotonic() - since > TURN_SECONDS:
                await asyncio.sleep(0)
                since = time.monotonic()
            key = (tenant_id, event.type, event.payload_schema_name)
            until, rule = self._rules.get(key, (0.0, None))
            if time.monotonic() >= until:
                rule = await self._read(key)
            if rule is not None and (misfit := await rule.misfit(event)) is not None:
                self._tell(
                    rule,
                    event,
                    misfit,
                    tenant_id,
                    f"event {index + 1} of {len(events)}, " * (len(events) > 1),
                )

    async def check_schema(self, what: str, schema: Any) -> None:
        """Raises InvalidValue if payloads cannot be checked against this schema."""
        await Check(what, schema, self._apart).make()

    async def close(self) -> None:
        """Ends the process for checks."""
        await self._apart.close()

    def forget(self) -> None:
        """Discards the cached definitions, as they have changed."""
        self._rules.clear()

    def _tell(
        self, rule: Rule, event: Envelope, misfit: Misfit, tenant_id: str, which: str
    ) -> None:
        if rule.mode == "warn":
            log.warning(
                "payload does not fit its schema",
                tenant_id=tenant_id,
                event_id=event.id,
                event_type=event.type,
                version=rule.version,
                path=misfit.path,
                expected=misfit.expected,
            )
            return
        where = f"at {misfit.path}" if misfit.path else "as a whole"
        raise InvalidPayload(
            f"{which}the payload of {event.type!r} does not fit version {rule.version} of "
            f"{rule.type!r}: "
            f"{where}, {misfit.expected}",
            path=misfit.path,
            expected=misfit.expected,
            event_type=event.type,
            schema=f"{rule.type}@{rule.version}",
        )

    async def _read(self, key: _RuleKey) -> Rule | None:
        rule = await self._find(*key)
        if len(self._rules) >= MOST_RULES:
            self._rules.clear()
        self._rules[key] = (time.monotonic() + FRESH_SECONDS, rule)
        return rule

    async def _find(self, tenant_id: str, event_type: str, named: str | None) -> Rule | None:
        if named is not None:
            if found := await self._registry.definition(tenant_id, named, None):
                return self._rule(found)
            name, _, version = named.rpartition("@")
            if name and version.isascii() and version.isdigit() and len(version) <= LONGEST_VERSION:
                if found := await self._registry.definition(tenant_id, name, int(version)):
                    return self._rule(found)
                if newest := await self._registry.definition(tenant_id, name, None):
                    return self._without(newest, int(version))
        found = await self._registry.definition(tenant_id, event_type, None)
        return None if found is None else self._rule(found)

    def _rule(self, found: DefinitionState) -> Rule | None:
        row = found.definition
        mode = row.mode or self._mode
        if mode == "off" or row.schema == "null":
            return None
        return Rule(row.type, row.version, mode, self._schema(row))

    def _without(self, newest: DefinitionState, version: int) -> Rule | None:
        row = newest.definition
        mode = row.mode or self._mode
        return None if mode == "off" else Rule(row.type, version, mode, None)

    def _schema(self, row: DefinitionRow) -> Check:
        text = row.schema
        if (schema := self._schemas.pop(text, None)) is None:
            schema = Check(
                f"the schema of event {row.type!r}", msgspec.json.decode(text), self._apart
            )
            while len(self._schemas) >= MOST_SCHEMAS:
                del self._schemas[next(iter(self._schemas))]
        self._schemas[text] = schema  # the last used are at the end
        return schema
