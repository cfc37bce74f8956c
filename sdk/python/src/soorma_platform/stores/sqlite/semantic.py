"""Semantic memory: collections of passages, loaded and written for commands, and read."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw

from soorma_common.forgetting import ForgetBody
from soorma_common.names import Scope
from soorma_common.times import milliseconds
from soorma_platform.engine.rows.passages import (
    EPISODIC,
    MOST_REPLACEMENTS,
    PROCEDURAL,
    SEMANTIC,
    ChangedPassage,
    CollectionFound,
    DoomedFound,
    DoomedNeed,
    ForgottenPassage,
    MemoriesFound,
    MemoriesNeed,
    MovedPassage,
    NewPassage,
    PartRow,
    PassageRow,
    Restatement,
    StoredPassage,
    VectorRow,
)
from soorma_platform.stores.ports.semantic import ALL_OPEN, Collections, Listed, ToForget
from soorma_platform.stores.sqlite import collections, episodic, likeness, procedural
from soorma_platform.stores.sqlite.connections import Connections
from soorma_platform.stores.sqlite.quarantines import origins_for
from soorma_platform.stores.sqlite.statements import Mutation, Select, execute, value, values
from soorma_platform.stores.sqlite.transactions import Loading, Writing

_passage = collections.passage
_text = Select("passage_text", StoredPassage)
_after = Select("passages_after", StoredPassage)
_of_external_id = Select("passages_of_external_id", StoredPassage)
_of_subject = Select("passages_of_subject", StoredPassage)
_parts = collections.part_row
_changes = Select("parts_after", PartRow)
_vectors = Select("vectors_after", VectorRow)
_update = Mutation("update_passage", PassageRow)
_publish = Mutation("publish_passage", PassageRow)
_insert_restatement = Mutation("insert_restatement", "collection", "passage", Restatement)
_REMOVALS = ("remove_restatements", "remove_sources")


def load(loading: Loading, need: MemoriesNeed) -> None:
    """Loads the passages that a commit may touch."""
    _load(loading.connection, loading.scope, need, loading.found.part(MemoriesFound))


def _load(
    connection: apsw.Connection, scope: Scope, need: MemoriesNeed, found: MemoriesFound
) -> None:
    if need.interactions or need.sessions:
        episodic.load(connection, scope, need, found)
    if not need.is_of_knowledge:
        return
    for user_id, part in ((scope.user_id, found.own), (None, found.public)):
        part.row = collections.collection.one(connection, scope.tenant_id, user_id, SEMANTIC)
        if part.row is not None:
            _load_collection(connection, part.row.id, need, part)
    if need.published and found.public.row is not None:
        for passage_id in need.published & found.own.names.keys():
            row = found.own.passages[found.own.names[passage_id]]
            like = MemoriesNeed(digests={row.digest: True})
            if row.external_id is not None:
                like.external_ids = {row.external_id: row.valid_from}
            if row.subject is not None and row.attribute is not None:
                like.pairs = {(row.subject, row.attribute): row.valid_from}
            _load_collection(connection, found.public.row.id, like, found.public)
    _load_followers(connection, found)
    if need.forgotten:
        _load_doomed(connection, scope, need, found)


def _load_collection(
    connection: apsw.Connection, within: int, need: MemoriesNeed, part: CollectionFound
) -> None:
    def note(number: int, *, with_parts: bool = False) -> None:
        if number not in part.passages and (row := _passage.one(connection, number)) is not None:
            part.passages[number] = row
        if with_parts and number not in part.parts:
            part.parts[number] = _parts.all(connection, number)

    for passage_id in need.ids | need.relabelled:
        number = _number_of(connection, within, passage_id)
        if number is not None:
            part.names[passage_id] = number
            note(number, with_parts=passage_id in need.relabelled)
    for digest, adds in need.digests.items():
        for number in values(connection, "passages_by_digest", within, digest):
            note(number, with_parts=adds)
    for external_id, after in need.external_ids.items():
        for number in values(connection, "passages_by_external_id", within, external_id, after):
            note(number)
    for pair, after in need.pairs.items():
        for number in values(connection, "passages_by_subject", within, *pair, after):
            note(number)
    for passage_id in need.published & part.names.keys():
        note(part.names[passage_id], with_parts=True)


def _load_followers(connection: apsw.Connection, found: MemoriesFound) -> None:
    """Loads what has replaced the passages that were loaded, what has replaced that, and so on."""
    parts = [part for part in (found.own, found.public) if part.row is not None]
    known = {row.id for part in parts for row in part.passages.values()}
    for row in [row for part in parts for row in part.passages.values()]:
        following, count = row.closed_by, 0
        while following is not None and following not in known and count <= MOST_REPLACEMENTS:
            known.add(following)
            count += 1
            following = _load_follower(connection, parts, following)


def _load_follower(
    connection: apsw.Connection, parts: Sequence[CollectionFound], passage_id: str
) -> str | None:
    """Loads a passage, wherever it is; returns what has replaced it."""
    for part in parts:
        within = 0 if part.row is None else part.row.id
        number = value(connection, "passage_by_id", within, passage_id)
        if number is not None and (row := _passage.one(connection, number)) is not None:
            part.passages[number] = row
            return row.closed_by
    return None


def _load_doomed(
    connection: apsw.Connection, scope: Scope, need: MemoriesNeed, found: MemoriesFound
) -> None:
    """Loads what goes with the passages that may be forgotten, in both collections.

    Also with those that the commit may replace before, as they go with what has replaced them.
    """
    ids = collections.derived_places(connection, scope)
    doomed: dict[str, list[int]] = {}
    for row in [*found.own.passages.values(), *found.public.passages.values()]:
        doomed[row.id] = values(connection, "doomed_passages", row.collection, row.number, *ids)
    for name in need.forgotten:
        for part in (found.own, found.public):
            if (number := part.names.get(name)) is not None:
                doomed[name] = doomed[part.passages[number].id]
    for number in {one for numbers in doomed.values() for one in numbers}:
        doomed_row = _passage.one(connection, number)
        if doomed_row is not None:
            part = found.public if doomed_row.is_public else found.own
            part.passages.setdefault(number, doomed_row)
    found.own.doomed = found.public.doomed = doomed


def _number_of(connection: apsw.Connection, collection: int, passage_id: str) -> int | None:
    number: int | None = value(connection, "passage_by_id", collection, passage_id)
    return number or value(connection, "restated_as", collection, passage_id)


def insert(writing: Writing, new: NewPassage) -> None:
    """Stores a passage with its parts."""
    connection, row = writing.connection, new.row
    user_id = None if row.is_public else writing.scope.user_id
    row.collection = collections.of(connection, writing.scope.tenant_id, user_id, SEMANTIC)
    row.number = collections.insert.value(connection, row, new.content)
    times = (row.recorded_at, row.closed_at, row.valid_from, row.valid_until)
    collections.put_parts(writing, row.collection, row.number, new.parts, times)
    for source in new.sources:
        execute(connection, "insert_source", row.collection, source, row.number)
    _restate(connection, row, new.restated)


def update(writing: Writing, changed: ChangedPassage) -> None:
    """Writes what has changed of a passage."""
    connection, row = writing.connection, changed.row
    _update.run(connection, row)
    if changed.is_indexed:
        times = (row.closed_at, row.valid_from, row.valid_until)
        collections.change_parts(
            connection, row.collection or 0, row.number or 0, times, changed.terms or {},
            row.until_before,
        )  # fmt: skip
    for source in changed.sources:
        execute(connection, "insert_source", row.collection, source, row.number)
    _restate(connection, row, changed.restated)


def _restate(connection: apsw.Connection, row: PassageRow, restated: list[Restatement]) -> None:
    for one in restated:
        _insert_restatement.run(connection, row.collection, row.number, one)


def forget(writing: Writing, forgotten: ForgottenPassage) -> None:
    """Removes a passage; what is left of it is the number that an index has to drop."""
    connection, row = writing.connection, forgotten.row
    for statement in _REMOVALS:
        execute(connection, statement, row.number)
    episodic.remove(connection, row.number or 0)
    procedural.remove(connection, row.number or 0)
    likeness.remove(connection, row.number or 0)
    collections.remove_parts(connection, row.collection or 0, row.number or 0)
    execute(connection, "remove_passage", row.number)
    execute(connection, "add_erasure")


def move(writing: Writing, moved: MovedPassage) -> None:
    """Moves a passage to the public collection of the tenant."""
    connection, row = writing.connection, moved.row
    before = row.collection or 0
    row.collection = collections.of(connection, writing.scope.tenant_id, None, SEMANTIC)
    _publish.run(connection, row)
    collections.move_parts(connection, before, row)
    for statement in ("move_restatements", "move_sources"):
        execute(connection, statement, row.number, row.collection)


class SqliteSemantic:
    """The port of semantic memory."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def collections(self, scope: Scope) -> Collections:
        with self._connections.reads() as connection:
            own = collections.collection.one(connection, scope.tenant_id, scope.user_id, SEMANTIC)
            public = collections.collection.one(connection, scope.tenant_id, None, SEMANTIC)
            quarantined = origins_for(connection, scope)
        return Collections(own, public, self._connections.now(), quarantined)

    async def parts(self, collection: int, after: int, limit: int) -> builtins.list[PartRow] | None:
        with self._connections.reads(together=True) as connection:
            if after and after < (value(connection, "whole_from", collection) or 0):
                return None
            return _changes.all(connection, collection, after, limit)

    async def vectors(
        self, collection: int, model: int, after: int, limit: int
    ) -> builtins.list[VectorRow]:
        with self._connections.reads() as connection:
            return _vectors.all(connection, collection, model, after, limit)

    async def texts(self, numbers: Sequence[int]) -> dict[int, StoredPassage]:
        with self._connections.reads() as connection:
            found = (_text.one(connection, number) for number in numbers)
            return {row.number: row for row in found if row is not None and row.number is not None}

    async def passage(self, scope: Scope, passage_id: str) -> StoredPassage | None:
        with self._connections.reads(together=True) as connection:
            for user_id in (scope.user_id, None):
                row = collections.collection.one(connection, scope.tenant_id, user_id, SEMANTIC)
                number = row and _number_of(connection, row.id, passage_id)
                if number is not None:
                    return _text.one(connection, number)
        return None

    async def list(
        self, scope: Scope, after: int, limit: int, which: Listed = ALL_OPEN
    ) -> tuple[builtins.list[StoredPassage], bool]:
        if (
            which.external_id is None
            and which._replace(is_public=False) != ALL_OPEN
            and (which.subject is None or which.attribute is None)
        ):
            # No index has what is wanted: it may look at all that are there.
            return await self._connections.overview.look(
                lambda connection: _listed(connection, scope, after, limit, which)
            )
        with self._connections.reads(together=True) as connection:
            return _listed(connection, scope, after, limit, which)

    async def to_forget(self, scope: Scope, body: ForgetBody, after: int, limit: int) -> ToForget:
        def look(connection: apsw.Connection) -> ToForget:
            before = None if body.before is None else milliseconds(body.before)
            found: builtins.list[tuple[int, int]] = []
            for user_id, kind in _wanted(scope, body):
                within = collections.collection.one(connection, scope.tenant_id, user_id, kind)
                if within is not None:
                    numbers = values(
                        connection, "passages_to_forget", within.id, after, scope.user_id,
                        body.plan_id, body.source, body.agent_id, body.event_id, body.session_id,
                        before, limit,
                    )  # fmt: skip
                    found += [(number, kind) for number in numbers]
            page = sorted(found)[:limit]
            following = page[-1][0] if len(found) >= limit else None
            return ToForget([one for one, _ in page], Counter(kind for _, kind in page), following)

        return await self._connections.overview.look(look)

    async def known(self, scope: Scope, need: MemoriesNeed) -> MemoriesFound:
        found = MemoriesFound()
        with self._connections.reads(together=True) as connection:
            _load(connection, scope, need, found)
        return found


