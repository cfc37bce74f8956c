"""A server that does nothing, as a program: what a load costs that is not the platform's.

It reads what it is sent and responds at once, with a mebibyte to a path that ends in `large`. It
listens as the platform does. Its port is its argument.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from soorma_platform.serving import Server

LARGE = b'"' + b"x" * (1 << 20) + b'"'


async def respond(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, and responds."""
    while (await receive()).get("more_body"):
        pass
    body = LARGE if scope["method"] == "GET" and scope["path"].endswith("large") else b"{}"
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))
    await Server(respond).serve([listener])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
