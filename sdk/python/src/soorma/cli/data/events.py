"""`soorma events`: the log of events. `groups`, `dead_letters` and `timers` add to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any

import typer

from soorma.cli import output
from soorma.cli.commands import command_group
from soorma.cli.connection import PlatformConnection, on_platform, until_interrupted
from soorma.cli.data import dead_letters, groups, timers
from soorma.cli.parameters import Json, JsonLines, Tenant, User, json_of
from soorma_common.json_text import decode
from soorma_common.terminal import plain
from soorma_common.topics import Topic

app = command_group("events")

app.add_typer(groups.app)
app.add_typer(dead_letters.app)
app.add_typer(timers.app)

_TOPICS = "\b\nTopics:\n" + "\n".join(f"  {topic}" for topic in Topic)
_Topics = Annotated[
    list[Topic] | None,
    typer.Option("--topic", metavar="TOPIC", help="Of this topic only; can be repeated."),
]
_Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Of this type only; can be repeated."),
]


@app.command(
    help="Print events as they are published, until Ctrl+C; none is lost or repeated if it "
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
            f"a type with a comma cannot be filtered for: {comma!r}", param_hint="--type"
        )
    query = {
        "topics": ",".join(topic or []) or None,
        "types": ",".join(kind or []) or None,
        "after": after,
        "format": "cloudevents" if cloudevents else None,
    }

    async def lines(platform: PlatformConnection) -> AsyncGenerator[None, None]:
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

    async def send(platform: PlatformConnection) -> str:
        return await platform.bus.publish(kind, topic, content, delay=delay, at=moment, **envelope)

    published = on_platform(tenant, user, send)
    if as_json:
        output.say_json({"id": published})
    else:
        output.say(plain(published))


def _tell(position: int, data: bytes, *, cloudevents: bool, as_json: bool) -> None:
    """Prints an event with its position, which `--after` takes.

    A CloudEvent for people is printed alone.
    """
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
