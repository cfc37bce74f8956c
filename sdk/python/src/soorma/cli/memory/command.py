"""`soorma memory`: semantic and episodic memory. The modules beside it hold its commands."""

from __future__ import annotations

from soorma.cli.commands import command_group
from soorma.cli.memory import additions, forgetting, interactions, passages, searches, sessions

app = command_group("memory")

for module in (searches, additions, passages, forgetting, interactions, sessions):
    app.add_typer(module.app)
