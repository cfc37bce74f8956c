"""All errors, as one tree of classes.

The class is the contract: the platform sends its `code` in a problem document (RFC 9457), and the
SDK raises the class of that code with the same details. Nothing in Soorma hides a failure behind a
default.
"""

from __future__ import annotations

from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar


class SoormaError(Exception):
    """Root of all errors raised by Soorma.

    `code` is stable and sent over HTTP, with the HTTP status `status`. `details` holds what a
    program needs to react (names, revisions, limits) and is part of the problem document. Details
    are attributes, too; one that the class declares and this error does not have is None.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    if not TYPE_CHECKING:  # or a type checker would accept misspelt attributes

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
    """The request is malformed; the message names the part and what is expected there."""

    missing: list[str] | None
    """required headers that the request does not have"""

    code = "invalid_request"
    status = 422


class InvalidName(InvalidRequest):
    """A plan id, key, tenant, user, topic or event type is not a valid name."""

    name: str | None
    """the part that is invalid, such as a key or plan id"""

    code = "invalid_name"


class InvalidValue(InvalidRequest):
    """A value contains something that JSON cannot represent; `path` is its place in the value."""

    path: str

    code = "invalid_value"


class InvalidPayload(InvalidValue):
    """An event's payload does not fit the schema of its type.

    `path` is a JSON pointer into the payload.
    """

    expected: str
    event_type: str
    schema: str
    """the definition, as `type@version`"""

    code = "invalid_payload"


class SecretFound(InvalidValue):
    """A text that memories were to store holds what looks like a secret; nothing was stored.

    `kind` says what it looks like, `path` the field and `position` the character at which it
    begins. `operation` is the number of the passage, interaction or procedure in its commit.
    """

    kind: str
    position: int
    operation: int

    code = "secret_found"


class ReentrantRequest(InvalidRequest):
    """A request can get no response, as all its receivers wait for it themselves.

    `group` does so in its handler of event `event_id`.
    """

    group: str
    event_id: str

    code = "reentrant_request"
    status = 409


class Unauthorized(SoormaError):
    """The request has no credential, or one that is not valid; the message says what to do."""

    code = "unauthorized"
    status = 401


class TooManyAttempts(Unauthorized):
    """No valid credential, once more, from an address that has tried too often without one.

    A valid one is accepted from there at any time. After `retry_after` seconds the next try without
    one is told again what is wrong with it alone.
    """

    retry_after: float

    code = "too_many_attempts"
    status = 429


class Forbidden(SoormaError):
    """The caller may not do that; with a credential, `key` is the id of its key.

    What belongs to another tenant is never forbidden: it is not found.
    """

    key: str | None

    code = "forbidden"
    status = 403


class NotFound(SoormaError):
    """Nothing of that name exists."""

    plan_id: str | None
    name: str | None
    event_type: str | None

    code = "not_found"
    status = 404


class AlreadyKnown(SoormaError):
    """Passages seem to state the same as one that was to be stored unless it is known.

    `passages` are their ids, the nearest first. Nothing was stored.
    """

    passages: list[str]

    code = "already_known"
    status = 409


class KeyMissing(NotFound, KeyError):
    """The plan has no such key (it was never set, was deleted, or has expired)."""

    key: str

    code = "key_missing"

    def __str__(self) -> str:
        return self.message


class Conflict(SoormaError):
    """Something that a commit has read or expects has changed meanwhile.

    `key` is at `current_revision`, not at `expected_revision` (0: missing).
    """

    plan_id: str | None
    key: str | None
    expected_revision: int | None
    current_revision: int | None
    expected_status: str | None
    """the plan's, if the status is what differs"""
    current_status: str | None
    was_reserved: bool | None
    """true if the key was reserved for the handler that ran"""

    code = "conflict"
    status = 409


class Fenced(SoormaError):
    """This delivery was given to another agent: nothing of this attempt is or will be visible."""

    code = "fenced"
    status = 409


class PlanEnded(SoormaError):
    """The plan has already ended; `plan_status` is completed, failed or cancelled."""

    plan_id: str
    plan_status: str

    code = "plan_ended"
    status = 409


