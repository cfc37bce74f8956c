"""The table of commands: each with its module, which is imported when the command is named."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Home(NamedTuple):
    """The module of a command, which holds it as `app`, and its line in `soorma --help`."""

    module: str
    help: str


HOMES = {
    "dev": Home(
        "soorma.cli.dev.command",
        "Start the platform on this machine, or look after the one that runs.",
    ),
    "serve": Home(
        "soorma.cli.serve",
        "Run the services in the foreground, until SIGINT or SIGTERM, for a supervisor such as "
        "systemd.",
    ),
    "version": Home(
        "soorma.cli.version", "Show the version, the Python and where it is installed."
    ),
    "init": Home(
        "soorma.cli.init",
        "Make a project in a new folder: agents, a test that passes, and the next steps.",
    ),
    "run": Home(
        "soorma.cli.run.command", "Run agents, each in a process of its own, until Ctrl+C."
    ),
    "events": Home(
        "soorma.cli.data.events",
        "Follow and publish events; look at groups and dead letters, and replay these.",
    ),
    "state": Home(
        "soorma.cli.data.plans", "Look at plans, their keys and their history, and change them."
    ),
    "memory": Home(
        "soorma.cli.memory.command",
        "Search what is known and what was said, look after skills; add to these, look at them, "
        "and forget.",
    ),
    "agents": Home(
        "soorma.cli.data.agents", "List the agents that are alive, and what they can do."
    ),
    "keys": Home(
        "soorma.cli.identity.command",
        "Create, list, rotate and revoke API keys: who may use the platform, and for what.",
    ),
    "blocks": Home(
        "soorma.cli.identity.blocks",
        "Block tokens of the issuer, of a user or one by its id; list and lift the blocks.",
    ),
    "whoami": Home(
        "soorma.cli.identity.whoami",
        "Show who the platform takes you for: the key, tenant, user and scopes of SOORMA_API_KEY.",
    ),
    "audit": Home(
        "soorma.cli.identity.audit",
        "List who has done what: keys, dead letters, plans deleted, memories forgotten.",
    ),
    "backup": Home(
        "soorma.cli.store.backup", "Copy the record into one file, while the platform runs or not."
    ),
    "restore": Home(
        "soorma.cli.store.restore",
        "Put the record of a backup in place of the present one. No platform may run on it "
        "meanwhile.",
    ),
    "doctor": Home(
        "soorma.cli.doctor.command",
        "Find out what is wrong with this machine, installation or platform, and what to do.",
    ),
    "completion": Home(
        "soorma.cli.completion",
        "Print the script with which your shell completes commands, options and choices.",
    ),
}


def command_group(name: str | None = None) -> typer.Typer:
    """Creates a group of commands.

    Without a name, it holds a single command, or its commands become those of the group it joins.
    """
    return typer.Typer(
        name=name,
        help=None if name is None else HOMES[name].help,
        epilog=None if name is None else "Exit codes are listed by: soorma dev --help",
        no_args_is_help=name is not None,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def listing_group(name: str, help_text: str) -> typer.Typer:
    """Creates a group within a group, which lists where no command is named."""
    return typer.Typer(
        name=name,
        cls=_ListingGroup,
        help=help_text,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


class _ListingGroup(TyperGroup):
    """A group in which `sessions` is `sessions list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_help = any(name in args for name in self.get_help_option_names(ctx))
        # A shell that completes the name of a command has none to pass.
        is_complete = not ctx.resilient_parsing
        if args[0].startswith("-") and not is_help if args else is_complete:
            args = ["list", *args]
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The root group, which imports a command when it is named: listing commands imports none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, home in HOMES.items():
            self.add_command(
                TyperCommand(name, help=home.help, short_help=home.help, rich_markup_mode=None),
                name,
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replaces the placeholder of the named command with it; UsageError if there is none."""
        home = HOMES.get(args[0])
        if home is not None:
            self.add_command(get_command(import_module(home.module).app), args[0])
        return super().resolve_command(ctx, args)