def _listed(
    connection: apsw.Connection, scope: Scope, after: int, limit: int, which: Listed
) -> tuple[builtins.list[StoredPassage], bool]:
    user_id = None if which.is_public else scope.user_id
    within = collections.collection.one(connection, scope.tenant_id, user_id, SEMANTIC)
    if within is None:
        return [], False
    select = _after
    if which.external_id is not None:
        select = _of_external_id
    elif which.subject is not None and which.attribute is not None:
        select = _of_subject
    rows, is_cut = select.page(
        connection, within.id, after, limit + 1, which.is_proposed, which.source, which.tag,
        which.as_of, which.subject, which.attribute, which.external_id,
        scope.tenant_id, scope.user_id, which.is_quarantined, size=_size,
    )  # fmt: skip
    return rows[:limit], is_cut or len(rows) > limit


def _wanted(scope: Scope, body: ForgetBody) -> builtins.list[tuple[str | None, int]]:
    """Returns the collections that a filter is about: whose, and of which kind."""
    wanted: builtins.list[tuple[str | None, int]] = []
    if body.kind in ("all", "knowledge"):
        wanted += [(scope.user_id, SEMANTIC), (None, SEMANTIC)]
    if body.kind in ("all", "interactions"):
        wanted.append((scope.user_id, EPISODIC))
    if body.kind in ("all", "procedures"):
        wanted += [(scope.user_id, PROCEDURAL), (None, PROCEDURAL)]
    return wanted


def load_doomed(loading: Loading, need: DoomedNeed) -> None:
    """Loads passages to be forgotten, with all that goes with them."""
    found, seen = loading.found.part(DoomedFound), set()
    scope = loading.scope
    places = collections.derived_places(loading.connection, scope)
    for number in need.numbers:
        row = _passage.one(loading.connection, number)
        if row is None:
            continue
        for doomed in (
            [number]
            if need.alone
            else values(loading.connection, "doomed_passages", row.collection, number, *places)
        ):
            if doomed not in seen and (one := _passage.one(loading.connection, doomed)) is not None:
                seen.add(doomed)
                found.passages.append(one)
                kind = value(loading.connection, "kind_of_passage", doomed)
                found.kinds[kind] = found.kinds.get(kind, 0) + 1


def _size(row: StoredPassage) -> int:
    return len(row.content)


LOADERS: dict[type[Any], Any] = {MemoriesNeed: load, DoomedNeed: load_doomed}
WRITERS: dict[type[Any], Any] = {
    NewPassage: insert,
    ChangedPassage: update,
    ForgottenPassage: forget,
    MovedPassage: move,
}
