"""Semantic memory: what is known, as passages that are found by what they say.

Operations on it belong to a commit; the rest is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import msgspec

from soorma_common.causes import Cause
from soorma_common.errors import InvalidRequest, InvalidValue
from soorma_common.json_text import check, decode
from soorma_common.limits import Limits
from soorma_common.names import NAME_SCHEMA, Name, check_name
from soorma_common.times import Time, check_moment, milliseconds

MOST_TAGS, MOST_ALIASES, MOST_SOURCES = 64, 32, 64
"""Maximum tags and aliases of a passage, and passages that it may be derived from."""
METADATA_BYTES = 16 * 1024
LONGEST_QUERY = 8_192
"""Maximum characters of a query."""
MOST_HITS = 100
LONGEST_WAIT = 60
BYTES_PER_TOKEN = 4

Content: TypeAlias = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"})
]
"""A text that says something."""
QueryText: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "maxLength": LONGEST_QUERY,
            "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$",
        }
    ),
]
Score: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
Limit: TypeAlias = Annotated[
    int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MOST_HITS})
]
Bound: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})]
Wait: TypeAlias = Annotated[
    float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": LONGEST_WAIT})
]
Mode: TypeAlias = Literal["hybrid", "text", "vector"]
MODES = ("hybrid", "text", "vector")
Trust: TypeAlias = Literal["application", "agent"]
"""The kind of source of a passage: a program that acts for a user, or a handler of an agent."""
Metadata: TypeAlias = Annotated[
    msgspec.Raw,
    msgspec.Meta(
        extra_json_schema={
            "type": ["object", "null"],
            "propertyNames": NAME_SCHEMA,
            "maxProperties": MOST_TAGS,
        }
    ),
]
Tags: TypeAlias = Annotated[list[Name], msgspec.Meta(extra_json_schema={"maxItems": MOST_TAGS})]
Sources: TypeAlias = Annotated[
    list[Name], msgspec.Meta(extra_json_schema={"maxItems": MOST_SOURCES})
]
Aliases: TypeAlias = Annotated[
    list[Name], msgspec.Meta(extra_json_schema={"maxItems": MOST_ALIASES})
]


class Knowledge(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A passage to be stored, with its names, what it can be filtered by, and when it is true.

    `id` is the passage's, unless an equal one is stored already.
    """

    content: Content
    id: Name | None = None
    external_id: Name | None = None
    aliases: Aliases = []
    tags: Tags = []
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    source: Name | None = None
    is_public: bool = False
    valid_from: Time | None = None
    valid_until: Time | None = None
    supersedes: Name | None = None
    subject: Name | None = None
    attribute: Name | None = None
    derived_from: Sources = []
    plan_id: Name | None = None
    """of the plan that it comes from; in a handler, that of the event unless given"""
    outlives_plan: bool = False
    """whether it stays when that plan is purged, whatever the platform's settings say"""


class StoreKnowledge(Knowledge, tag_field="op", tag="store_knowledge"):
    """Stores a passage.

    A passage with the same `external_id`, the one that it `supersedes`, and one with the same
    `subject` and `attribute` are closed: they count no more. If it has a `valid_from`, those that
    begin before count until then, and it ends where a later one of these names begins. If an equal
    one counts already, that one is kept, and counts one more. From a handler, `is_public` is a
    proposal. With `is_recalled`, it only says again what it is derived from, and nothing counts one
    more.
    """

    is_recalled: bool = False


