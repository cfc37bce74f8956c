"""Hooks of schemathesis: its handling of streams, and findings that do not count, with reasons.

Loaded by its command, through schemathesis.toml.
"""

from __future__ import annotations

import re
from functools import reduce
from typing import Any, TypeAlias

import requests
import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

Scope: TypeAlias = tuple[str | None, str | None]

BY_STATE = {
    "idempotency_mismatch": "the key was used before, for another request",
    "wrong_type": "the key holds a value that the operation does not fit",
    "invalid_payload": "the event type was registered with a schema that the data does not fit",
}
"""Codes of errors that depend on the state before. They share 422 with errors of the form."""

INEXPRESSIBLE = (
    "the events of one request belong to one tenant and user",
    "is named twice",
    "no key fulfils both If-Match and If-None-Match",
    "is no JSON Schema",
    "cannot be used",
    "begins with its fork",
    "at least one, and no name twice",
    "as the first to arrive said",
    "and not to be joined by",
    "a timer says when",
    "send one of the two",
    "awaited=true is for one event",
    "at must be from",
    # of control characters alone, some of which are blanks here and not in a pattern
    "is empty: ",
    # a year out of range, or a period that ends before it begins
    "must be RFC 3339 with a time zone",
    "must be later than valid_from",
    "would be valid until a time",
    "are given together",
    "bytes of JSON at most",
    "say what is to be forgotten",
    "of either a source or an agent_id",
    "is more than",
    # what is stored already, or is not what it is taken for
    "is stored already",
    "is logged already",
    "nobody has proposed",
    "SKILL.md is made of",
    "say which tenant is meant",
    "was never active",
    "a use names a plan",
    "the description is empty",
    "the condition",
    "the fact",
    # keys: what fits together, and names of scopes and topics
    "a key has either a role",
    "there is no scope",
    "names its tenant_id, too",
    "are for keys that take deliveries",
    "a key that takes deliveries",
    "there is no topic",
    "expires_in must be more than 0",
    "overlap must be at most",
    "this platform is open",
    "a block has either a subject",
    "entries, not",
    "say whose tokens are meant",
    "no embedding model is in use",
    "a ticket for",
    "is taken for a time",
    # what is longer itself is refused by the schema: this is a semaphore's place
    "key must have 1 to 255 characters",
)
"""Details of rejections for reasons that a document cannot express.

Parts of a body or of the headers must agree or differ, a JSON Schema must be valid, and its check
must take a bounded time.
"""

OF_A_PLAN = {"memory_entries", "memory_history", "memory_actions", "memory_watch"}
"""Operations that respond with 200 and an empty result for a missing plan, not with 404.

A plan is a namespace: it exists before its first key and after its cleanup, empty, with a revision
that never falls.
"""

WHOLE = re.compile(r"Expected `int.*, got `float` - at `\$(.+)`")
"""JSON Schema calls 2.0 an integer, Python does not: a whole number must have no point."""

QUIET_SECONDS = 0.05
"""Seconds of silence after which a stream is checked, since streams do not end.

It is also checked once it has sent an event.
"""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Inspects each response before its body is read."""
    kwargs["hooks"] = {"response": _listen_briefly}


def _listen_briefly(response: requests.Response, **_: Any) -> None:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        response.raw.connection.sock.settimeout(QUIET_SECONDS)


_scopes: dict[str, Scope] = {}
"""The scope of each case: a deletion for one tenant or user leaves the data of others."""

_revisions: dict[str, int] = {}
"""The revision in the response to each case, if any.

A deletion repeated under its idempotency key deletes nothing: its response is the first one, and
later writes have a later revision.
"""


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Notes the scope of a case, and the revision in its response."""
    _scopes[case.id] = _scope_of(response.request)
    _revisions[case.id] = _told(response).get("revision", 0)


def _told(response: Any) -> dict[str, Any]:
    if not response.headers.get("content-type", [""])[0].startswith("application/json"):
        return {}
    told = response.json()
    return told if isinstance(told, dict) else {}


def _scope_of(request: Any) -> Scope:
    return request.headers.get("X-Tenant-ID"), request.headers.get("X-User-ID")


def _belong_together(one: Scope, other: Scope) -> bool:
    """True if they are of one tenant and, where both name one, of one user."""
    return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """True if a failure counts."""
    if isinstance(failure, UseAfterFree):
        is_of_a_plan = context.operation.definition.raw["operationId"] in OF_A_PLAN
        return _is_what_was_deleted(failure.deleted_case_id, response) and not is_of_a_plan
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    if problem["code"] in BY_STATE or _is_whole(problem["detail"], case.body):
        return False
    return not any(words in problem["detail"] for words in INEXPRESSIBLE)


def _is_what_was_deleted(case_id: str, response: Any) -> bool:
    """True if a response shows what was deleted.

    That is not another scope's, nor shared by all tenants (which shows again behind a tenant's
    own), nor written since.
    """
    scope, told = _scopes[case_id], _told(response)
    is_shared = scope[0] is not None and told.get("tenant_id", scope[0]) is None
    is_later = told.get("revision", 0) > _revisions[case_id]
    return _belong_together(scope, _scope_of(response.request)) and not is_shared and not is_later


def _is_whole(detail: str, body: Any) -> bool:
    """True if a number is rejected for its spelling alone."""
    found = WHOLE.search(detail)
    if found is None:
        return False
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", found[1])
    return float(reduce(lambda part, step: part[step[0] or int(step[1])], steps, body)).is_integer()
