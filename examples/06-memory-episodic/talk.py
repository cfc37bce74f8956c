"""The client: talks with the companion, in a new session each time.

python talk.py                 says a few things of its own
python talk.py --interactive   says what you type
python talk.py --forget        forgets the user
"""

import asyncio
import sys
from uuid import uuid4

from soorma import EventClient, PlatformContext, SoormaError
from soorma.errors import TimedOut

USER = "ada"
PATIENCE_SECONDS = 60
FIRST = ["I live in Lisbon.", "My dog is Rex. I like oolong tea.", "What is my dog called?"]
LATER = ["Where do I live?", "Which tea do I like?", "I live in Porto."]


def talk(is_interactive: bool) -> None:
    session_id = str(uuid4())
    earlier = asyncio.run(count_sessions())
    print(f"A new session of {USER}; there were {earlier} before")
    for text in typed() if is_interactive else LATER if earlier else FIRST:
        if not is_interactive:
            print(f"> {text}")
        print(asyncio.run(say(text, session_id)))


def typed():
    """Yields what the user types, up to Ctrl+D."""
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            print()
            return
        if text:
            yield text


async def say(text: str, session_id: str) -> str:
    async with EventClient(agent_id="talker") as client:
        reply = await client.request(
            "message.written",
            {"text": text},
            response_event="message.replied",
            session_id=session_id,
            user_id=USER,
            timeout=PATIENCE_SECONDS,
        )
    return reply.data["text"]


async def count_sessions() -> int:
    async with PlatformContext.from_env(source="talker") as context:
        return len([session async for session in context.memory.list_sessions(user_id=USER)])


def forget_user() -> None:
    found = asyncio.run(forget(preview=True))
    print(f"{found.interactions} interactions and {found.passages} facts of {USER} are stored")
    print("Forget them? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() != "y":
        sys.exit("Nothing was forgotten")
    done = asyncio.run(forget(preview=False))
    print(f"{done.interactions} interactions and {done.passages} facts are forgotten")
    print(f"Memory holds no byte of them after {done.erased_by:%H:%M:%S} UTC")


async def forget(preview: bool):
    async with PlatformContext.from_env(source="talker") as context:
        return await context.memory.forget(everything=True, preview=preview, user_id=USER)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments not in ([], ["--interactive"], ["--forget"]):
        sys.exit("python talk.py [--interactive | --forget]")
    try:
        if arguments == ["--forget"]:
            forget_user()
        else:
            talk(is_interactive=arguments == ["--interactive"])
    except TimedOut:
        sys.exit(
            f"No reply within {PATIENCE_SECONDS} s. Does the companion run? ./start.sh starts it."
        )
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(f"No reply: {error}")
