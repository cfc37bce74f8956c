"""A closed platform for tests, and keys to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from platform_process import PlatformProcess
from running import Raw, config_of, unique

from soorma import PlatformContext
from soorma_platform.identity.credentials import fresh_key


class Key(NamedTuple):
    """A key: its id, and the credential that stands for it."""

    id: str
    credential: str


class Closed:
    """A closed platform, with the credential of an operator of all tenants."""

    def __init__(self, platform: PlatformProcess, operator: str) -> None:
        self.platform = platform
        self.operator = operator

    def raw(self, service: str, credential: str, **headers: str) -> Raw:
        """A service over plain HTTP, with a key."""
        raw = Raw(getattr(self.platform, f"{service}_url"))
        raw.headers["Authorization"] = f"Bearer {credential}"
        raw.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return raw

    def key(self, role: str, **more: Any) -> Key:
        """Makes a key."""
        body = {"name": unique("key"), "role": role, **more}
        made = self.raw("identity", self.operator)("POST", "/v1/identity/keys", body).json
        return Key(made["key"]["id"], made["credential"])

    def rotate(self, key_id: str, overlap: float) -> Key:
        """Makes the successor of a key."""
        path = f"/v1/identity/keys/{key_id}/rotate"
        made = self.raw("identity", self.operator)("POST", path, {"overlap": overlap}).json
        return Key(made["key"]["id"], made["credential"])

    def revoke(self, key_id: str) -> None:
        """Revokes a key."""
        found = self.raw("identity", self.operator)("DELETE", f"/v1/identity/keys/{key_id}")
        assert found.status == 200, found.body

    def context(self, credential: Any, **ids: str) -> PlatformContext:
        """The platform as somebody with a key sees it, from outside any handler."""
        return PlatformContext.on(config_of(self.platform, api_key=credential, **ids), "test")

    def environment(self, credential: str) -> dict[str, str]:
        """The variables with which a program finds it, and its key."""
        return {
            "SOORMA_API_KEY": credential,
            "SOORMA_MEMORY_URL": self.platform.memory_url,
            "SOORMA_EVENT_SERVICE_URL": self.platform.events_url,
            "SOORMA_REGISTRY_URL": self.platform.registry_url,
        }


@contextmanager
def closed_in(folder: Path, **env: str) -> Iterator[Closed]:
    """A closed platform with settings of its own; gone at the end."""
    operator = fresh_key().credential
    file = folder / "keys.toml"
    file.write_text(f'[[keys]]\nname = "ops"\nrole = "operator"\ncredential = "{operator}"\n')
    access = {"SOORMA_ACCESS": "closed", "SOORMA_BOOTSTRAP_KEYS_FILE": str(file)}
    with PlatformProcess(folder, {**access, **env}) as platform:
        yield Closed(platform, operator)
