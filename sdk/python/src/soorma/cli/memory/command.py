"""`soorma memory`: semantic memory. The modules beside it hold its commands."""

from __future__ import annotations

from soorma.cli.commands import command_group
from soorma.cli.memory import additions, passages, searches

app = command_group("memory")

app.add_typer(searches.app)
app.add_typer(additions.app)
app.add_typer(passages.app)