class MemoryOperation(
    msgspec.Struct, tag_field="op", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """A change of a memory that is stored already, within a commit."""


class UpdateKnowledge(MemoryOperation, tag="update_knowledge"):
    """Changes what is given of a passage; its content is changed by storing another one."""

    id: Name
    aliases: Aliases | msgspec.UnsetType = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    source: Name | msgspec.UnsetType | None = msgspec.UNSET
    valid_from: Time | msgspec.UnsetType | None = msgspec.UNSET
    valid_until: Time | msgspec.UnsetType | None = msgspec.UNSET


class ForgetKnowledge(MemoryOperation, tag="forget_knowledge"):
    """Removes a passage and all that was made of it: its terms, its vector, its closed versions."""

    id: Name


class PublishKnowledge(MemoryOperation, tag="publish_knowledge"):
    """Shows a passage that a handler has proposed to all users of the tenant.

    It closes what it replaces among the public ones. A handler cannot do it.
    """

    id: Name


AnyKnowledgeOperation: TypeAlias = (
    StoreKnowledge | UpdateKnowledge | PublishKnowledge | ForgetKnowledge
)


class MemoryDone(msgspec.Struct, omit_defaults=True):
    """The result of an operation: the id of what it means, and those that it closed or ended.

    `outcome` is stored, restated (an equal one is stored already), recalled (it only says again
    what was read in the same transaction), updated, published, forgotten, missing, logged or named
    (a session, whose name `id` does not repeat); of a procedure also activated, retired, used or
    counted. Then `version` is the number of the version meant; 0 if it is none, or not known before
    the commit. What comes from a source or an agent in quarantine is quarantined: it is stored, but
    counts for nothing, and so has closed nothing.
    """

    id: str
    outcome: str
    closed: list[str] = []
    version: int = 0


class StoreBody(msgspec.Struct, forbid_unknown_fields=True):
    """The passages to store in one commit."""

    passages: Annotated[list[Knowledge], msgspec.Meta(extra_json_schema={"minItems": 1})]


class KnowledgeStored(msgspec.Struct):
    """What became of each passage."""

    stored: list[MemoryDone]


class PassageChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be changed of a passage; what is not given stays."""

    aliases: Aliases | msgspec.UnsetType = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    source: Name | msgspec.UnsetType | None = msgspec.UNSET
    valid_from: Time | msgspec.UnsetType | None = msgspec.UNSET
    valid_until: Time | msgspec.UnsetType | None = msgspec.UNSET


class Place(msgspec.Struct, omit_defaults=True, frozen=True):
    """Where a part stands in its passage: its number from 0, and its characters."""

    part: int
    start: int
    end: int


class Passage(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is stored of a passage.

    It counts from `created_at` until `closed_at`, and says what is true from `valid_from` until
    `valid_until`. `closed_by` is what has replaced it; without `closed_at`, only from its
    `valid_until` on. `stated` counts how often it was stored, but for the times when that only said
    again what had been recalled; with `is_recalled`, there were no others. `actor` and `cause` of a
    change are as in a plan's history. Of one that a transaction has not committed yet, `created_at`
    and `updated_at` are None, and `revision` is 0.
    """

    id: str
    content: str
    revision: int
    created_at: datetime | None
    updated_at: datetime | None
    trust: str
    stated: int = 1
    external_id: str | None = None
    aliases: list[str] = []
    tags: list[str] = []
    metadata: Any = None
    source: str | None = None
    is_public: bool = False
    is_proposed: bool = False
    """true if a handler proposed to make it public; so far, only its user sees it"""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    subject: str | None = None
    attribute: str | None = None
    closed_at: datetime | None = None
    closed_by: str | None = None
    derived_from: list[str] = []
    alike: list[str] = []
    """of a passage that is read by its id: others that seem to state the same"""
    is_recalled: bool = False
    plan_id: str | None = None
    cause: Cause = Cause()


class Hit(Passage, omit_defaults=True, kw_only=True):
    """A passage that was found, with its score from 0 to 1.

    Of a long one, `content` is the part that was found, and `place` says where it stands.
    """

    score: float
    place: Place


class SearchBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A search: what to find, among what, and how much of it.

    `own` are the operations of a transaction that are not committed yet: they count for it.
    """

    query: QueryText
    limit: Limit = 10
    max_tokens: Bound | None = None
    tags: Tags = []
    metadata: Metadata | msgspec.UnsetType = msgspec.UNSET
    source: Name | None = None
    since: Time | None = None
    until: Time | None = None
    min_score: Score | None = None
    as_of: Time | None = None
    known_at: Time | None = None
    include_public: bool = True
    mode: Mode = "hybrid"
    wait: Wait | None = None
    """seconds to wait until all that is stored is embedded"""
    own: list[AnyKnowledgeOperation] = []


class Hits(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The passages found, the best first; fewer than asked for if no others are good enough.

    `is_known` is false if nothing was ever stored where it was searched. `mode` is how it was
    searched: by text alone if there is no embedding model, or none that responds. `min_score` is
    the least score of a hit; it is 0 for a model that is not calibrated. `unembedded` parts were
    searched by text alone (counted up to 1,000 in a collection).
    """

    hits: list[Hit]
    is_known: bool
    mode: Mode
    min_score: float
    model: str | None = None
    unembedded: int = 0
    is_calibrated: bool = True

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, number: int) -> Hit:
        return self.hits[number]


