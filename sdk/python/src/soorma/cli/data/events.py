"""`soorma events`: the log of events, the groups that take them, and dead letters."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import Platform, on_platform, until_interrupted
from soorma.cli.data import timers
from soorma.cli.exits import CommandError, Exit
from soorma.cli.output import Column
from soorma.cli.parameters import Json, JsonLines, Limit, Tenant, User, json_of
from soorma_common.errors import NotFound
from soorma_common.json_text import decode
from soorma_common.terminal import plain
from soorma_common.topics import Topic

app = command_group("events")

app.add_typer(timers.app)

_TOPICS = "\b\nTopics:\n" + "\n".join(f"  {topic}" for topic in Topic)
_Group = Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Of this group only.")]
_Topics = Annotated[
    list[Topic] | None,
    typer.Option("--topic", metavar="TOPIC", help="Of this topic only; can be repeated."),
]
_Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Of this type only; can be repeated."),
]


@app.command(
    help="Print events as they are published, until Ctrl+C; none is lost or told twice if it "
    "reconnects.",
    epilog=_TOPICS,
)
def tail(
    topic: _Topics = None,
    kind: _Types = None,
    after: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Begin behind this position of the log.", show_default="now"
        ),
    ] = None,
    cloudevents: Annotated[
        bool, typer.Option("--cloudevents", help="Print each as a CloudEvent, in JSON.")
    ] = False,
    as_json: JsonLines = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if comma := next((name for name in kind or [] if "," in name), None):
        raise typer.BadParameter(
            f"a type with a comma cannot be asked for: {comma!r}", param_hint="--type"
        )
    query = {
        "topics": ",".join(topic or []) or None,
        "types": ",".join(kind or []) or None,
        "after": after,
        "format": "cloudevents" if cloudevents else None,
    }

    async def lines(platform: Platform) -> AsyncGenerator[None, None]:
        scope = platform.scope
        stream = platform.follow(
            "events", "/v1/events/stream", tenant_id=scope.tenant_id, user_id=scope.user_id, **query
        )
        async for position, data in stream:
            _tell(position, data, cloudevents=cloudevents, as_json=as_json)
            yield

    until_interrupted(tenant, user, lines)


@app.command(help="Publish an event; prints its id. It is durable then.", epilog=_TOPICS)
def publish(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="What happened, as order.placed.")],
    topic: Annotated[Topic, typer.Option(metavar="TOPIC", help="Where it flows.")],
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its data; - reads standard input.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="The plan it belongs to.")
    ] = None,
    correlation_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The workflow it belongs to.", show_default="its id"),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Its id: publishing the same again does nothing.",
            show_default="a new one",
        ),
    ] = None,
    session_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The session it belongs to.")
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is about.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who says so.", show_default="soorma-cli")
    ] = None,
    response_event: Annotated[
        str | None, typer.Option(metavar="TYPE", help="The type of the answer.")
    ] = None,
    response_topic: Annotated[
        Topic | None, typer.Option(metavar="TOPIC", help="The topic of that answer.")
    ] = None,
    trace_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The trace it belongs to.")
    ] = None,
    parent_event_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The event that led to it.")
    ] = None,
    payload_schema_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The schema of its data.")
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Publish it that much later.", show_default="now"
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Publish it then, as at 2030-01-01T12:00:00Z.", show_default="now"
        ),
    ] = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    envelope: dict[str, Any] = {
        "plan_id": plan,
        "correlation_id": correlation_id,
        "event_id": event_id,
        "session_id": session_id,
        "subject": subject,
        "source": source,
        "response_event": response_event,
        "response_topic": None if response_topic is None else response_topic.value,
        "trace_id": trace_id,
        "parent_event_id": parent_event_id,
        "payload_schema_name": payload_schema_name,
    }
    content = None if data is None else json_of("--data", data, """a text is quoted, as '"text"'""")

    if delay is not None and at is not None:
        raise typer.BadParameter("it does not go with --delay", param_hint="--at")
    moment = None if at is None else timers.moment_of(at)

    async def send(platform: Platform) -> str:
        return await platform.bus.publish(kind, topic, content, delay=delay, at=moment, **envelope)

    published = on_platform(tenant, user, send)
    if as_json:
        output.say_json({"id": published})
    else:
        output.say(plain(published))


@app.command(help="List the groups of agents that take events, and what waits for them.")
def groups(as_json: Json = False, tenant: Tenant = None, user: User = None) -> None:
    async def ask(platform: Platform) -> Any:
        return await platform.read(
            "events", "/v1/events/groups", tenant_id=platform.scope.tenant_id
        )

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json(found)
    elif not found["groups"]:
        output.note("no agent of this tenant has subscribed yet")
    else:
        output.table(
            (
                Column("Group", 0),
                Column("Tenant", 4),
                Column("Waiting", 1),
                Column("Ready", 2),
                Column("In hand", 2),
                Column("Oldest", 3),
                Column("Takes", 1, is_text=True),
                Column("Replicas", 1),
            ),
            [_group_row(group) for group in found["groups"]],
        )


@app.command(help="End a group's subscription: it takes no further events of that type.")
def unsubscribe(
    group: Annotated[str, typer.Argument(help="The group, which has the name of its agent.")],
    kind: Annotated[
        str,
        typer.Argument(metavar="TYPE", help="The type of the subscription; * is one of its own."),
    ],
    topic: Annotated[
        Topic | None,
        typer.Option(help="The topic of the subscription.", show_default="one to any topic"),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Drop what waits for it. Otherwise that becomes dead letters."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    place = f"{kind!r} on {topic.value if topic else 'any topic'}"
    fate = (
        "are dropped, with its dead letters"
        if drop
        else "become dead letters, which can be replayed"
    )
    if not yes and not typer.confirm(
        f"End the subscription of {group} to {place}? Events that wait for it {fate}."
    ):
        raise typer.Abort

    async def end(platform: Platform) -> Any:
        path = f"/v1/events/groups/{quote(group, safe='')}/subscriptions/{quote(kind, safe='')}"
        query = {
            "topic": topic.value if topic else "*",
            "waiting": "drop" if drop else "dead-letters",
        }
        return await platform.delete("events", path, tenant_id=platform.scope.tenant_id, **query)

    found = on_platform(tenant, user, end)
    if as_json:
        output.say_json(found)
    else:
        waited = found["waited"]
        became = "dropped" if drop else "now dead letters"
        output.say(
            f"Ended; {waited} event{'' if waited == 1 else 's'} had waited for "
            f"it{f', {became}' if waited else ''}"
        )


@app.command(help="List the events that groups gave up, and why, the last first.")
def dead_letters(
    group: _Group = None,
    limit: Limit = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    async def ask(platform: Platform) -> dict[str, Any]:
        return await _dead_letters(platform, group)

    found = on_platform(tenant, user, ask)
    if as_json:
        output.say_json({**found, "dead_letters": output.some(found["dead_letters"], "id", limit)})
    elif not found["dead_letters"]:
        output.note("there are no dead letters")
    else:
        output.table(
            (
                Column("Id", 0),
                Column("Group", 1),
                Column("Type", 1),
                Column("Topic", 6),
                Column("Plan", 4),
                Column("Attempts", 2),
                Column("Reason", 0, is_text=True),
                Column("Time", 3),
                Column("Parked", 5),
            ),
            [
                _dead_letter_row(letter)
                for letter in output.newest(found["dead_letters"], "id", limit)
            ],
        )


@app.command(help="Give dead letters to their groups again, as if they came now.")
def replay(
    numbers: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID…", help="Those of soorma events dead-letters.", min=1),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that there are now.")] = False,
    group: _Group = None,
    as_json: Json = False,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    if bool(numbers) == every:
        raise typer.BadParameter("name the ids of dead letters, or say --all", param_hint="ID…")
    if group is not None and not every:
        raise typer.BadParameter("it goes with --all only", param_hint="--group")

    async def again(platform: Platform) -> tuple[list[int], list[int]]:
        wanted = numbers or [
            letter["id"] for letter in (await _dead_letters(platform, group))["dead_letters"]
        ]
        done = {number: await _replay(platform, number) for number in dict.fromkeys(wanted)}
        return [number for number in done if done[number]], [
            number for number in done if not done[number]
        ]

    replayed, missing = on_platform(tenant, user, again)
    if as_json:
        output.say_json({"replayed": replayed, "missing": missing})
    else:
        output.say(f"Replayed {_listed(replayed)}" if replayed else "Replayed none")
    if missing and not every:  # with --all, another has replayed them meanwhile
        raise CommandError(
            Exit.NOT_FOUND,
            f"not replayed: {_listed(missing)}; this tenant has none of that number (see soorma "
            "events dead-letters)",
        )


def _tell(position: int, data: bytes, *, cloudevents: bool, as_json: bool) -> None:
    """One event: with its position, which `--after` takes, unless it is to be a CloudEvent and nothing else."""
    event = decode(data)
    if as_json:
        output.say_json_line({"position": position, "event": event})
    elif cloudevents:
        output.say_encoded(data)
    else:
        about = [
            event["topic"],
            event["type"],
            f"plan={event['plan_id']}" if "plan_id" in event else None,
        ]
        names = "  ".join(output.cell(name) for name in about if name)
        content = f"  {output.value(event['data'])}" if "data" in event else ""
        output.say(f"{position}  {output.moment(event.get('time'))}  {names}{content}")


async def _dead_letters(platform: Platform, group: str | None) -> dict[str, Any]:
    return await platform.whole(
        "events",
        "/v1/events/dead-letters",
        "dead_letters",
        tenant_id=platform.scope.tenant_id,
        group=group,
    )


async def _replay(platform: Platform, number: int) -> bool:
    """Whether there was such a dead letter."""
    path = f"/v1/events/dead-letters/{number}/replay"
    try:
        await platform.post("events", path, tenant_id=platform.scope.tenant_id)
    except NotFound:
        return False
    return True


def _listed(numbers: list[int]) -> str:
    return f"dead letter{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _group_row(group: Mapping[str, Any]) -> tuple[str, ...]:
    takes = ", ".join(_subscription(one) for one in group["subscriptions"])
    return (
        output.cell(group["name"]),
        output.cell(group["tenant_id"]),
        str(group["waiting"]),
        str(group["ready"]),
        str(group["in_hand"]),
        output.moment(group["oldest_at"]),
        output.text(takes),
        str(len(group["replicas"])),
    )


def _subscription(one: Mapping[str, Any]) -> str:
    told = f"{one['type']} on {one['topic']}"
    if one["served"] and not one["set_aside"]:
        return told
    return f"{told} (no connected agent handles it: {one['set_aside']} set aside)"


def _dead_letter_row(letter: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(letter["id"]),
        *(output.cell(letter[name]) for name in ("group", "type", "topic", "plan_id", "attempts")),
        output.text(letter["reason"]),
        output.moment(letter["at"]),
        "yes" if letter["parked"] else "no",
    )
