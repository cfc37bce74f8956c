"""`soorma memory forget`: removes a passage, or all that fits a description, for good."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.exits import CommandError, Exit
from soorma.cli.memory.fields import counted, excerpt, moment
from soorma.cli.memory.passages import read_passage
from soorma.cli.parameters import Json, Tenant, User
from soorma_common.forgetting import Kind, Receipt
from soorma_common.names import check_name

if TYPE_CHECKING:
    from soorma_common.semantic import Passage

app = command_group()

_HELP = """Remove a passage for good, or all memories of the user that fit what is given; asks \
first.

With a passage goes what it has replaced, and all that was derived from it. Several options narrow \
what fits.

\b
Examples:
  soorma memory forget ID
  soorma memory forget --source mail --preview
  soorma memory forget --source mail --all-users
  soorma memory forget --before 2030-01-01T00:00:00Z --kind interactions
"""
_GOES_WITH_IT = "those that it has replaced and all that was derived from them"
_WITH_IT = "with what it has replaced and all that was derived from it"

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command(help=_HELP)
def forget(
    context: typer.Context,
    passage_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The passage's id.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PLAN", help="What comes from this plan.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="What was said in this session.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="What has this source.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="What comes from this agent.")
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="ID", help="What comes from this event.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="What is older, as 2030-01-01T12:00:00Z."),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="Of what fits, those of this kind only.", show_default="all"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="All that this user has stored.")
    ] = False,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Of all users of the tenant.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only count what fits; forget nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    given: dict[str, Any] = {
        "plan_id": plan,
        "session_id": session,
        "source": source,
        "agent_id": agent,
        "event_id": event,
        "before": before,
    }
    what = {name: value for name, value in given.items() if value is not None}
    if passage_id is not None:
        if what or everything or all_users or kind or preview:
            raise typer.BadParameter(
                "it is one passage, and the options describe many memories; give one of the two",
                param_hint="ID",
            )
        _forget_passage(passage_id, yes=yes, as_json=as_json, tenant=tenant, user=user)
        return
    if not what and not everything:
        raise typer.BadParameter(
            "give the id of a passage, or say what is to be forgotten: --plan, --session, "
            "--source, --agent, --event, --before or --everything",
            param_hint="ID",
        )
    if what and everything:
        raise typer.BadParameter(
            "it is more than the other options say; give one of the two", param_hint="--everything"
        )
    if all_users and _is_given(context, "user"):
        raise typer.BadParameter(
            f"all users are more than user {user!r}; give one of the two",
            param_hint="--all-users",
        )
    what |= {"everything": everything, "kind": kind or "all", "all_users": all_users}
    _Filtered(what, tenant, user).forget(preview=preview, yes=yes, as_json=as_json)


def _is_given(context: typer.Context, parameter: str) -> bool:
    """Returns True if a parameter is of the command line, not of the environment."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


class _Filtered:
    """All memories of a user that fit the arguments of `MemoryClient.forget`."""

    def __init__(self, what: dict[str, Any], tenant: str | None, user: str | None) -> None:
        self._what = what
        self._tenant = tenant
        self._user = user

    def forget(self, *, preview: bool, yes: bool, as_json: bool) -> None:
        """Counts them for a preview, or asks and forgets them; prints the receipt."""
        if not preview and not yes:
            ask_first(f"forget removes what fits, {_WITH_IT}", self._question)
        receipt = self._preview() if preview else self._forgotten()
        if as_json:
            output.say_json(receipt)
        elif preview:
            output.say(_fitting(receipt))
            if not _is_empty(receipt):
                output.note(f"without --preview, this is forgotten, {_WITH_IT}")
        else:
            output.say(f"Forgot {memories_of(receipt)}")
            say_erased(receipt)

    def _question(self) -> str:
        found = self._preview()
        if _is_empty(found):
            output.note("nothing fits")
            raise typer.Exit
        whose = " of all users of the tenant" if self._what["all_users"] else ""
        return f"{_fitting(found)}{whose}. This removes that, {_WITH_IT}."

    def _preview(self) -> Receipt:
        async def ask(platform: PlatformConnection) -> Receipt:
            return await platform.memory.forget(**self._what, preview=True)

        return on_platform(self._tenant, self._user, ask)

    def _forgotten(self) -> Receipt:
        async def forget(platform: PlatformConnection) -> Receipt:
            return await platform.memory.forget(**self._what)

        return receipt_of(self._tenant, self._user, forget)