class PassagePage(msgspec.Struct):
    """Passages of a user, in the order they were stored."""

    passages: list[Passage]
    next: int | None


def check_change(operation: AnyKnowledgeOperation, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded for what cannot be done."""
    if operation.id is not None:
        check_name("id", operation.id)
    if isinstance(operation, StoreKnowledge):
        check_store(operation, limits)
    elif isinstance(operation, UpdateKnowledge):
        _check_update(operation)


def check_store(operation: StoreKnowledge, limits: Limits) -> None:
    """Raises InvalidRequest, InvalidValue or LimitExceeded if a passage cannot be stored."""
    check_content(operation.content, limits)
    for name in ("external_id", "source", "supersedes", "subject", "attribute", "plan_id"):
        if (given := getattr(operation, name)) is not None:
            check_name(name, given)
    if (operation.subject is None) != (operation.attribute is None):
        raise InvalidRequest(
            "subject and attribute are given together: they name what has one current value"
        )
    check_names("derived_from", operation.derived_from, MOST_SOURCES)
    check_names("aliases", operation.aliases, MOST_ALIASES)
    check_names("tags", operation.tags, MOST_TAGS)
    check_metadata(operation.metadata)
    _check_period(operation.valid_from, operation.valid_until)


def _check_update(operation: UpdateKnowledge) -> None:
    for name, most in (("aliases", MOST_ALIASES), ("tags", MOST_TAGS)):
        if (given := getattr(operation, name)) is not msgspec.UNSET:
            check_names(name, given, most)
    check_metadata(operation.metadata)
    if operation.source is not msgspec.UNSET and operation.source is not None:
        check_name("source", operation.source)
    start, end = operation.valid_from, operation.valid_until
    _check_period(None if start is msgspec.UNSET else start, None if end is msgspec.UNSET else end)


_KINDS = {
    "limit": (int,),
    "max_tokens": (int,),
    "min_score": (int, float),
    "wait": (int, float),
}


def check_text(what: str, text: str) -> None:
    """Raises InvalidValue for what UTF-8 cannot say, and for NUL."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"{what} holds a lone surrogate at character {error.start}, which is no text", path=what
        ) from None
    if "\0" in text:
        raise InvalidValue(
            f"{what} holds NUL at character {text.index(chr(0))}, which is no text", path=what
        )


def check_content(content: str, limits: Limits) -> None:
    """Raises InvalidValue or LimitExceeded if this is no content of a passage."""
    check_text("content", content)
    limits.check("passage_bytes", len(content.encode()), "the passage, in bytes,")
    if not content.strip():
        raise InvalidValue("the passage is empty: there is nothing to find in it", path="content")


def check_names(what: str, names: list[str], most: int) -> None:
    """Raises InvalidRequest unless these are at most `most` names."""
    if len(names) > most:
        raise InvalidRequest(f"{what} are {most} at most, not {len(names)}")
    for name in names:
        check_name(what, name)


