"""Procedural memory: what storing, activating and rolling back does, as part of a commit."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import Forbidden, InvalidRequest, NotFound
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.procedural import (
    MOST_ACTIVATIONS,
    ActivateProcedure,
    AnyProcedureOperation,
    CountOutcome,
    RetireProcedure,
    RollBackProcedure,
    StoreProcedure,
    UseProcedure,
)
from soorma_common.semantic import MemoryDone, fields_of, object_text
from soorma_platform.engine.commands import Writes
from soorma_platform.engine.quarantine import Origins, labelled, origins_of, told
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.retrieval.splitting import split
from soorma_platform.engine.rows.passages import NEVER, NewPart, PassageRow
from soorma_platform.engine.rows.procedures import (
    ChangedProcedure,
    CountedOutcome,
    NewVersion,
    ProcedureFound,
    ProcedureKey,
    ProcedureRow,
    ProceduresFound,
    ProceduresNeed,
    SwitchedVersion,
    UsedVersion,
    VersionRow,
)

_encode = msgspec.json.Encoder(order="deterministic").encode
NO_VERSION = 0
"""Stands in the list of activations for a time in which none was active."""


class PreparedProcedure(msgspec.Struct):
    """A version to be stored, with what can be computed before the transaction.

    `text` is what is stored: its content, after `head` characters that say what it is for.
    """

    operation: StoreProcedure
    digest: bytes
    text: str
    head: int
    parts: list[NewPart]


_OnProcedure = ActivateProcedure | RollBackProcedure | RetireProcedure | CountOutcome
Change = PreparedProcedure | _OnProcedure | UseProcedure


def prepare(operation: AnyProcedureOperation) -> Change:
    """Tokenizes what a version is found by: its name, with its description or else its content."""
    if not isinstance(operation, StoreProcedure):
        return operation
    name, content = operation.name, operation.content.strip()
    about = operation.description and f"{name}: {operation.description.strip()}"
    text, head = (content, 0) if about is None else (f"{about}\n\n{content}", len(about) + 2)
    labels = [*terms.aliases([name]), kind_label(operation.kind)]
    labels += terms.labels(operation.tags, operation.source, fields_of(operation.metadata))
    parts = []
    for number, (start, end) in enumerate(split(text) if about is None else [(0, len(about))]):
        named = f"{name} {text[start:end]}" if about is None and number == 0 else text[start:end]
        packed, length = terms.packed(named, labels)
        parts.append(NewPart(number, start, end, length, packed))
    return PreparedProcedure(operation, _digest(operation, content), text, head, parts)


def kind_label(kind: str) -> int:
    """Returns the label by which skills, prompts and rules are told apart."""
    return terms.label("kind", kind)


def _digest(operation: StoreProcedure, content: str) -> bytes:
    """Returns what only equal versions have in common."""
    of = (
        content,
        operation.description,
        operation.agents,
        fields_of(operation.conditions),
        operation.tags,
        fields_of(operation.metadata),
        operation.source,
        operation.files,
    )
    return blake2b(_encode(of), digest_size=16).digest()


def add_need(need: ProceduresNeed, change: Change) -> None:
    """Adds what a change needs to know. A use reads nothing, and so conflicts with nothing."""
    if isinstance(change, UseProcedure):
        return
    need.keys.add(_key(change))
    if isinstance(change, PreparedProcedure):
        need.ids.add((change.operation.is_public, change.operation.id or ""))


def _key(change: PreparedProcedure | _OnProcedure) -> ProcedureKey:
    operation = change.operation if isinstance(change, PreparedProcedure) else change
    return ProcedureKey(operation.is_public, operation.kind, operation.name)


class Practising:
    """The decision on the procedures of one commit, each change on what the earlier ones left."""

    def __init__(
        self,
        found: ProceduresFound,
        origins: Origins,
        now: int,
        cause: Cause,
        plan_id: str | None,
        limits: Limits,
        *,
        by_handler: bool,
        user_id: str,
    ) -> None:
        self._found = found
        self._origins = origins
        self._now = now
        self._cause = cause
        self._plan_id = plan_id
        self._limits = limits
        self._by_handler = by_handler
        self._user_id = user_id
        self.writes: Writes = []

    def decide(self, change: Change) -> MemoryDone:
        """Returns the result of a change."""
        if isinstance(change, UseProcedure):
            return self._use(change)
        found = self._found.procedures.setdefault(_key(change), ProcedureFound())
        if isinstance(change, PreparedProcedure):
            return self._store(change, found)
        if self._by_handler:
            raise Forbidden(
                f"a handler proposes a {change.kind}; whether it is active, and how it has "
                "succeeded, is for an application to say"
            )
        if isinstance(change, CountOutcome):
            version = self._version(change, found, change.version)
            self.writes.append(CountedOutcome(version.passage, change.succeeded))
            return MemoryDone(version.id, "counted", version=version.version)
        if isinstance(change, ActivateProcedure):
            version = self._version(change, found, change.version)
            self._check_counts(change, version)
            return self._switch(found, version)
        if isinstance(change, RollBackProcedure):
            return self._roll_back(change, found)
        self._existing(change, found)
        return self._switch(found, None)

    def _store(self, prepared: PreparedProcedure, found: ProcedureFound) -> MemoryDone:
        operation = prepared.operation
        origins = self._origins.inherited(operation.derived_from)
        is_hidden = self._origins.hides_new(
            operation.source, origins, is_public=operation.is_public
        )
        may_activate = operation.activate and not self._by_handler and not is_hidden
        equal = next(
            (
                one
                for one in found.versions.values()
                if one.digest == prepared.digest
                and self._origins.hides(one, is_public=operation.is_public) == is_hidden
            ),
            None,
        )
        if equal is not None:  # not activated: a repeated store must not undo a rollback
            return MemoryDone(equal.id, "restated", version=equal.version)
        self._check_id(operation)
        procedure = found.row or self._begun(operation, found)
        self._limits.check(
            "procedure_versions",
            len(found.versions) + 1,
            "the number of versions of {} {!r}",
            operation.kind,
            operation.name,
        )
        procedure.newest += 1
        procedure.updated_at = self._now
        new = self._new(prepared, procedure, origins)
        version = new.version
        self.writes.append(new)
        if may_activate:
            self._close_active(found)
            _push(procedure, version.version)
            version.closed_at = new.passage.closed_at = NEVER
        found.versions[version.version] = version
        outcome = "quarantined" if is_hidden else "stored"
        return MemoryDone(version.id, outcome, version=version.version)

    def _check_id(self, operation: StoreProcedure) -> None:
        given = (operation.is_public, operation.id or "")
        if given in self._found.taken:
            raise InvalidRequest(
                f"a version with the id {operation.id!r} is stored already, and is another one; "
                "give this one its own id, or none"
            )
        self._found.taken.add(given)

    def _begun(self, operation: StoreProcedure, found: ProcedureFound) -> ProcedureRow:
        count = self._found.counts.get(operation.is_public, 0) + 1
        self._limits.check("procedures", count, "the number of procedures in one collection")
        self._found.counts[operation.is_public] = count
        found.row = ProcedureRow(operation.kind, operation.name)
        return found.row

    def _new(
        self, prepared: PreparedProcedure, procedure: ProcedureRow, origins: list[str]
    ) -> NewVersion:
        operation = prepared.operation
        passage = PassageRow(
            id=operation.id or "",
            digest=prepared.digest,
            recorded_at=self._now,
            updated_at=self._now,
            tags=_text(operation.tags),
            metadata=object_text(operation.metadata),
            source=operation.source,
            is_public=operation.is_public,
            is_proposed=self._by_handler,
            closed_at=self._now,
            derived_from=_text(operation.derived_from),
            trust="agent" if self._by_handler else "application",
            user_id=self._user_id,
            plan_id=operation.plan_id or self._plan_id,
            origins=_text(origins),
            cause=self._cause,
        )
        return NewVersion(
            procedure,
            passage,
            prepared.text,
            labelled(passage, prepared.parts),
            VersionRow(
                passage.id,
                procedure.newest,
                prepared.digest,
                self._now,
                self._by_handler,
                source=passage.source,
                cause=passage.cause,
                origins=passage.origins,
            ),
            prepared.head,
            operation.description and operation.description.strip(),
            _text(operation.agents),
            object_text(operation.conditions),
            operation.files,
            _encode({path: len(content) for path, content in operation.files.items()}).decode(),
            operation.derived_from,
        )

    def _switch(self, found: ProcedureFound, to: VersionRow | None) -> MemoryDone:
        """Makes a version the active one, or none, as the last activation."""
        assert found.row is not None  # noqa: S101 - it has versions
        active = _active(found)
        if to is not active:
            _push(found.row, NO_VERSION if to is None else to.version)
            self._set_active(found, to)
        if to is None:
            return MemoryDone("" if active is None else active.id, "retired")
        return MemoryDone(to.id, "activated", version=to.version)

    def _check_counts(self, change: ActivateProcedure, version: VersionRow) -> None:
        origins = origins_of(version)
        origin = self._origins.quarantined(origins, is_public=change.is_public)
        if origin is not None:
            raise InvalidRequest(
                f"version {version.version} of {change.kind} {change.name!r} is in quarantine, "
                f"because it comes from {told(origin)}: release that before it is made active"
            )

    def _roll_back(self, change: RollBackProcedure, found: ProcedureFound) -> MemoryDone:
        row = self._existing(change, found)
        # Versions may be forgotten, and what is in quarantine is not rolled back to.
        known = {NO_VERSION} | {
            number
            for number, version in found.versions.items()
            if not self._origins.hides(version, is_public=change.is_public) or version.is_active
        }
        activated = [number for number in decode(row.activated) if number in known]
        if not activated:
            raise InvalidRequest(
                f"{change.kind} {change.name!r} was never active, or all that was active is rolled "
                "back: activate a version"
            )
        active = _active(found)
        current = NO_VERSION if active is None else active.version
        while activated and activated[-1] == current:
            activated.pop()
        row.activated = _encode(activated).decode()
        to = found.versions.get(activated[-1]) if activated else None
        self._set_active(found, to)
        if to is None:
            return MemoryDone("", "retired")
        return MemoryDone(to.id, "activated", version=to.version)

    def _set_active(self, found: ProcedureFound, to: VersionRow | None) -> None:
        assert found.row is not None  # noqa: S101 - it has versions
        self._close_active(found)
        found.row.updated_at = self._now
        if to is not None:
            to.closed_at = NEVER
            to.is_proposed = False
            self.writes.append(SwitchedVersion(to, self._now))
        self.writes.append(ChangedProcedure(found.row))

    def _close_active(self, found: ProcedureFound) -> None:
        if (active := _active(found)) is not None:
            active.closed_at = self._now
            self.writes.append(SwitchedVersion(active, self._now))

    def _use(self, change: UseProcedure) -> MemoryDone:
        plan_id = change.plan_id or self._plan_id
        if plan_id is None:
            raise InvalidRequest(
                "a use names a plan, whose end is then counted: this one names none, and is not "
                "made in a handler of an event of a plan"
            )
        self.writes.append(UsedVersion(change.id, plan_id))
        return MemoryDone(change.id, "used")

    def _existing(self, change: _OnProcedure, found: ProcedureFound) -> ProcedureRow:
        if found.row is None or not found.versions:
            whose = "public " if change.is_public else ""
            raise NotFound(
                f"there is no {whose}{change.kind} {change.name!r}: it was never stored, or "
                "forgotten"
            )
        return found.row

    def _version(
        self, change: _OnProcedure, found: ProcedureFound, number: int | None
    ) -> VersionRow:
        self._existing(change, found)
        wanted = max(found.versions) if number is None else number
        if (version := found.versions.get(wanted)) is None:
            raise NotFound(
                f"{change.kind} {change.name!r} has no version {wanted}; its newest is "
                f"{max(found.versions)}"
            )
        return version


def _active(found: ProcedureFound) -> VersionRow | None:
    return next((one for one in found.versions.values() if one.is_active), None)


def _push(row: ProcedureRow, version: int) -> None:
    row.activated = _encode([*decode(row.activated), version][-MOST_ACTIVATIONS:]).decode()


def _text(names: list[str]) -> str:
    return _encode(names).decode()
