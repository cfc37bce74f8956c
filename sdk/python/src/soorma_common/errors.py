"""Every way a call can fail, as one tree.

The class is the contract: the server sends its `code` in a problem document (RFC 9457), the SDK raises
the class of that code again with the same details. Nothing in Soorma answers a failure with a default.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SoormaError(Exception):
    """Root of all errors raised by Soorma.

    `code` is stable and travels over HTTP; `status` is the HTTP status it travels with; `details` holds
    what a program needs to react (names, revisions, limits) and is part of the problem document.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self.__dict__.get("details", {}):
            return self.details[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)


class InvalidRequest(SoormaError, ValueError):
    """A request does not have the form it must have; the message names the part and what belongs there."""

    code = "invalid_request"
    status = 422


class InvalidName(InvalidRequest):
    """A plan id, key, tenant, user, topic or event type is not a name that Soorma takes."""

    code = "invalid_name"


class InvalidValue(InvalidRequest):
    """A value holds something that JSON cannot say; `path` tells where in the value."""

    code = "invalid_value"


class InvalidPayload(InvalidValue):
    """An event's payload does not fit the schema of its type; `path` is a JSON pointer into the payload."""

    code = "invalid_payload"


class ReentrantRequest(InvalidRequest):
    """All who take a request wait for its response themselves: `group` does, in its handler of event `event_id`."""

    code = "reentrant_request"
    status = 409


class Forbidden(SoormaError):
    """The caller may not touch that tenant, user or plan."""

    code = "forbidden"
    status = 403


class NotFound(SoormaError):
    """There is nothing of that name here."""

    code = "not_found"
    status = 404


class KeyMissing(NotFound, KeyError):
    """The plan has no such key (it was never set, was deleted, or has expired)."""

    code = "key_missing"

    def __str__(self) -> str:
        return self.message


class Conflict(SoormaError):
    """A compare-and-set failed: `key` is at `current_revision`, not at `expected_revision` (0: missing)."""

    code = "conflict"
    status = 409


class Fenced(SoormaError):
    """This delivery was given to somebody else meanwhile: nothing of this attempt was or will be visible."""

    code = "fenced"
    status = 409


class PlanEnded(SoormaError):
    """The plan has ended before: it was completed, failed or cancelled, as `details["plan_status"]` says."""

    code = "plan_ended"
    status = 409


class PlanExists(SoormaError):
    """The plan that was to begin as a fork of another is in use, or has a history: it was not cleaned up."""

    code = "plan_exists"
    status = 409


class PlanCancelled(Fenced):
    """The plan of this event was cancelled, or purged: nothing of this attempt is ever visible, and none follows."""

    code = "plan_cancelled"


class EventIdConflict(SoormaError):
    """An event of that id, but of other content, was published before in this tenant."""

    code = "event_id_conflict"
    status = 409


class DefinitionConflict(SoormaError):
    """That version of an event type is defined already, with other content; give the new content a new version."""

    code = "definition_conflict"
    status = 409


class IdempotencyMismatch(SoormaError):
    """The idempotency key was used before, for a request with another body."""

    code = "idempotency_mismatch"
    status = 422


class HistoryGone(SoormaError):
    """What was asked for lies before the `horizon`, the oldest revision or position still kept."""

    code = "history_gone"
    status = 410


class LimitExceeded(SoormaError):
    """A request would cross the limit named `limit`, whose `maximum` is given; nothing was changed."""

    code = "limit_exceeded"
    status = 413


class WrongType(SoormaError, TypeError):
    """The operation does not fit the value: increment needs a number, append a list, merge an object."""

    code = "wrong_type"
    status = 422


class Unavailable(SoormaError, ConnectionError):
    """The platform or its store cannot be reached or cannot work now; the message says what to check.

    Never means that something is missing. A change that ends so may or may not have been made; the SDK's
    own retries use one idempotency key, so that it was made at most once.
    """

    code = "unavailable"
    status = 503


class ProtocolMismatch(SoormaError):
    """SDK and platform speak different versions of the protocol; the message names both and says which to update.

    A platform of before there were versions may have done what it was asked for: its response told nothing of it.
    """

    code = "protocol_mismatch"
    status = 400


class HandlerEnded(SoormaError, RuntimeError):
    """A context was used after its handler had ended; what it would have done can no longer be committed."""

    code = "handler_ended"


class DeadLettered(SoormaError):
    """The request awaited an answer, but the event was given up by `group` after `attempts` attempts."""

    code = "dead_lettered"


class TimedOut(SoormaError, TimeoutError):
    """What was waited for did not come in the time given; it may still come later."""

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
        "title": BY_CODE.get(error.code, type(error)).__name__,  # one of its own kind has the same code
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
    return kind(str(problem.get("detail") or problem.get("title") or "the platform refused the request"), **details)
