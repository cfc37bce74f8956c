"""Calls that fail at a test's request."""

from __future__ import annotations

from dataclasses import dataclass

from soorma_common.errors import Unavailable

_SIGNS_OF_LIFE = ("/v1/events/renew", "/v1/registry/agents/")
"""Paths of the calls that agents make by themselves from time to time."""


@dataclass
class Failure:
    """A fault in the next `left` calls that fit; `happened` counts those that have failed.

    A call fits by service, method and the beginning of its path, as far as they are given. Without
    a path, agents' signs of life do not fit. With `lost`, a call takes effect and its response is
    lost; without, it does not arrive.
    """

    left: int
    service: str | None = None
    method: str | None = None
    path: str | None = None
    lost: bool = False
    happened: int = 0

    def takes(self, service: str, method: str, path: str) -> bool:
        """True if this call fails, which is then counted."""
        fits = self.left > 0 and self.service in (None, service) and self.method in (None, method)
        if not fits or not self._names(method, path):
            return False
        self.left -= 1
        self.happened += 1
        return True

    def _names(self, method: str, path: str) -> bool:
        if self.path is not None:
            return path.startswith(self.path)
        return method == "GET" or not path.startswith(_SIGNS_OF_LIFE)

    def error(self, service: str, method: str, path: str) -> Unavailable:
        """Returns the error that the caller gets."""
        what = "its answer was lost" if self.lost else "it did not arrive"
        return Unavailable(
            f"{method} {path} of the {service} service failed as the test asked: {what}"
        )


def failure_of(failures: list[Failure], service: str, method: str, path: str) -> Failure | None:
    """Returns the first failure that takes the call, None if there is none."""
    return next((failure for failure in failures if failure.takes(service, method, path)), None)
