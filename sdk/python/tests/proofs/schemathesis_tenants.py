"""Hooks of schemathesis for a tenant that goes after another one's data, whose names it knows.

Loaded by its command, through schemathesis_tenants.toml. SOORMA_TARGET is a JSON object: `names`
are what the other tenant has, by the parameter that takes it, and `secret` is a text in all that it
has stored. No request holds the secret, so no response may.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import schemathesis
import schemathesis_hooks  # noqa: F401 - its handling of streams
from schemathesis.core.failures import Failure

_TARGET = json.loads(os.environ["SOORMA_TARGET"])
NAMES: dict[str, list[str]] = _TARGET["names"]
SECRET: bytes = _TARGET["secret"].encode()
_dice = random.Random(_TARGET["seed"])


class TenantsCross(Failure):
    """A response holds what another tenant has stored."""


@schemathesis.hook("before_call")
def go_after_the_other(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Puts the other tenant's names into requests, most of the time."""
    for part in (case.path_parameters, case.query, case.body):
        _mix(part)
    headers = case.headers
    for name, value in (("X-Tenant-ID", NAMES["tenant_id"]), ("X-User-ID", NAMES["user_id"])):
        headers.pop(name, None)
        if _dice.random() < 0.4:
            headers[name] = _dice.choice([*value, "acme" if name == "X-Tenant-ID" else "ann"])
    # Without a user, most requests of a key for a whole tenant end at the door.
    headers.setdefault("X-User-ID", "ann")
    headers["Authorization"] = f"Bearer {_TARGET['credential']}"


def _mix(part: Any) -> None:
    if isinstance(part, dict):
        for name, value in part.items():
            if name in NAMES and isinstance(value, str) and _dice.random() < 0.7:
                part[name] = _dice.choice(NAMES[name])
            else:
                _mix(value)
    elif isinstance(part, list):
        for value in part:
            _mix(value)


@schemathesis.check
def no_crossing(context: Any, response: Any, case: Any) -> None:
    """Fails if a response holds the secret of the other tenant."""
    if SECRET in (response.content or b"") or SECRET in str(response.headers).encode():
        raise TenantsCross(
            operation=case.operation.label,
            title="Tenants cross",
            message=f"{case.operation.label} shows what another tenant has stored",
        )
