"""Semaphores: a few places at a key, and a line of tickets served first come, first served.

A place is the key, or `key/2` and so on; a ticket is a key `key/waiting/…`, named so that the
oldest sorts first. Both are ordinary keys with a short time to live, which a living holder
prolongs. So the history and watchers see each take, release and expiry like any other change, but
no prolonging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import msgspec

from soorma_common.operations import (
    LAST_REVISION,
    LONGEST_TTL,
    Acquire,
    Delete,
    PlaceOperation,
    Release,
    Set,
)

if TYPE_CHECKING:
    from soorma_platform.engine.plans import PlanEditor


T = TypeVar("T")
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=LONGEST_TTL)]


class Holding(msgspec.Struct):
    """The value of a place's key: its holder, and when (in ms) even a living holder loses it."""

    holder: str
    until: Annotated[int, msgspec.Meta(ge=0, le=LAST_REVISION)] | None = None


class Ticket(msgspec.Struct):
    """The value of a ticket's key: who waits, and for how many seconds it will take the place."""

    holder: str
    ttl: Seconds
    lease: Seconds


_holdings = msgspec.json.Decoder(Holding)
_tickets = msgspec.json.Decoder(Ticket)


def acquire(editor: PlanEditor, operation: Acquire) -> str | None:
    """Takes a place or a ticket, or keeps what the holder has.

    Hands free places to those who wait. Returns the place and its revision, or the ticket, as JSON
    text; None if the holder has neither.
    """
    own = _place_of(editor, operation)
    if own is not None:
        _keep(editor, own, operation)
        return _output(editor, own)
    ticket = _ticket_of(editor, operation)
    if ticket is not None:
        editor.prolong(ticket, operation.lease)
    hand_over(editor, operation)
    if ticket is None and not operation.renew:
        ticket = _queue(editor, operation)
    if (own := _place_of(editor, operation)) is not None:
        return _output(editor, own)
    return None if ticket is None else msgspec.json.encode({"ticket": ticket}).decode()


def release(editor: PlanEditor, operation: Release) -> str:
    """Gives up a place or a ticket, and hands free places to those who wait.

    Returns `true` if a place was held, else `false`, as JSON text.
    """
    own = _place_of(editor, operation)
    if (left := own or _ticket_of(editor, operation)) is not None:
        editor.apply(Delete(left))
    hand_over(editor, operation)
    return "false" if own is None else "true"


def hand_over(editor: PlanEditor, operation: PlaceOperation) -> None:
    """Gives the free places to the first tickets in line."""
    for place, (name, ticket) in zip(
        _free(editor, operation), _waiting(editor, operation), strict=False
    ):
        editor.apply(Delete(name))
        _take(editor, place, ticket.holder, ticket.ttl, ticket.lease)


def _waiting(editor: PlanEditor, operation: PlaceOperation) -> list[tuple[str, Ticket]]:
    """Returns the first tickets in line, with their keys."""
    found = (
        (name, _read(_tickets, editor.text(name))) for name in editor.keys_from(operation.line)
    )
    return [(name, ticket) for name, ticket in found if ticket is not None]


def _queue(editor: PlanEditor, operation: Acquire) -> str | None:
    """Returns a newcomer's ticket; None if it got a place at once, or does not wait for one."""
    ttl = operation.lease if operation.ttl is None else operation.ttl
    free = _free(editor, operation)
    if free and not _waiting(editor, operation):
        _take(editor, free[0], operation.holder, ttl, operation.lease)
        return None
    if not operation.wait:
        return None
    name = f"{operation.line}{editor.sequence}"
    value = msgspec.json.encode(Ticket(operation.holder, ttl, operation.lease))
    editor.apply(Set(key=name, value=msgspec.Raw(value), ttl=operation.lease))
    return name


def _take(editor: PlanEditor, place: str, holder: str, ttl: float, lease: float) -> None:
    value = msgspec.json.encode(Holding(holder, editor.later(ttl)))
    editor.apply(Set(key=place, value=msgspec.Raw(value), ttl=min(ttl, lease)))


def _keep(editor: PlanEditor, place: str, operation: Acquire) -> None:
    """Prolongs a place: for the operation's `ttl` if it has one, else within the time left."""
    if operation.ttl is None:
        holding = _read(_holdings, editor.text(place))
        editor.prolong(place, operation.lease, holding.until if holding else None)
    else:
        _take(editor, place, operation.holder, operation.ttl, operation.lease)


def _free(editor: PlanEditor, operation: PlaceOperation) -> list[str]:
    return [place for place in operation.all_places() if editor.text(place) is None]


def _place_of(editor: PlanEditor, operation: PlaceOperation) -> str | None:
    written = msgspec.json.encode(operation.holder).decode()
    for place in operation.all_places():
        text = editor.text(place)
        if text is not None and written in text:  # quicker than decoding each
            holding = _read(_holdings, text)
            if holding is not None and holding.holder == operation.holder:
                return place
    return None


def _ticket_of(editor: PlanEditor, operation: PlaceOperation) -> str | None:
    if operation.ticket is None:
        return None
    ticket = _read(_tickets, editor.text(operation.ticket))
    return operation.ticket if ticket is not None and ticket.holder == operation.holder else None


def _read(decoder: msgspec.json.Decoder[T], text: str | None) -> T | None:
    """Decodes a place or a ticket.

    Returns None if it is missing, or another program has written something else there.
    """
    try:
        return None if text is None else decoder.decode(text)
    except msgspec.MsgspecError:
        return None


def _output(editor: PlanEditor, place: str) -> str:
    return msgspec.json.encode({"place": place, "revision": editor.revision_of(place)}).decode()
