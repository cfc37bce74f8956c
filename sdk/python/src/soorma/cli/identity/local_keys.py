"""The keys of `soorma dev --secure`: one for each role, in a file that programs find there."""

from __future__ import annotations

import os
from pathlib import Path

from soorma.cli.exits import CommandError, Exit
from soorma_common.names import DEFAULT_TENANT

_HEAD = """\
# The keys of this folder's platform, made by soorma dev --secure. Whoever has them may use it.
# Programs that are started in this folder find theirs; others read one from SOORMA_API_KEY.
"""
_KEYS = {
    "operator": [],
    "app": [f'tenant_id = "{DEFAULT_TENANT}"'],
    "agent": [
        f'tenant_id = "{DEFAULT_TENANT}"',
        'agents = ["*"]',
        'subscribe = ["*"]',
        'publish = ["*"]',
    ],
    "viewer": [f'tenant_id = "{DEFAULT_TENANT}"'],
}


def make_keys(file: Path) -> None:
    """Makes the file, for this user only, unless it is there.

    The agent's key is for any agent and any event: on a laptop they are all one's own.
    """
    from soorma_platform.identity.credentials import fresh_key  # noqa: PLC0415 - --help does without

    if file.exists():
        return
    tables = [
        "\n".join(
            (
                "[[keys]]",
                f'name = "{role}"',
                f'role = "{role}"',
                *lines,
                f'credential = "{fresh_key().credential}"',
            )
        )
        for role, lines in _KEYS.items()
    ]
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write("\n\n".join((_HEAD, *tables)) + "\n")
    except OSError as error:
        raise CommandError(
            Exit.UNWRITABLE, f"{file} cannot be written: {error.strerror}"
        ) from error