def receipt_of(
    tenant: str | None,
    user: str | None,
    forgetting: Callable[[PlatformConnection], Awaitable[Receipt]],
) -> Receipt:
    """Returns the receipt of a forgetting; CommandError if it fails.

    It takes several commits, so one that breaks off may have forgotten a part.
    """
    try:
        return on_platform(tenant, user, forgetting)
    except CommandError as error:
        if error.exit_code != Exit.UNAVAILABLE:
            raise
        rest = "what was forgotten before that stays so, and the same command forgets the rest"
        raise CommandError(Exit.UNAVAILABLE, f"{error.message}; {rest}") from error


def say_erased(receipt: Receipt) -> None:
    """Prints when the bytes of what was forgotten are gone, unless there are none."""
    if not _is_empty(receipt):
        output.say(
            f"The bytes are gone from the database and its log by {moment(receipt.erased_by)}; "
            "backups made before keep them"
        )


def _is_empty(receipt: Receipt) -> bool:
    return not any(count for count, _ in _counts(receipt))


def _fitting(receipt: Receipt) -> str:
    is_one = sum(count for count, _ in _counts(receipt)) < 2
    return f"{memories_of(receipt)} fit{'s' if is_one else ''}".capitalize()


def memories_of(receipt: Receipt) -> str:
    """Formats how much was forgotten, or would be."""
    told = [counted(count, what) for count, what in _counts(receipt) if count]
    *others, last = told or ["nothing"]
    return f"{', '.join(others)} and {last}" if others else last


def _counts(receipt: Receipt) -> tuple[tuple[int, str], ...]:
    return (
        (receipt.passages, "passage"),
        (receipt.interactions, "interaction"),
        (receipt.procedures, "procedure version"),
    )


# --- A single passage ------------------------------------------------------------------------


def _forget_passage(
    passage_id: str, *, yes: bool, as_json: bool, tenant: str | None, user: str | None
) -> None:
    def question() -> str:
        found: Passage = read_passage(passage_id, tenant, user)
        return f"{excerpt(found.content)}\nThis removes the passage, {_GOES_WITH_IT}."

    if not yes:
        ask_first(f"forget removes the passage, {_GOES_WITH_IT}", question)

    async def remove(platform: PlatformConnection) -> dict[str, Any]:
        from soorma.transport.calls import segment  # noqa: PLC0415 - imports aiohttp, which --help does without

        path = f"/v1/memory/semantic/{segment(check_name('id', passage_id))}"
        done: dict[str, Any] = await platform.delete("memory", path)
        return done

    done = on_platform(tenant, user, remove)
    was_there = done["outcome"] == "forgotten"
    if as_json:
        output.say_json(done)
    elif was_there:
        others = done.get("closed", [])
        output.say(f"Forgot passage {output.cell(passage_id)}{':' if others else ''}")
        for other in others:
            output.say(f"  with it {output.cell(other)}, which it had replaced or led to")
    if not was_there:
        raise CommandError(
            Exit.NOT_FOUND,
            f"there is no passage {output.cell(passage_id)}: it was never stored, or forgotten",
        )


# --- Asking ----------------------------------------------------------------------------------


def ask_first(consequence: str, question: Callable[[], str]) -> None:
    """Raises CommandError unless a person at the terminal agrees.

    `consequence` is told where nobody can be asked, and `question` made only where somebody can.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError(Exit.USAGE, f"{consequence}; say --yes where nobody can be asked")
    sys.stdout.write(f"{question()}\nRemove it? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(Exit.FAILED, "nothing was forgotten")
