"""Endpoints: what a service can be asked, with which parameters, and how the one that is meant is found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from soorma_common.errors import InvalidRequest, SoormaError
from soorma_common.names import NAME_SCHEMA, Owner, check_name
from soorma_platform.http.requests import Request, path_text, whole
from soorma_platform.http.responses import JSON, Response
from soorma_platform.identity import Access
from soorma_platform.identity.door import FENCE_HEADER, FENCE_PATTERN
from soorma_platform.percent import ENCODED_NAME

T = TypeVar("T")

LARGEST_NUMBER = 10**18 - 1
"""Beyond it `whole` does not read."""

NO_COMMA = "^[^,\\u0000]*$"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query, None where it is not given."""

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
        """Reads it from the request; the default without."""
        text = request.query.get(self.name)
        return self.default if text is None else whole(self.name, text, self.least, self.most)

    def value(self, request: Request, default: int = 0) -> int:
        """Reads it from the request, else returns its own default, else the one of the caller."""
        value = self.of(request)
        return default if value is None else value


class Text(Parameter, frozen=True):
    """Any text; `is_name` where it must be a name (1 to 255 characters), or even `one_of` some, which `run` checks."""

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
        """Reads it from the request. An empty text says nothing."""
        text = request.query.get(self.name) or None
        return check_name(self.name, text) if self.is_name and text is not None else text


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
        """The JSON Schema of its values. A name with a comma in it cannot be said in a list."""
        each = {"enum": list(self.one_of)} if self.one_of else {**NAME_SCHEMA, "pattern": NO_COMMA}
        return {"type": "array", "items": {"type": "string", **each}}

    def of(self, request: Request) -> frozenset[str] | None:
        """Reads them from the request; None without any."""
        text = request.query.get(self.name)
        return frozenset(self.check(name) for name in text.split(",")) if text else None


class Header(msgspec.Struct, frozen=True):
    """A header that an endpoint reads: one word, a text of some pattern, or else a name (`percent.decoded`)."""

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
    """Whose data is read: of the tenants of who asks, those that the query says, or all."""

    def owner(self, request: Request) -> Owner:
        """Returns the owner that is meant. An empty text in the query says nothing."""
        return request.principal.owner_among(f"{self.name} in the query", self.of(request))


class OfUser(Text, frozen=True):
    """Whose data is read: of the users of who asks, the one that the query says, or all."""

    def user(self, request: Request) -> str | None:
        """The one that is meant, None for all. An empty text in the query says nothing."""
        return request.principal.user_among(f"{self.name} in the query", self.of(request))


ANYBODY_KNOWN = frozenset(
    {Access.USER, Access.TENANT, Access.OPERATOR, Access.AGENT, Access.DELIVERY}
)
"""Whoever it is, if only that is known."""

TENANT_ID = OfTenant("tenant_id", "Of this tenant only.")
USER_ID = OfUser("user_id", "Of this user only.")
FENCE = Header(
    FENCE_HEADER, "The fence of the delivery in whose handler this is done.", FENCE_PATTERN
)
"""Of the endpoints that change something. What is said is read at the door."""


class Endpoint(msgspec.Struct, frozen=True):
    """A method and a path, and what responds to them.

    `run`'s docstring is what the documentation says.

    `returns` and `body` are the types of the JSON on both sides, None where there is no body; where
    it may be of several media types, `body` maps each to its type. `access` says whom it lets in.
    `errors` are those beside the ones that any request can end with. What `run` and the names in
    the path do not need is there for the documentation alone.
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
    idempotent: bool = False
    """whether it takes an Idempotency-Key"""
    streams: bool = False
    """whether its response is a stream of server-sent events"""
    tagged: bool = False
    """whether its response has an ETag"""
    conditional: bool = False
    """whether a Conflict is that of a precondition in its headers, and has the status 412"""
    media_type: str = JSON
    """of its response"""
    numbers: tuple[Number, ...] = ()
    """names in its path that are numbers"""
    gives: Mapping[str, str] = msgspec.field(default_factory=dict)
    """names in the paths of other endpoints, and where in its response they are (as an OpenAPI link
    says it)"""
    also: Mapping[int, Any] = msgspec.field(default_factory=dict)
    """types of the JSON of responses with other statuses, where that is no problem document"""
    examples: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """a body of each media type"""

    @property
    def names(self) -> tuple[str, ...]:
        """The names in its path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))


class Table(Generic[T]):
    """Items by path. A path's `{name}` takes any one segment; a segment that is spelled out goes
    first.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, path: str, method: str, item: T, names: tuple[str, ...]) -> None:
        """Puts an item at a path."""
        node = self._root
        for part in path.split("/")[1:]:
            if part.startswith("{"):
                node.any = node = node.any or _Node()
            else:
                node = node.parts.setdefault(part, _Node())
        node.items[method] = (item, names)

    def find(self, path: str) -> tuple[dict[str, tuple[T, tuple[str, ...]]], list[str]]:
        """The items of each method at a path, and what its names are; nothing where there is nothing."""
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
    """The names of a path, decoded."""
    return {name: path_text(name, part) for name, part in zip(names, parts, strict=True)}
