"""Objects of every kind that authors store, each with the type it is read as."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import pathlib
import typing
import uuid
from collections.abc import Mapping, Sequence

import attrs
import msgspec
import pydantic
import typing_extensions
from pydantic import (
    AliasChoices,
    AliasGenerator,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    computed_field,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
T = typing.TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Alias(BaseModel):
    page_no: int = Field(alias="pageNo")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")
    page_no: int
    last_page: int = 1


class TwoGenerators(BaseModel):
    model_config = ConfigDict(
        alias_generator=AliasGenerator(
            validation_alias=to_camel, serialization_alias=lambda name: name.upper()
        )
    )
    page_no: int


class InAlone(BaseModel):
    page_no: int = Field(1, validation_alias="pageNo")


class OutAlone(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    page_no: int = Field(1, serialization_alias="pageNo")


class Choices(BaseModel):
    page_no: int = Field(1, validation_alias=AliasChoices("pageNo", AliasPath("pages", 0)))


class Swapped(BaseModel):
    first: int = Field(alias="second")
    second: int = Field(alias="first")


class Crossed(BaseModel):
    pages: int = 0
    page_no: int = Field(1, validation_alias=AliasPath("pages", 0))


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.n * 2


class OpenComputed(Computed):
    model_config = ConfigDict(extra="allow")


class Strict(BaseModel, strict=True):
    at: dt.datetime
    day: dt.date
    clock: dt.time
    took: dt.timedelta
    kind: Colour
    mixed: Mixed
    pair: tuple[int, float]
    id: uuid.UUID
    price: decimal.Decimal
    raw: bytes
    tags: set[str]
    fixed: frozenset[int]
    where: pathlib.Path
    by: dict[int, str]


class Cat(BaseModel):
    kind: typing.Literal["cat"] = "cat"
    n: int


class Dog(BaseModel):
    kind: typing.Literal["dog"] = "dog"
    n: int


Pet = typing.Annotated[Cat | Dog, Field(discriminator="kind")]


class Zoo(BaseModel):
    pets: list[Pet]


class Page(BaseModel, typing.Generic[T]):
    items: list[T]


class Tree(BaseModel):
    leaves: list[Tree] = []


class Bush(Tree):
    height: int = 1


class Root(RootModel[list[Alias]]):
    pass


class Nested(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    best_hit: Alias
    other_hits: dict[str, list[Alias]]


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    raw: bytes


class Packed(BaseModel):
    inner: pydantic.Json[list[int]]


@pydantic_dataclass
class PydanticData:
    page_no: int = Field(alias="pageNo")


@pydantic_dataclass(config=ConfigDict(strict=True))
class StrictData:
    at: dt.datetime


@dataclasses.dataclass
class Data:
    at: dt.datetime
    kind: Colour
    pair: tuple[int, int]
    hit: Alias | None = None
    notes: dict[str, typing.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    inner: tuple[Frozen, ...] = ()


@dataclasses.dataclass
class Box(typing.Generic[T]):
    item: T


@dataclasses.dataclass
class Keeper:
    pets: list[Pet]


@dataclasses.dataclass(eq=False)
class Incomparable:
    n: int


class Renamed(msgspec.Struct, rename="camel"):
    page_no: int
    raw: bytes = b"\xff"


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Holder(msgspec.Struct):
    shape: Circle | Square
    hit: Alias
    root: Root


@attrs.define
class Attrs:
    at: dt.datetime
    hits: list[Alias]


class Point(typing.NamedTuple):
    x: int
    label: str


class Typed(typing_extensions.TypedDict):
    hit: Alias
    note: typing_extensions.NotRequired[str]


Number = typing_extensions.TypeAliasType("Number", int)
Hits = typing_extensions.TypeAliasType("Hits", list[Alias])


class Secret(BaseModel):
    token: pydantic.SecretStr


class Hidden(BaseModel):
    n: int
    cache: int = Field(default=0, exclude=True)


class Loose(BaseModel):
    of: typing.Any


class Remembers(Loose):
    @functools.cached_property
    def cached(self) -> int:
        return 1


class Rounded(BaseModel):
    price: float

    @pydantic.field_serializer("price")
    def _short(self, price: float) -> float:
        return round(price, 1)


class Doubled(BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def _twice(cls, n: int) -> int:
        return n * 2


class Worded(BaseModel):
    at: dt.datetime

    @pydantic.field_serializer("at")
    def _words(self, at: dt.datetime) -> str:
        return at.strftime("the year %Y")


class One(BaseModel):
    n: int


class Other(BaseModel):
    n: int


class Either(BaseModel):
    of: One | Other


class More(One):
    m: int = 1


class Holds(BaseModel):
    one: One


class Keyed(BaseModel):
    by: dict[tuple[int, int], str]


class Text(BaseModel):
    raw: bytes


class Number64(BaseModel):
    x: float


class Exact(BaseModel):
    x: decimal.Decimal = pydantic.Field(allow_inf_nan=True)


@dataclasses.dataclass
class Later:
    at: typing.Any
    made: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.made = 0


def later(made: int) -> Later:
    it = Later(1)
    it.made = made
    return it


class Foreign:
    pass


@dataclasses.dataclass
class HoldsForeign:
    it: Foreign


REFUSED: dict[str, typing.Any] = {
    "a secret": Secret(token=pydantic.SecretStr("x")),
    "an excluded field that is set": Hidden(n=1, cache=5),
    "a time where anything may be": Loose(of=NOW),
    "an object where anything may be": Loose(of=One(n=1)),
    "a set where anything may be": Later({1}),
    "a serializer that rounds": Rounded(price=1.23),
    "a validator that changes what it reads": Doubled(n=1),
    "a serializer that its field cannot read": Worded(at=NOW),
    "a union that takes the first": Either(of=Other(n=1)),
    "a derived class in a field of its base": Holds(one=More(n=1)),
    "a derived class in a tree": Tree(leaves=[Bush(height=2)]),
    "keys that JSON has not": Keyed(by={(1, 2): "a"}),
    "bytes that are no text": Text(raw=b"\xff"),
    "infinity": Number64(x=float("inf")),
    "a field of another type": One.model_construct(n="many"),
    "a field that its class sets itself": later(5),
    "a foreign object": HoldsForeign(Foreign()),
}
"""Objects refused before they are stored: they would be unreadable, or come back changed."""

STRICT = Strict(
    at=NOW,
    day=NOW.date(),
    clock=dt.time(1, 2),
    took=dt.timedelta(seconds=1.5),
    kind=Colour.BLUE,
    mixed=Mixed.ONE,
    pair=(1, 2.0),
    id=uuid.UUID(int=5),
    price=decimal.Decimal("1.10"),
    raw=b"ab",
    tags={"a", "b"},
    fixed=frozenset([1]),
    where=pathlib.Path("/x"),
    by={1: "a"},
)
HIT = Alias(pageNo=2)

OBJECTS: dict[str, typing.Any] = {
    "alias": HIT,
    "alias generator": Generated(pageNo=2, lastPage=3),
    "two generators": TwoGenerators(pageNo=2),
    "validation alias and a default": InAlone(pageNo=2),
    "serialization alias": OutAlone(page_no=2),
    "alias choices": Choices(pageNo=2),
    "alias path": Choices(pages=[3]),
    "aliases that are names of others": Swapped(second=1, first=2),
    "a path that begins with another's name": Crossed(pages=4),
    "computed": Computed(n=2),
    "computed, and open": OpenComputed(n=2, more=3),
    "strict": STRICT,
    "discriminated": Zoo(pets=[Dog(n=1), Cat(n=2)]),
    "generic": Page[Alias](items=[HIT]),
    "recursive": Tree(leaves=[Tree(), Tree(leaves=[Tree()])]),
    "root": Root([HIT]),
    "nested": Nested(bestHit=HIT, otherHits={"a": [HIT]}),
    "base64": Base64(raw=b"\xff\x00"),
    "JSON in a text": Packed(inner="[1, 2]"),
    "pydantic dataclass": PydanticData(pageNo=2),
    "strict pydantic dataclass": StrictData(at=NOW),
    "dataclass": Data(NOW, Colour.RED, (1, 2), HIT, {"a": [1, None]}),
    "frozen dataclass": Frozen("a", (Frozen("b"),)),
    "generic dataclass": Box(1),
    "dataclass that holds a union of models": Keeper([Dog(n=1), Cat(n=2)]),
    "struct": Renamed(2),
    "tagged structs": Holder(Square(2.0), HIT, Root([HIT])),
    "attrs": Attrs(NOW, [HIT]),
}
"""Objects that are read as their own class."""

TYPED: dict[str, tuple[typing.Any, typing.Any]] = {
    "list of models": (list[Alias], [HIT]),
    "objects by name": (dict[str, Strict], {"a": STRICT}),
    "optional": (Alias | None, HIT),
    "optional None": (Alias | None, None),
    "typing.Optional": (typing.Optional[Frozen], Frozen("a")),  # noqa: UP045
    "union of models": (Cat | Dog, Dog(n=1)),
    "union with a plain type": (Cat | int, Cat(n=1)),
    "annotated union": (Pet, Dog(n=1)),
    "list of a union": (list[Cat | Dog], [Dog(n=1), Cat(n=2)]),
    "union of structs": (Circle | Square, Square(1.0)),
    "generic alias": (Box[Alias], Box(HIT)),
    "TypedDict": (Typed, {"hit": HIT}),
    "NamedTuple": (Point, Point(1, "a")),
    "tuple": (tuple[int, Frozen], (1, Frozen("a"))),
    "sequence": (Sequence[Alias], [HIT]),
    "mapping": (Mapping[str, Frozen], {"a": Frozen("b")}),
    "literal": (typing.Literal["a", "b"], "b"),  # strings with numbers: from msgspec 0.22 on
    "alias of a type": (Number, 5),
    "alias of a list": (Hits, [HIT]),
    "annotated": (typing.Annotated[int, Field(gt=0)], 5),
    "any": (typing.Any, {"a": [1]}),
}
"""Objects that are read as a type that is written out."""

DECLARED: dict[str, tuple[typing.Any, typing.Any]] = {
    "time": (dt.datetime, NOW),
    "set": (set[str], {"a", "b"}),
    "bytes": (bytes, b"\xff"),
    "times in a list": (list[dt.datetime], [NOW]),
    "enum": (Colour, Colour.BLUE),
    "numbers as keys": (dict[int, str], {1: "a"}),
    "Decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "one of two structs": (Circle | Square, Circle(2.0)),
}
"""Objects that JSON has no type for, so that they need a declared type, as the result of a step."""