class PlanExists(SoormaError):
    """The plan to create as a fork is in use, or has a history: it was not cleaned up."""

    plan_id: str

    code = "plan_exists"
    status = 409


class PlanCancelled(Fenced):
    """The plan of this event was cancelled or purged: nothing of this attempt is ever visible.

    No further attempt follows.
    """

    plan_id: str

    code = "plan_cancelled"


class EventIdConflict(SoormaError):
    """An event with that id but other content was published in this tenant before."""

    event_id: str

    code = "event_id_conflict"
    status = 409


class DefinitionConflict(SoormaError):
    """The version of the event type is already defined, with other content.

    Give the new content a new version.
    """

    event_type: str
    version: int

    code = "definition_conflict"
    status = 409


class IdempotencyMismatch(SoormaError):
    """The idempotency key was used before, for a request with another body."""

    code = "idempotency_mismatch"
    status = 422


class HistoryGone(SoormaError):
    """The request is for data before `horizon`, the oldest revision or position still kept."""

    horizon: int

    code = "history_gone"
    status = 410


class LimitExceeded(SoormaError):
    """The request would exceed the limit `limit`, which is `maximum`; nothing was changed."""

    limit: str
    maximum: int
    actual: int

    code = "limit_exceeded"
    status = 413


class WrongType(SoormaError, TypeError):
    """The operation needs another type: increment a number, append a list, merge an object."""

    key: str | None
    found: str | None
    """the type of the stored value"""

    code = "wrong_type"
    status = 422


class Unavailable(SoormaError, ConnectionError):
    """The platform or its store is unreachable or cannot work; the message says what to check.

    It never means that something is missing. A change that fails with it may or may not have been
    made; the SDK's own retries share one idempotency key, so that it was made at most once.
    """

    service: str | None
    port: int | None

    code = "unavailable"
    status = 503


class TooManyRequests(Unavailable):
    """The tenant has used up its quota `limit`, which is `maximum`; nothing was done.

    After `retry_after` seconds there is room again; it is None if nobody can say when, as for
    connections. The SDK waits for it by itself, within the time of its retries.
    """

    limit: str
    maximum: int
    retry_after: float | None

    code = "too_many_requests"
    status = 429


class ProtocolMismatch(SoormaError):
    """SDK and platform speak different versions of the protocol.

    The message names both and says which to update. A platform that predates versions may have
    carried out the request: its response did not say.
    """

    sdk_protocol: str | int
    platform_protocol: str | int

    code = "protocol_mismatch"
    status = 400


class HandlerEnded(SoormaError, RuntimeError):
    """A context was used after its handler ended: its changes can no longer be committed."""

    code = "handler_ended"


class DeadLettered(SoormaError):
    """The request gets no response: `group` gave up its event after `attempts` attempts."""

    group: str
    attempts: int
    reason: str

    code = "dead_lettered"


class TimedOut(SoormaError, TimeoutError):
    """The wait exceeded its timeout; what it waited for may still come."""

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
"""Details that are not sent: they are for this process only."""


def to_problem(error: SoormaError) -> dict[str, Any]:
    """Returns an error's problem document (RFC 9457), with its details as extension members."""
    told = {name: value for name, value in error.details.items() if name not in _KEPT}
    return {
        **told,
        "type": f"urn:soorma:problem:{error.code.replace('_', '-')}",
        # A subclass without a code of its own gets its parent's title.
        "title": BY_CODE.get(error.code, type(error)).__name__,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }


_STANDARD = {"type", "title", "status", "detail", "code"}


def from_problem(problem: dict[str, Any]) -> SoormaError:
    """Makes the error of a problem document; a SoormaError that keeps it if the code is unknown."""
    kind = BY_CODE.get(str(problem.get("code")), SoormaError)
    details = {name: value for name, value in problem.items() if name not in _STANDARD}
    if kind is SoormaError:
        details["problem"] = problem
    return kind(
        str(problem.get("detail") or problem.get("title") or "the platform refused the request"),
        **details,
    )
