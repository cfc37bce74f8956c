"""Semantic memory: what storing, updating and forgetting passages does, as part of a commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from soorma_common.causes import Cause
from soorma_common.errors import Conflict, Forbidden, InvalidRequest, NotFound
from soorma_common.json_text import decode
from soorma_common.limits import Limits
from soorma_common.quarantine import source_origin
from soorma_common.semantic import (
    MOST_ALIASES,
    MOST_SOURCES,
    MOST_TAGS,
    AnyKnowledgeOperation,
    ForgetKnowledge,
    MemoryDone,
    PublishKnowledge,
    StoreKnowledge,
    UpdateKnowledge,
    fields_of,
    object_text,
)
from soorma_common.times import milliseconds
from soorma_platform.engine.commands import Writes
from soorma_platform.engine.quarantine import (
    Origins,
    Sourced,
    bounded,
    labelled,
    labels,
    labels_of,
    origins_of,
    packed_labels,
    told,
)
from soorma_platform.engine.replacing import Replaced, ends_with, in_its_place, replaced
from soorma_platform.engine.retrieval import terms
from soorma_platform.engine.retrieval.splitting import split
from soorma_platform.engine.rows.passages import (
    ALWAYS,
    NEVER,
    ChangedPassage,
    CollectionFound,
    ForgottenPassage,
    MemoriesFound,
    MemoriesNeed,
    MovedPassage,
    NewPart,
    NewPassage,
    PassageRow,
    Restatement,
)
from soorma_platform.engine.rows.quarantines import AddedOrigins, OriginsFound

_encode = msgspec.json.Encoder().encode
_TO_SUPERSEDE = "that it is to supersede"


class PreparedPassage(msgspec.Struct):
    """A passage to be stored, with what can be computed before the transaction."""

    operation: StoreKnowledge
    digest: bytes
    parts: list[NewPart]


Change = PreparedPassage | UpdateKnowledge | PublishKnowledge | ForgetKnowledge


def prepare(operation: AnyKnowledgeOperation) -> Change:
    """Tokenizes a passage: for a mebibyte this takes tens of milliseconds, so never in a commit."""
    if not isinstance(operation, StoreKnowledge):
        return operation
    operation.content = operation.content.strip()
    labels = _labels(
        operation.aliases, operation.tags, operation.source, fields_of(operation.metadata)
    )
    parts = []
    for number, (start, end) in enumerate(split(operation.content)):
        of_part = labels if number == 0 else [one for one in labels if one not in _names(operation)]
        packed, length = terms.packed(operation.content[start:end], of_part)
        parts.append(NewPart(number, start, end, length, packed))
    return PreparedPassage(operation, _digest(operation), parts)


def _names(operation: StoreKnowledge) -> frozenset[int]:
    """Returns the labels of aliases: they name a passage as a whole, and so its first part."""
    return frozenset(terms.aliases(operation.aliases))


def _labels(
    aliases: Iterable[str], tags: Iterable[str], source: str | None, metadata: Any
) -> list[int]:
    return [*terms.aliases(aliases), *terms.labels(tags, source, metadata)]


def _digest(operation: StoreKnowledge) -> bytes:
    """Returns what only equal passages have in common: their text, names, period and readers."""
    of = (
        operation.content,
        operation.external_id,
        operation.subject,
        operation.attribute,
        operation.is_public,
        *_period(operation),
    )
    return blake2b(_encode(of), digest_size=16).digest()


def _period(operation: StoreKnowledge) -> tuple[int, int]:
    start, end = operation.valid_from, operation.valid_until
    return (
        ALWAYS if start is None else milliseconds(start),
        NEVER if end is None else milliseconds(end),
    )


def add_need(need: MemoriesNeed, change: Change) -> None:
    """Adds what a change needs to know."""
    if isinstance(change, UpdateKnowledge):
        need.ids.add(change.id)
        need.relabelled.add(change.id)
        return
    if isinstance(change, PublishKnowledge):
        need.ids.add(change.id)
        need.published.add(change.id)
        return
    if isinstance(change, ForgetKnowledge):
        need.ids.add(change.id)
        need.forgotten.add(change.id)
        return
    operation = change.operation
    adds = operation.external_id or operation.aliases or operation.tags
    adds = adds or fields_of(operation.metadata) or operation.derived_from
    need.digests[change.digest] = need.digests.get(change.digest, False) or bool(adds)
    if operation.id is not None:
        need.ids.add(operation.id)
    if operation.supersedes is not None:
        need.ids.add(operation.supersedes)
    start, _ = _period(operation)
    if (name := operation.external_id) is not None:
        need.external_ids[name] = min(start, need.external_ids.get(name, start))
    if operation.subject is not None and operation.attribute is not None:
        pair = (operation.subject, operation.attribute)
        need.pairs[pair] = min(start, need.pairs.get(pair, start))


class Knowing:
    """The decision on the passages of one commit, each change on what the earlier ones left."""

    def __init__(
        self,
        memories: MemoriesFound,
        origins: OriginsFound,
        now: int,
        cause: Cause,
        plan_id: str | None,
        limits: Limits,
        *,
        by_handler: bool,
        user_id: str,
        stored: Mapping[str, Sourced],
    ) -> None:
        self._user_id = user_id
        self._own, self._public = _Shelf(memories.own), _Shelf(memories.public)
        self.origins = Origins(origins, cause, stored, self._find)
        self.added: list[AddedOrigins] = []
        """to be written once all that the commit stores is"""
        self._now = now
        self._cause = cause
        self._plan_id = plan_id
        self._limits = limits
        self._by_handler = by_handler

    def check_reads(self, reads: Mapping[str, int]) -> None:
        """Raises Conflict unless these passages are at the revisions read.

        A passage that is missing, or in quarantine, is at 0.
        """
        for passage_id, revision in reads.items():
            row = self._find(passage_id)
            current = 0 if row is None or self.origins.hides_from_user(row) else row.revision
            if current != revision:
                raise Conflict(
                    f"passage {passage_id!r} was read at revision {revision} and is at {current} "
                    "now; read it again",
                    passage=passage_id,
                    current_revision=current,
                )

    def decide(self, change: Change) -> MemoryDone:
        """Returns the result of a change."""
        if isinstance(change, UpdateKnowledge):
            return self._update(change)
        if isinstance(change, PublishKnowledge):
            return self._publish(change)
        if isinstance(change, ForgetKnowledge):
            return self._forget(change)
        return self._store(change)

    def writes(self) -> Writes:
        """Returns the rows to write."""
        return [*self._own.writes(), *self._public.writes()]

    def _store(self, prepared: PreparedPassage) -> MemoryDone:
        operation = prepared.operation
        is_proposed = operation.is_public and self._by_handler
        shelf = self._public if operation.is_public and not is_proposed else self._own
        passage_id = operation.id or ""
        origins = self.origins.inherited(operation.derived_from)
        is_hidden = self.origins.hides_new(
            operation.source, origins, is_public=operation.is_public and not is_proposed
        )
        there = shelf.named(passage_id)
        is_same = there is not None and there.is_open and there.digest == prepared.digest
        if there is not None and is_same and self._hides(there) != is_hidden:
            # It comes again, and was put into quarantine meanwhile, or released.
            return MemoryDone(there.id, _outcome(operation, "restated", not is_hidden))
        equal, before = self._before(operation, shelf, prepared.digest, is_hidden=is_hidden)
        start, _ = _period(operation)
        closed = self._replace(before, passage_id if equal is None else equal.id, start)
        if equal is not None:
            self._restate(shelf, equal, operation, passage_id, origins)
            return MemoryDone(equal.id, _outcome(operation, "restated", is_hidden), closed)
        if shelf.named(passage_id) is not None:
            raise InvalidRequest(
                f"a passage with the id {passage_id!r} and another content is stored already; give "
                "this one its own id, or none"
            )
        shelf.parts += len(prepared.parts)
        self._limits.check(
            "memory_parts", shelf.parts, "the number of parts of the passages in one collection"
        )
        row = PassageRow(
            id=passage_id,
            digest=prepared.digest,
            recorded_at=self._now,
            updated_at=self._now,
            external_id=operation.external_id,
            subject=operation.subject,
            attribute=operation.attribute,
            aliases=_text(operation.aliases),
            tags=_text(operation.tags),
            metadata=object_text(operation.metadata),
            source=operation.source,
            is_public=operation.is_public and not is_proposed,
            is_proposed=is_proposed,
            valid_from=start,
            valid_until=before.until,
            closed_by=None if before.follower is None else before.follower.id,
            derived_from=_text(operation.derived_from),
            trust="agent" if self._by_handler else "application",
            user_id=self._user_id,
            stated=0 if operation.is_recalled else 1,
            is_recalled=operation.is_recalled,
            plan_id=operation.plan_id or self._plan_id,
            outlives_plan=operation.outlives_plan,
            origins=_text(origins),
            cause=self._cause,
        )
        parts = labelled(row, prepared.parts)
        shelf.add(row, NewPassage(row, operation.content, parts, operation.derived_from))
        return MemoryDone(passage_id, _outcome(operation, "stored", is_hidden), closed)

    def _before(
        self, operation: StoreKnowledge, shelf: _Shelf, digest: bytes, *, is_hidden: bool
    ) -> tuple[PassageRow | None, Replaced]:
        """Returns the passage that an equal one restates, and what is replaced.

        What is in quarantine restates only what is, too, and replaces nothing.
        """
        start, end = _period(operation)
        equal = self._equal(shelf, digest, is_hidden=is_hidden)
        if is_hidden:
            if operation.supersedes is not None:
                self._named(operation.supersedes, _TO_SUPERSEDE)
            return equal, Replaced([], [], end, None)
        path = self._superseded(operation, start)
        last = path if start == ALWAYS else path[-1:]
        superseded = [row for row in last if row.is_open and row is not equal]
        others = [row for row in shelf.like(operation) if row is not equal]
        before = self._replaced(start, end, superseded, others)
        if equal is None or equal.closed_by is None:
            return equal, before
        if (equal.valid_from, equal.valid_until) == (start, before.until):
            return equal, before
        # It was replaced in a part of its period, which the new one covers again.
        return None, self._replaced(start, end, superseded, [*others, equal])

    def _equal(self, shelf: _Shelf, digest: bytes, *, is_hidden: bool) -> PassageRow | None:
        found = shelf.equals(digest)
        return next((row for row in found if self._hides(row) == is_hidden), None)

    def _hides(self, row: PassageRow) -> bool:
        return self.origins.hides(row, is_public=row.is_public)

    def _replaced(
        self, start: int, end: int, superseded: list[PassageRow], others: list[PassageRow]
    ) -> Replaced:
        """Returns what a passage replaces. One in quarantine is replaced, and ends no other."""
        hidden = [row for row in others if self._hides(row)]
        counting = [row for row in others if not self._hides(row)]
        before = replaced(start, end, superseded, counting, self._find, self._hides)
        if not hidden:
            return before
        too = replaced(start, before.until, (), hidden, self._find, self._hides)
        return before._replace(
            ended=[*before.ended, *too.ended], closed=[*before.closed, *too.closed]
        )

    def _superseded(self, operation: StoreKnowledge, start: int) -> list[PassageRow]:
        """Returns the passage that is to be superseded, and those that have replaced it already."""
        if operation.supersedes is None:
            return []
        _, row = self._named(operation.supersedes, _TO_SUPERSEDE)
        path = in_its_place(row, start, self._find)
        if self._by_handler:  # to it, what is in quarantine is not there
            path = [one for one in path if not self._hides(one)]
        for one in path:
            self._check_may_change(one)
        return path

    def _find(self, passage_id: str) -> PassageRow | None:
        return self._own.named(passage_id) or self._public.named(passage_id)

    def _named(self, passage_id: str, which: str) -> tuple[_Shelf, PassageRow]:
        if (row := self._find(passage_id)) is not None:
            return self._shelf_of(row), row
        raise NotFound(
            f"there is no passage {passage_id!r} {which}: it was never stored, or was forgotten"
        )

    def _replace(self, before: Replaced, by: str, start: int) -> list[str]:
        """Ends and closes what a passage replaces that begins at `start`; returns their ids."""
        for row in before.ended:
            self._end(row, start, by)
        for row in before.closed:
            row.closed_at = self._now
            self._change(row, by)
        return [row.id for row in (*before.ended, *before.closed)]

    def _end(self, row: PassageRow, at: int, by: str) -> None:
        if at < row.valid_until:
            if row.number is not None:  # what this commit stores was never known otherwise
                row.until_before = ends_with(row.until_before, self._now, row.valid_until)
            row.valid_until = at
        self._change(row, by)

    def _change(self, row: PassageRow, by: str) -> None:
        row.updated_at = self._now
        row.closed_by = by
        row.revision += 1
        self._shelf_of(row).change(row, is_indexed=True)

    def _shelf_of(self, row: PassageRow) -> _Shelf:
        return self._public if row.is_public else self._own

    def _restate(
        self,
        shelf: _Shelf,
        row: PassageRow,
        operation: StoreKnowledge,
        passage_id: str,
        origins: list[str],
    ) -> None:
        """Counts one more statement of a passage, with the tags, names and fields that it adds."""
        if not operation.is_recalled:
            row.stated += 1
            row.is_recalled = False
        row.revision += 1
        row.updated_at = self._now
        row.outlives_plan |= operation.outlives_plan
        before = (row.aliases, row.tags, row.metadata, row.source, row.origins)
        if self._by_handler and self._hides(row):
            pass  # it counts, and changes nothing
        elif operation.external_id is not None:  # a document that comes again, as it is now
            row.aliases, row.tags = _text(operation.aliases), _text(operation.tags)
            row.metadata = object_text(operation.metadata)
            self._set_source(row, operation.source)
        else:
            self._merge(row, operation)
        self._add_origins(row, origins)
        plan_id = operation.plan_id or self._plan_id
        shelf.restate(
            row,
            Restatement(passage_id, plan_id, self._cause, self._now, operation.is_recalled),
        )
        # It may be what was recalled itself, under any of its names.
        shelf.derive(row, [one for one in operation.derived_from if shelf.named(one) is not row])
        after = (row.aliases, row.tags, row.metadata, row.source, row.origins)
        shelf.change(row, relabelled=before != after)

    def _set_source(self, row: PassageRow, source: str | None) -> None:
        """Names the source of a passage; it still comes from the one before, too."""
        before, row.source = row.source, source
        if before is not None and before != source:
            row.origins = _text(bounded([*decode(row.origins), source_origin(before)]))
        if source is not None and before != source:
            self._spread(row, [source_origin(source)])

    def _add_origins(self, row: PassageRow, origins: list[str]) -> None:
        """Notes where else a passage comes from, and so what is derived from it."""
        known = {*origins_of(row)}
        if more := [one for one in origins if one not in known]:
            row.origins = _text(bounded([*decode(row.origins), *more]))
            self._spread(row, more)

    def _spread(self, row: PassageRow, origins: list[str]) -> None:
        if row.number is not None:
            self.added.append(AddedOrigins(row, _text(origins), packed_labels(labels(origins))))

    def _merge(self, row: PassageRow, operation: StoreKnowledge) -> None:
        """Adds what another statement of a passage says of it.

        Its source stays that of the first one: nobody makes a passage come from elsewhere.
        """
        row.aliases = _union(row.aliases, operation.aliases, MOST_ALIASES)
        row.tags = _union(row.tags, operation.tags, MOST_TAGS)
        if more := fields_of(operation.metadata):
            row.metadata = _merged(row.metadata, more)

    def _check_may_change(self, row: PassageRow) -> None:
        if self._by_handler and self._hides(row):
            raise Forbidden(
                f"passage {row.id!r} is in quarantine, where no handler changes anything: an "
                "application may"
            )
        if row.is_public and self._by_handler:
            raise Forbidden(
                f"passage {row.id!r} is public, and a handler changes nothing that other users "
                "read: an application may"
            )

    def _update(self, operation: UpdateKnowledge) -> MemoryDone:
        shelf, row = self._named(operation.id, "to be updated")
        self._check_may_change(row)
        if self._by_handler and self.origins.hides_agent():
            return MemoryDone(row.id, "quarantined")
        for name in ("aliases", "tags"):
            if (given := getattr(operation, name)) is not msgspec.UNSET:
                setattr(row, name, _text(given))
        if operation.metadata is not msgspec.UNSET:
            row.metadata = object_text(operation.metadata)
        if operation.source is not msgspec.UNSET:
            self._set_source(row, operation.source)
        for name, none in (("valid_from", ALWAYS), ("valid_until", NEVER)):
            if (text := getattr(operation, name)) is not msgspec.UNSET:
                setattr(row, name, none if text is None else milliseconds(text))
        if row.valid_until <= row.valid_from:
            raise InvalidRequest(
                f"passage {row.id!r} would be valid until a time that is not later than the one "
                "from which it is valid"
            )
        row.revision += 1
        row.updated_at = self._now
        shelf.change(row, relabelled=True)
        return MemoryDone(row.id, "updated")

    def _publish(self, operation: PublishKnowledge) -> MemoryDone:
        if self._by_handler:
            raise Forbidden(
                "a handler proposes what is to be public, with is_public=True; an application "
                "publishes it"
            )
        _, row = self._named(operation.id, "to be published")
        if row.is_public:
            return MemoryDone(row.id, "published")
        if not row.is_proposed:
            raise InvalidRequest(
                f"passage {row.id!r} is the user's own, and nobody has proposed to make it public; "
                "store it with is_public=True"
            )
        self._check_not_hidden(row)
        public = self._public
        equal = self._equal(public, row.digest, is_hidden=False)
        others = [one for one in public.like(row) if one is not equal]
        before = self._replaced(row.valid_from, row.valid_until, [], others)
        closed = self._replace(before, row.id if equal is None else equal.id, row.valid_from)
        self._own.give_away(row, is_moved=equal is None)
        if equal is not None:
            equal.stated += row.stated
            equal.revision += 1
            equal.updated_at = self._now
            public.restate(equal, Restatement(row.id, row.plan_id, row.cause, self._now))
            public.change(equal)
            return MemoryDone(equal.id, "published", closed)
        row.is_public, row.is_proposed = True, False
        row.valid_until = before.until
        if before.follower is not None:
            row.closed_by = before.follower.id
        row.revision += 1
        row.updated_at = self._now
        public.take_over(row)
        return MemoryDone(row.id, "published", closed)

    def _check_not_hidden(self, row: PassageRow) -> None:
        origin = self.origins.quarantined(origins_of(row), is_public=row.is_public)
        if origin is not None:
            raise InvalidRequest(
                f"passage {row.id!r} is in quarantine, because it comes from {told(origin)}: "
                "release that before it is made public"
            )

    def _forget(self, operation: ForgetKnowledge) -> MemoryDone:
        for row in (self._own.named(operation.id), self._public.named(operation.id)):
            if row is not None:
                self._check_may_change(row)
        if self._by_handler and self.origins.hides_agent():
            return MemoryDone(operation.id, "quarantined")
        gone: list[str] = []
        for shelf in (self._own, self._public):
            gone += shelf.forget(operation.id)
        if not gone:
            return MemoryDone(operation.id, "missing")
        return MemoryDone(operation.id, "forgotten", sorted({*gone} - {operation.id}))


class _Shelf:
    """A collection while a commit is decided: what was loaded of it, and what has changed."""

    def __init__(self, found: CollectionFound) -> None:
        self._found = found
        self.parts = found.row.parts if found.row is not None else 0
        self._rows: list[PassageRow] = list(found.passages.values())
        self._named = {row.id: row for row in self._rows}
        for name, number in found.names.items():
            self._named[name] = found.passages[number]
        # By the identity of their rows, as a new one has no number yet.
        self._new: dict[int, NewPassage] = {}
        self._changed: dict[int, ChangedPassage] = {}
        self._forgotten: list[ForgottenPassage] = []
        self._moved: list[MovedPassage] = []

    def named(self, passage_id: str) -> PassageRow | None:
        """Returns the passage of an id, or under which it was restated; None if there is none."""
        return self._named.get(passage_id)

    def equals(self, digest: bytes) -> Iterator[PassageRow]:
        """Yields the open passages that are equal to one to be stored."""
        return (row for row in self._rows if row.is_open and row.digest == digest)

    def like(self, one: StoreKnowledge | PassageRow) -> list[PassageRow]:
        """Returns the open passages of its external id, and on its attribute of its subject."""
        pair = (one.subject, one.attribute)
        return [
            row
            for row in self._rows
            if row.is_open
            and (
                (one.external_id is not None and row.external_id == one.external_id)
                or (one.subject is not None and (row.subject, row.attribute) == pair)
            )
        ]

    def add(self, row: PassageRow, new: NewPassage) -> None:
        """Adds a passage."""
        self._rows.append(row)
        self._named[row.id] = row
        self._new[id(row)] = new

    def change(
        self, row: PassageRow, *, relabelled: bool = False, is_indexed: bool = False
    ) -> None:
        """Notes that a row has changed: its times, and with `relabelled` its filters, too."""
        if (new := self._new.get(id(row))) is not None:
            if relabelled:
                labels = _labels_of(row)
                new.parts = [
                    replace(part, terms=_relabelled(part.terms, _of_part(part.part, labels, row)))
                    for part in new.parts
                ]
            return
        changed = self._changed_of(row)
        changed.is_indexed |= relabelled or is_indexed
        if relabelled:
            labels = _labels_of(row)
            changed.terms = {
                part.part: _relabelled(part.terms or b"", _of_part(part.part, labels, row))
                for part in self._found.parts.get(row.number or 0, ())
            }

    def _changed_of(self, row: PassageRow) -> ChangedPassage:
        return self._changed.setdefault(id(row), ChangedPassage(row, is_indexed=False))

    def restate(self, row: PassageRow, restatement: Restatement) -> None:
        """Notes one more statement of a passage."""
        new = self._new.get(id(row))
        (self._changed_of(row) if new is None else new).restated.append(restatement)
        self._named[restatement.id] = row

    def derive(self, row: PassageRow, sources: list[str]) -> None:
        """Notes further passages and interactions that a passage is derived from."""
        known = decode(row.derived_from)
        if more := [one for one in sources if one not in known]:
            row.derived_from = _text([*known, *more][:MOST_SOURCES])
            new = self._new.get(id(row))
            target = self._changed_of(row) if new is None else new
            target.sources = [*target.sources, *more]

    def give_away(self, row: PassageRow, *, is_moved: bool) -> None:
        """Takes a row out: it is moved elsewhere, or another stands for it there."""
        self._rows = [one for one in self._rows if one is not row]
        self._named = {name: one for name, one in self._named.items() if one is not row}
        self._changed.pop(id(row), None)
        if not is_moved and self._new.pop(id(row), None) is None:
            self._forgotten.append(ForgottenPassage(row))

    def take_over(self, row: PassageRow) -> None:
        """Takes a row that was in another collection."""
        self._rows.append(row)
        self._named[row.id] = row
        self._moved.append(MovedPassage(row))

    def forget(self, passage_id: str) -> list[str]:
        """Forgets a passage with all that goes with it; returns their ids."""
        doomed: list[PassageRow] = []
        named = self.named(passage_id)
        first = {*self._found.doomed.get(passage_id, ())}
        self._doom(doomed, [row for row in self._rows if row is named or row.number in first])
        for one in doomed:  # it grows
            numbers = {*self._found.doomed.get(one.id, ())}
            self._doom(
                doomed,
                [row for row in self._rows if row.number in numbers or row.closed_by == one.id],
            )
            # What this commit itself has derived from them goes, too.
            self._doom(doomed, [new.row for new in self._new.values() if one.id in new.sources])
        for one in doomed:
            self._rows = [row for row in self._rows if row is not one]
            self._changed.pop(id(one), None)
            if self._new.pop(id(one), None) is None:
                self._forgotten.append(ForgottenPassage(one))
        gone = {id(one) for one in doomed}
        self._named = {name: row for name, row in self._named.items() if id(row) not in gone}
        return [one.id for one in doomed]

    def _doom(self, doomed: list[PassageRow], rows: Iterable[PassageRow]) -> None:
        known = {id(row) for row in doomed}
        doomed += [row for row in rows if id(row) not in known]

    def writes(self) -> Writes:
        """Returns the rows to write: what is removed first, as another may take its names."""
        return [*self._forgotten, *self._changed.values(), *self._moved, *self._new.values()]


def _labels_of(row: PassageRow) -> list[int]:
    metadata = None if row.metadata is None else decode(row.metadata)
    found = _labels(decode(row.aliases), decode(row.tags), row.source, metadata)
    return [*found, *labels_of(row)]


def _of_part(part: int, labels: list[int], row: PassageRow) -> list[int]:
    """Returns the labels of a part: an alias names the passage as a whole, and so its first one."""
    if part == 0:
        return labels
    names = set(terms.aliases(decode(row.aliases)))
    return [label for label in labels if label not in names]


def _relabelled(packed: bytes, labels: Iterable[int]) -> bytes:
    """Returns packed terms with these labels in place of those that they have."""
    size = terms.TERM_BYTES
    words = [
        packed[at : at + size] for at in range(0, len(packed), size) if packed[at + size - 1] > 0
    ]
    return b"".join([*words, *map(terms.packed_label, labels)])


def _outcome(operation: StoreKnowledge, otherwise: str, is_hidden: bool) -> str:
    if is_hidden:
        return "quarantined"
    return "recalled" if operation.is_recalled else otherwise


def _text(value: list[str]) -> str:
    return _encode(value).decode()


def _union(text: str, more: list[str], most: int) -> str:
    """Returns a list with what it does not hold yet, as far as there is room."""
    if not more:
        return text
    return _text(list(dict.fromkeys([*decode(text), *more]))[:most])


def _merged(text: str | None, more: Any) -> str:
    """Returns metadata with the fields of another; of two values of a field the newer one."""
    return _encode({**(decode(text) if text else {}), **more}).decode()