def fields_of(metadata: msgspec.Raw | msgspec.UnsetType) -> Any:
    """Returns the fields of checked metadata; None if there is none."""
    return None if metadata is msgspec.UNSET else decode(bytes(metadata))


def object_text(given: msgspec.Raw | msgspec.UnsetType) -> str | None:
    """Returns a checked object as it was written; None if there is none."""
    if given is msgspec.UNSET or fields_of(given) is None:
        return None
    return bytes(given).decode()


def check_metadata(metadata: msgspec.Raw | msgspec.UnsetType, what: str = "metadata") -> None:
    """Raises InvalidRequest or InvalidValue unless this is an object, within bounds, or nothing."""
    if metadata is msgspec.UNSET:
        return
    text = check(metadata, what)
    if text == "null":
        return
    if not text.startswith("{"):
        raise InvalidValue(f"{what} is an object: names with values", path=what)
    if len(text.encode()) > METADATA_BYTES:
        raise InvalidValue(
            f"{what} is {METADATA_BYTES:,} bytes of JSON at most, not {len(text.encode()):,}",
            path=what,
        )
    check_names(f"names of {what}", list(decode(text)), MOST_TAGS)


def _check_period(start: str | None, end: str | None) -> None:
    for name, text in (("valid_from", start), ("valid_until", end)):
        if text is not None:
            check_moment(name, text)
    if start is not None and end is not None and milliseconds(end) <= milliseconds(start):
        raise InvalidRequest(f"valid_until ({end}) must be later than valid_from ({start})")


class _Bounds(Protocol):
    @property
    def limit(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def min_score(self) -> float | None: ...
    @property
    def wait(self) -> float | None: ...
    @property
    def mode(self) -> Mode: ...


def check_query(query: str, bounds: _Bounds, what: str = "query") -> None:
    """Raises InvalidRequest if the query of a search, or a bound of it, is not one."""
    if not isinstance(query, str):
        raise InvalidRequest(f"{what} is text, not {type(query).__name__}")
    check_text(what, query)
    if not query.strip():
        raise InvalidRequest(f"{what} is empty: say what to search for")
    if len(query) > LONGEST_QUERY:
        raise InvalidRequest(f"{what} has at most {LONGEST_QUERY:,} characters, not {len(query):,}")
    check_bounds(bounds)


def check_bounds(body: _Bounds) -> None:
    """Raises InvalidRequest if a bound of a search is not one."""
    if body.mode not in MODES:
        raise InvalidRequest(f"mode is one of {', '.join(MODES)}, not {body.mode!r:.40}")
    for name, kinds in _KINDS.items():
        value = getattr(body, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise InvalidRequest(f"{name} is a number, not {value!r:.40}")
    if not 1 <= body.limit <= MOST_HITS:
        raise InvalidRequest(f"limit is 1 to {MOST_HITS}, not {body.limit}")
    if body.max_tokens is not None and body.max_tokens < 1:
        raise InvalidRequest(f"max_tokens is 1 or more, not {body.max_tokens}")
    if body.min_score is not None and not 0 <= body.min_score <= 1:
        raise InvalidRequest(f"min_score is from 0 to 1, not {body.min_score}")
    if body.wait is not None and not 0 <= body.wait <= LONGEST_WAIT:
        raise InvalidRequest(f"wait is 0 to {LONGEST_WAIT} seconds, not {body.wait}")


def tokens_in(text: str) -> int:
    """Estimates the tokens of a text for a language model: a quarter of its bytes in UTF-8."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def check_search(body: SearchBody, limits: Limits) -> None:
    """Raises InvalidRequest if a search is not one that can be made."""
    check_query(body.query, body)
    for name in ("since", "until", "as_of", "known_at"):
        if (text := getattr(body, name)) is not None:
            check_moment(name, text)
    check_names("tags", body.tags, MOST_TAGS)
    check_metadata(body.metadata)
    if body.source is not None:
        check_name("source", body.source)
    for operation in body.own:
        check_change(operation, limits)
