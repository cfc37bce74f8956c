"""Endpoints: their parameters, their documentation, and the table that finds them by path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from soorma_common.errors import Forbidden, InvalidRequest, SoormaError
from soorma_common.identity import DELIVERIES, SCOPES
from soorma_common.names import NAME_SCHEMA, All, Owner, check_name
from soorma_platform.http.requests import Request, path_text, whole
from soorma_platform.http.responses import JSON, Response
from soorma_platform.identity import Access, Entrance
from soorma_platform.identity.door import FENCE_HEADER, FENCE_PATTERN
from soorma_platform.percent import ENCODED_NAME

T = TypeVar("T")

LARGEST_NUMBER = 10**18 - 1
"""The largest number that `whole` reads."""

NO_COMMA = "^[^,\\u0000]*$"


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter, None if it is not given."""

    name: str
    about: str

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        return {"type": "string"}


class Number(Parameter, frozen=True):
    """A whole number within bounds."""

    least: int = 0
    most: int | None = None
    default: int | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        most = LARGEST_NUMBER if self.most is None else self.most
        bounds = {"type": "integer", "minimum": self.least, "maximum": most}
        return bounds if self.default is None else {**bounds, "default": self.default}

    def of(self, request: Request) -> int | None:
        """Reads it from the request; returns the default if it is absent."""
        text = request.query.get(self.name)
        return self.default if text is None else whole(self.name, text, self.least, self.most)

    def value(self, request: Request, default: int = 0) -> int:
        """Reads it from the request; if absent, returns its own default, else the caller's."""
        value = self.of(request)
        return default if value is None else value


class Text(Parameter, frozen=True):
    """Any text; with `is_name` a name of 1 to 255 characters, with `one_of` one of these.

    `run` checks `one_of`.
    """

    is_name: bool = True
    one_of: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        if self.one_of:
            return {"type": "string", "enum": ["", *self.one_of]}
        return (
            {"type": "string", **NAME_SCHEMA, "minLength": 0}
            if self.is_name
            else {"type": "string"}
        )

    def of(self, request: Request) -> str | None:
        """Reads it from the request; an empty text counts as absent."""
        text = request.query.get(self.name) or None
        return check_name(self.name, text) if self.is_name and text is not None else text


class Part(Parameter, frozen=True):
    """A part of a path that is no name; `run` checks it. `form` is the schema of the text."""

    form: dict[str, Any] = {}

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        return {"type": "string", **self.form}


class Choice(Parameter, frozen=True):
    """One of a few words; the first is the default."""

    words: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        return {"type": "string", "enum": list(self.words), "default": self.words[0]}

    def of(self, request: Request) -> str:
        """Reads it from the request."""
        word = request.query.get(self.name, self.words[0])
        if word not in self.words:
            raise InvalidRequest(
                f"{self.name} must be one of {', '.join(self.words)}, not {word[:40]!r}"
            )
        return word


class Names(Parameter, frozen=True):
    """Names, separated by commas."""

    check: Callable[[str], str] = lambda name: check_name("name", name)
    one_of: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values. A name that contains a comma cannot be listed."""
        each = {"enum": list(self.one_of)} if self.one_of else {**NAME_SCHEMA, "pattern": NO_COMMA}
        return {"type": "array", "items": {"type": "string", **each}}

    def of(self, request: Request) -> frozenset[str] | None:
        """Reads them from the request; returns None if there are none."""
        text = request.query.get(self.name)
        return frozenset(self.check(name) for name in text.split(",")) if text else None


class Header(msgspec.Struct, frozen=True):
    """A header that an endpoint reads: a fixed word, a text of some pattern, or else a name.

    `percent.decoded` reads a name.
    """

    name: str
    about: str
    pattern: str | None = None
    word: str | None = None
    is_required: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its values."""
        if self.word is not None:
            return {"type": "string", "const": self.word}
        if self.pattern is None:
            return {"type": "string", **ENCODED_NAME}
        return {"type": "string", "pattern": self.pattern}


class OfTenant(Text, frozen=True):
    """The tenant whose data is read: the one in the query, else the principal's, or all."""

    def owner(self, request: Request) -> Owner:
        """Returns the owner that is meant; an empty text in the query counts as absent."""
        return request.principal.owner_among(f"{self.name} in the query", self.of(request))

    def of_new(self, request: Request, named: str | None) -> str | None:
        """Returns the tenant of what is to be made, None for all: as named, else the owner.

        Raises Forbidden if it is named for another than the owner.
        """
        owner = self.owner(request)
        if owner is All.TENANTS or named == owner:
            return named
        if named is not None:
            raise Forbidden(f"this is for the tenant {owner!r}, not {named!r}")
        return owner


