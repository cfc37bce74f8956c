"""The nouns that have commands of their own: `soorma events …`, `soorma state …`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

HOMES = {"events": "soorma.cli.events", "state": "soorma.cli.plans"}
"""The module of each noun, whose `app` has its commands."""


class Nouns(TyperGroup):
    """The command's root, which imports a noun when it is named: `soorma version` need not pay for the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands of `app`, and the nouns."""
        return [*super().list_commands(ctx), *HOMES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None if there is none."""
        if cmd_name in HOMES and cmd_name not in self.commands:
            self.add_command(get_command(import_module(HOMES[cmd_name]).app), cmd_name)
        return super().get_command(ctx, cmd_name)
