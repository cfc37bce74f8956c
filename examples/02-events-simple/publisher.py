"""The publisher: announces an order for each item, to whom it may concern.

python publisher.py tea coffee
"""

import asyncio
import sys

from soorma import PlatformContext, SoormaError


async def main(items: list[str]) -> None:
    async with PlatformContext.from_env(source="shop") as context:
        for item in items:
            await context.bus.announce("order.placed", {"item": item})
            print(f"Announced an order of {item}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("Say what is ordered: python publisher.py tea coffee")
    try:
        asyncio.run(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(f"Nothing more was announced: {error}")
