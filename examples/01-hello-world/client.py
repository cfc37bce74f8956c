"""The client: asks for a greeting and prints the one it gets.

python client.py Ada
"""

import asyncio
import sys

from soorma import EventClient, SoormaError
from soorma.errors import TimedOut

PATIENCE_SECONDS = 10


async def main(name: str) -> None:
    async with EventClient(agent_id="hello-client") as client:
        answer = await client.request(
            "greeting.requested",
            {"name": name},
            response_event="greeting.made",
            timeout=PATIENCE_SECONDS,
        )
    print(answer.data["greeting"])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit("Say who is to be greeted: python client.py Ada")
    try:
        asyncio.run(main(sys.argv[1]))
    except TimedOut:
        sys.exit(
            f"No greeting within {PATIENCE_SECONDS} s. Does the worker run? ./start.sh starts it."
        )
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(f"No greeting: {error}")
