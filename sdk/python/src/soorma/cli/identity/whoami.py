"""`soorma whoami`: who the platform takes one for."""

from __future__ import annotations

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform
from soorma.cli.parameters import Json

app = command_group()


@app.command(
    help="Show who the platform takes you for: the key, tenant, user and scopes of SOORMA_API_KEY."
)
def whoami(as_json: Json = False) -> None:
    from soorma.cli.identity.command import state_of  # noqa: PLC0415 - --help does without these
    from soorma_common.identity import SCOPES, Whoami  # noqa: PLC0415

    async def ask(platform: PlatformConnection) -> Whoami:
        return await platform.send("identity", "GET", "/v1/identity/whoami", None, Whoami)

    who = on_platform(None, None, ask)
    if as_json:
        output.say_json(who)
        return
    if who.is_open:
        output.say("This platform is open: it believes what it is told, and checks no key.")
        return
    if who.key is not None:
        output.say(
            f"Key {output.cell(who.key.id)} ({output.cell(who.key.name)}), {state_of(who.key)}"
        )
    if who.token is not None:
        until = output.moment(who.token.expires_at.isoformat())
        output.say(
            f"Token of {output.cell(who.token.subject)}, of {output.cell(who.token.issuer)}, "
            f"until {until}"
        )
    output.say(f"Tenant: {output.cell(who.tenant_id or 'all')}")
    output.say(f"User: {output.cell(who.user_id or 'all')}")
    output.say("Permits:")
    for scope in who.scopes:
        output.say(f"  {scope:<16}  {SCOPES.get(scope, '')}")
