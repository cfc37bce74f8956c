"""Time travel: a plan as of a revision, and the differences between two revisions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from soorma.memory.plan import BoundPlan
from soorma_common.errors import InvalidRequest, KeyMissing
from soorma_common.values import convert, encode

if TYPE_CHECKING:
    from typing_extensions import TypeForm


T = TypeVar("T")
D = TypeVar("D")


class Missing(Enum):
    """The stand-in for the value of a missing key: null is a value."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING


@dataclass(frozen=True)
class Difference:
    """A key that differs between two revisions, with both values; MISSING for no such key."""

    key: str
    before: Any
    after: Any

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """The kind of change from `before` to `after`."""
        if self.before is MISSING:
            return "added"
        return "removed" if self.after is MISSING else "changed"


def check_revision(revision: object) -> int:
    """Returns a revision if it is a whole number from 0; else raises InvalidRequest."""
    if type(revision) is not int or revision < 0:
        raise InvalidRequest(
            f"a revision is a whole number from 0, as state.revision() returns it, not {revision!r}"
        )
    return revision


class StateAt:
    """A plan's state as of a revision: read-only and immutable.

    It shows committed values, even in a handler or transaction. Calls raise HistoryGone if the
    revision is no longer kept, NotFound if it is still to come.
    """

    def __init__(self, plan: BoundPlan, revision: int) -> None:
        self.plan = plan
        self.revision = check_revision(revision)

    @overload
    async def get(self, key: str, default: Any = None, *, type: None = None) -> Any: ...
    @overload
    async def get(self, key: str, default: None = None, *, type: TypeForm[T]) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, *, type: TypeForm[T]) -> T | D: ...
    async def get(
        self,
        key: str,
        default: Any = None,
        *,
        type: Any = None,  # noqa: A002 - reads best so
    ) -> Any:
        """The value the key had, with `type` as an instance of that; `default` if missing."""
        try:
            value = await self.plan.value_at(key, self.revision)
        except KeyMissing:
            return default
        return value if type is None else convert(value, type)

    async def has(self, key: str) -> bool:
        """True if the key existed."""
        return await self.get(key, MISSING) is not MISSING

    async def keys(self, prefix: str = "") -> list[str]:
        """All keys that existed and begin with `prefix`, in order."""
        return await self.plan.keys_at(self.revision, prefix)

    async def all(self, prefix: str = "") -> dict[str, Any]:
        """All keys that existed and begin with `prefix`, in order, with their values."""
        return await self.plan.values_at(self.revision, prefix)


async def difference(before: StateAt, after: StateAt) -> list[Difference]:
    """The keys that differ between two revisions, in order.

    A different order of an object's keys is a difference.
    """
    old, new = await before.all(), await after.all()
    pairs = [
        Difference(key, old.get(key, MISSING), new.get(key, MISSING))
        for key in sorted({*old, *new})
    ]
    return [pair for pair in pairs if _text(pair.before) != _text(pair.after)]


def _text(value: Any) -> str | None:
    return None if value is MISSING else encode(value)