class OfUser(Text, frozen=True):
    """The user whose data is read: the one in the query, else the principal's, or all."""

    def user(self, request: Request) -> str | None:
        """Returns the user, None for all; an empty text in the query counts as absent."""
        return request.principal.user_among(f"{self.name} in the query", self.of(request))


ANYBODY_KNOWN = frozenset(
    {Access.USER, Access.TENANT, Access.OPERATOR, Access.AGENT, Access.DELIVERY}
)
"""Any client whose identity is known."""
ONLY_AGENTS = frozenset({Access.AGENT})
_OF_MANY = frozenset({Access.TENANT, Access.OPERATOR})

TENANT_ID = OfTenant("tenant_id", "Of this tenant only.")
USER_ID = OfUser("user_id", "Of this user only.")
FENCE = Header(
    FENCE_HEADER, "The fence of the delivery in whose handler this is done.", FENCE_PATTERN
)
"""The header of endpoints that change something; the door reads it."""


class Endpoint(msgspec.Struct, frozen=True):
    """A method and a path, and the function that responds to them.

    `run`'s docstring is its documentation. `returns` and `body` are the types of the JSON of
    response and request, None if there is no body; if the body may have several media types, `body`
    maps each to its type. `access` says whom it admits. `errors` are those beyond the ones that any
    request can cause. Fields that neither `run` nor the names in the path need are for the
    documentation only.
    """

    method: str
    path: str
    access: frozenset[Access]
    run: Callable[[Request], Awaitable[Response]]
    returns: Any
    body: Any = None
    query: tuple[Parameter, ...] = ()
    headers: tuple[Header, ...] = ()
    errors: tuple[type[SoormaError], ...] = ()
    safe: bool = False
    """true if it changes nothing although it is a POST, whose body says what is asked for"""
    waits: bool = False
    """true if it may wait for long before it responds"""
    by_cookie: bool = False
    """true if the session of a browser opens it, too: it shows something to people"""
    idempotent: bool = False
    """true if it takes an Idempotency-Key"""
    streams: bool = False
    """true if its response is a stream of server-sent events"""
    tagged: bool = False
    """true if its response has an ETag"""
    conditional: bool = False
    """true if a Conflict is that of a precondition in its headers, and has the status 412"""
    media_type: str = JSON
    """of its response"""
    parts: tuple[Number | Part, ...] = ()
    """parts of its path that are no names"""
    gives: Mapping[str, str] = msgspec.field(default_factory=dict)
    """names in other endpoints' paths, and their places in its response (as in an OpenAPI link)"""
    also: Mapping[int, Any] = msgspec.field(default_factory=dict)
    """types of the JSON of other statuses, unless it is a problem document"""
    examples: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """an example of the body for each media type"""

    @property
    def entrance(self) -> Entrance:
        """Whom it admits, and with which scope: that of its service, to read, write or manage.

        Raises ValueError if there is no such scope: no key could have it.
        """
        lasts, scope = self.streams or self.waits, self._scope()
        if scope not in (None, *SCOPES):
            raise ValueError(f"{self.method} {self.path} needs the scope {scope}, which is none")
        return Entrance(self.access, scope, lasts, self.by_cookie)

    def _scope(self) -> str | None:
        if Access.PUBLIC in self.access or self.access == ANYBODY_KNOWN:
            return None
        if self.access == ONLY_AGENTS:
            return DELIVERIES
        if not self.path.startswith("/v1/"):
            return "platform:read"
        area = self.path.split("/")[2]
        if self.method == "GET" or self.safe:
            return f"{area}:read"
        # What concerns all users of a tenant, and no one user, is for its operators. The registry
        # knows no users: there, whoever may write serves a tenant.
        of_many = self.access <= _OF_MANY and area != "registry"
        return f"{area}:{'manage' if of_many else 'write'}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


class Table(Generic[T]):
    """Items by path. `{name}` in a path matches any one segment; a literal segment goes first."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, path: str, method: str, item: T, names: tuple[str, ...]) -> None:
        """Adds an item at a path."""
        node = self._root
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                node.any = node = node.any or _Node()
            else:
                node = node.parts.setdefault(part, _Node())
        node.items[method] = (item, names)

    def find(self, path: str) -> tuple[dict[str, tuple[T, tuple[str, ...]]], list[str]]:
        """Returns the items at a path by method, and the values of its names; empty if unknown."""
        node, found = self._root, []
        for part in path.split("/")[1:]:
            if (step := node.parts.get(part)) is None:
                if (step := node.any) is None:
                    return {}, []
                found.append(part)
            node = step
        return node.items, found


class _Node(Generic[T]):
    __slots__ = ("any", "items", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.items: dict[str, tuple[T, tuple[str, ...]]] = {}


def names_of(names: tuple[str, ...], parts: list[str]) -> dict[str, str]:
    """Returns the names of a path, decoded."""
    return {name: path_text(name, part) for name, part in zip(names, parts, strict=True)}
