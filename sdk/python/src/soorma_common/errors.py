"""Every way a call can fail, as one tree.

The class is the contract: the server sends its `code` in a problem document (RFC 9457), the SDK
raises the class of that code again with the same details. Nothing in Soorma answers a failure with
a default.
"""

from __future__ import annotations

from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar


class SoormaError(Exception):
    """Root of all errors raised by Soorma.

    `code` is stable and travels over HTTP; `status` is the HTTP status it travels with; `details`
    holds what a program needs to react (names, revisions, limits) and is part of the problem
    document. What a class may tell is an attribute of it too, None where this error does not.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    if not TYPE_CHECKING:  # or a misspelt attribute would pass

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_"):
                details = self.__dict__.get("details", {})
                if name in details:
                    return details[name]
                if any(name in get_annotations(kind) for kind in type(self).__mro__):
                    return None
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


class InvalidRequest(SoormaError, ValueError):
    """A request does not have the form it must have; the message names the part and what belongs there."""

    missing: list[str] | None
    """headers that must be there"""

    code = "invalid_request"
    status = 422


class InvalidName(InvalidRequest):
    """A plan id, key, tenant, user, topic or event type is not a name that Soorma takes."""

    name: str | None
    """the part that is meant: a key, a plan id"""

    code = "invalid_name"


class InvalidValue(InvalidRequest):
    """A value holds something that JSON cannot say; `path` tells where in the value."""

    path: str

    code = "invalid_value"


class InvalidPayload(InvalidValue):
    """An event's payload does not fit the schema of its type; `path` is a JSON pointer into the payload."""

    expected: str
    event_type: str
    schema: str
    """the definition, as `type@version`"""

    code = "invalid_payload"


class ReentrantRequest(InvalidRequest):
    """All who take a request wait for its response themselves: `group` does, in its handler of event `event_id`."""

    group: str
    event_id: str

    code = "reentrant_request"
    status = 409


class Forbidden(SoormaError):
    """The caller may not touch that tenant, user or plan."""

    code = "forbidden"
    status = 403


class NotFound(SoormaError):
    """There is nothing of that name here."""

    plan_id: str | None
    name: str | None
    event_type: str | None

    code = "not_found"
    status = 404


class KeyMissing(NotFound, KeyError):
    """The plan has no such key (it was never set, was deleted, or has expired)."""

    key: str

    code = "key_missing"

    def __str__(self) -> str:
        return self.message


class Conflict(SoormaError):
    """A compare-and-set failed: `key` is at `current_revision`, not at `expected_revision` (0: missing)."""

    plan_id: str | None
    key: str | None
    expected_revision: int | None
    current_revision: int | None
    expected_status: str | None
    """of the plan, where that is what differs"""
    current_status: str | None
    was_reserved: bool | None
    """whether the key was reserved for the handler that ran"""

    code = "conflict"
    status = 409


class Fenced(SoormaError):
    """This delivery was given to somebody else meanwhile: nothing of this attempt was or will be visible."""

    code = "fenced"
    status = 409


class PlanEnded(SoormaError):
    """The plan has ended before: it was completed, failed or cancelled, as `plan_status` says."""

    plan_id: str
    plan_status: str

    code = "plan_ended"
    status = 409


class PlanExists(SoormaError):
    """The plan that was to begin as a fork of another is in use, or has a history: it was not cleaned up."""

    plan_id: str

    code = "plan_exists"
    status = 409


class PlanCancelled(Fenced):
    """The plan of this event was cancelled, or purged: nothing of this attempt is ever visible, and none follows."""

    plan_id: str

    code = "plan_cancelled"


class EventIdConflict(SoormaError):
    """An event of that id, but of other content, was published before in this tenant."""

    event_id: str

    code = "event_id_conflict"
    status = 409


class DefinitionConflict(SoormaError):
    """That version of an event type is defined already, with other content; give the new content a new version."""

    event_type: str
    version: int

    code = "definition_conflict"
    status = 409


class IdempotencyMismatch(SoormaError):
    """The idempotency key was used before, for a request with another body."""

    code = "idempotency_mismatch"
    status = 422


class HistoryGone(SoormaError):
    """What was asked for lies before the `horizon`, the oldest revision or position still kept."""

    horizon: int

    code = "history_gone"
    status = 410


class LimitExceeded(SoormaError):
    """A request would cross the limit named `limit`, whose `maximum` is given; nothing was changed."""

    limit: str
    maximum: int
    actual: int

    code = "limit_exceeded"
    status = 413


class WrongType(SoormaError, TypeError):
    """The operation does not fit the value: increment needs a number, append a list, merge an object."""

    key: str | None
    found: str | None
    """the type of the value that is there"""

    code = "wrong_type"
    status = 422


class Unavailable(SoormaError, ConnectionError):
    """The platform or its store cannot be reached or cannot work now; the message says what to check.

    Never means that something is missing. A change that ends so may or may not have been made; the
    SDK's own retries use one idempotency key, so that it was made at most once.
    """

    service: str | None
    port: int | None

    code = "unavailable"
    status = 503


class ProtocolMismatch(SoormaError):
    """SDK and platform speak different versions of the protocol; the message names both and says which to update.

    A platform of before there were versions may have done what it was asked for: its response told
    nothing of it.
    """

    sdk_protocol: str | int
    platform_protocol: str | int

    code = "protocol_mismatch"
    status = 400


class HandlerEnded(SoormaError, RuntimeError):
    """A context was used after its handler had ended; what it would have done can no longer be committed."""

    code = "handler_ended"


class DeadLettered(SoormaError):
    """The request awaited an answer, but the event was given up by `group` after `attempts` attempts."""

    group: str
    attempts: int
    reason: str

    code = "dead_lettered"


class TimedOut(SoormaError, TimeoutError):
    """What was waited for did not come in the time given; it may still come later."""

    event_id: str | None
    key: str | None

    code = "timed_out"
    status = 504


def _rebuild(kind: type[SoormaError], message: str, details: dict[str, Any]) -> SoormaError:
    return kind(message, **details)


def _tree(kind: type[SoormaError]) -> dict[str, type[SoormaError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found.update(_tree(child))
    return found


BY_CODE: dict[str, type[SoormaError]] = _tree(SoormaError)


_KEPT = {"stale"}
"""Details that are for this process alone."""


def to_problem(error: SoormaError) -> dict[str, Any]:
    """The problem document (RFC 9457) of an error: its extension members are the error's details."""
    told = {name: value for name, value in error.details.items() if name not in _KEPT}
    return {
        **told,
        "type": f"urn:soorma:problem:{error.code.replace('_', '-')}",
        "title": BY_CODE.get(
            error.code, type(error)
        ).__name__,  # one of its own kind has the same code
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }


_STANDARD = {"type", "title", "status", "detail", "code"}


def from_problem(problem: dict[str, Any]) -> SoormaError:
    """The error of a problem document; an unknown code becomes a plain SoormaError that keeps it."""
    kind = BY_CODE.get(str(problem.get("code")), SoormaError)
    details = {name: value for name, value in problem.items() if name not in _STANDARD}
    if kind is SoormaError:
        details["problem"] = problem
    return kind(
        str(problem.get("detail") or problem.get("title") or "the platform refused the request"),
        **details,
    )
