"""Ends with 0 if the platform of this container is healthy: its gateway says so at /health.

Over TLS, only the certificate that the platform itself is given is accepted.
"""

import os
import ssl
import sys
import urllib.request

SECONDS = 4.0


def main() -> None:
    port = 8080 + int(os.environ.get("SOORMA_PORT_OFFSET") or 0)
    certificate = os.environ.get("SOORMA_TLS_CERT")
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if certificate:
        handlers.append(urllib.request.HTTPSHandler(context=_only(certificate)))
    scheme = "https" if certificate else "http"
    opener = urllib.request.build_opener(*handlers)
    try:
        opener.open(f"{scheme}://127.0.0.1:{port}/health", timeout=SECONDS).close()
    except OSError as error:
        sys.exit(f"not healthy: {error}")


def _only(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False  # this is loopback, for which it need not be issued
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


if __name__ == "__main__":
    main()
