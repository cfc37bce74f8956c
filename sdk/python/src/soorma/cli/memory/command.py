"""`soorma memory`: three memories. The modules beside it hold its commands."""

from __future__ import annotations

from soorma.cli.commands import command_group
from soorma.cli.memory import (
    additions,
    auditing,
    forgetting,
    interactions,
    passages,
    quarantine,
    searches,
    sessions,
)
from soorma.cli.memory.skills import command as skills

app = command_group("memory")

for module in (
    searches, additions, passages, forgetting, interactions, sessions, skills, quarantine, auditing
):  # fmt: skip
    app.add_typer(module.app)
