"""`soorma memory skills`. The modules beside it hold its commands."""

from __future__ import annotations

from soorma.cli.commands import command_group, listing_group
from soorma.cli.memory.skills import activation, listings, relevance, storing

app = command_group()
_skills = listing_group(
    "skills",
    "List skills, prompts and rules; show, add, import, activate or forget one, and see what an "
    "agent gets. Without a command, list.",
)
app.add_typer(_skills)
for module in (listings, relevance, storing, activation):
    _skills.add_typer(module.app)
