"""The platform's settings: environment variables with defaults for a laptop."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from soorma_common.delivery import LEASE_SECONDS
from soorma_common.errors import InvalidRequest
from soorma_common.limits import MIB, Limits
from soorma_common.logs import check_format, check_level
from soorma_common.registry import MODES, Mode
from soorma_platform.engine.retention import Retention
from soorma_platform.engine.rows.plan_memories import Outliving
from soorma_platform.engine.sessions import IDLE_SECONDS
from soorma_platform.identity.failures import DEFAULT_ATTEMPTS
from soorma_platform.identity.oidc import OidcSettings
from soorma_platform.identity.quotas import Quotas
from soorma_platform.listening import (
    CERT_SETTING,
    HOSTS_SETTING,
    KEY_SETTING,
    PROXIES_SETTING,
    address_at,
    check_listening,
)
from soorma_platform.work.embedding.choice import check_choice
from soorma_platform.work.secrets import FILE_SETTING, SECRETS_MODES, SecretsMode

PORTS = {"gateway": 8080, "registry": 8081, "events": 8082, "memory": 8083, "identity": 8085}
"""The services and their ports, before the offset."""
HIGHEST_PORT = 65_535

AccessMode = Literal["closed", "open"]
ACCESS_MODES = get_args(AccessMode)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FLAGS = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


class Settings(msgspec.Struct, frozen=True):
    """The address, record and options of a platform; periods are in seconds.

    With the access `open` everybody is believed, `closed` everybody needs a credential;
    `bootstrap_keys` names a file of keys to begin with. With the PEM files `tls_cert` and `tls_key`
    it serves https. `trusted_proxies` are addresses and networks, `public_hosts` the names by which
    it is called, each with or without a port. `index_bytes` is the memory for the indexes
    of collections that are searched. `embeddings` is `auto` (the offline model if it is installed),
    `offline`, `none`, or the address of an API with `embeddings_model` behind it. A session without
    an interaction for `session_idle` is idle; 0: never. `outlives_plan` are the memories that
    outlive a purged plan. `memory_secret_patterns` names a file. After `failed_attempts` without a
    valid credential in a minute, further ones of that address get 429.
    """

    def __repr__(self) -> str:
        """Shows everything but the key."""
        shown = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            if name != "embeddings_key"
        )
        return f"Settings({shown})"

    host: str = "127.0.0.1"
    port_offset: int = 0
    access: AccessMode = "closed"
    bootstrap_keys: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    public_hosts: tuple[str, ...] = ()
    database: Path = Path(".soorma/soorma.db")
    may_migrate: bool = True
    lease: float = LEASE_SECONDS
    log_level: str = "info"
    log_format: str = "auto"
    payload_check: Mode = "enforce"
    index_bytes: int = 256 * MIB
    memory_secrets: SecretsMode = "redact"
    memory_secret_patterns: str = ""
    embeddings: str = "auto"
    embeddings_model: str = ""
    embeddings_key: str = ""
    session_idle: float = IDLE_SECONDS
    outlives_plan: Outliving = "all"
    failed_attempts: int = DEFAULT_ATTEMPTS
    limits: Limits = Limits()
    quotas: Quotas = Quotas()
    retention: Retention = Retention()
    oidc: OidcSettings | None = None

    def __post_init__(self) -> None:
        """Refuses invalid settings, and an address at which requests would not be safe."""
        if not 0 <= self.port_offset <= HIGHEST_PORT - max(PORTS.values()):
            raise InvalidRequest(
                f"SOORMA_PORT_OFFSET must leave room for ports up to {HIGHEST_PORT}: "
                f"{self.port_offset}"
            )
        if self.access not in ACCESS_MODES:
            raise InvalidRequest(
                f"SOORMA_ACCESS must be one of {', '.join(ACCESS_MODES)}, not {self.access!r}"
            )
        if self.lease <= 0:
            raise InvalidRequest("SOORMA_LEASE_SECONDS must be more than 0")
        if not 0 <= self.session_idle < math.inf:
            raise InvalidRequest("SOORMA_SESSION_IDLE_SECONDS must be a number from 0 on; 0: never")
        if self.outlives_plan not in get_args(Outliving):
            raise InvalidRequest(
                f"SOORMA_OUTLIVES_PLAN must be one of {', '.join(get_args(Outliving))}, not "
                f"{self.outlives_plan!r}"
            )
        if self.payload_check not in MODES:
            raise InvalidRequest(
                f"SOORMA_PAYLOAD_CHECK must be one of {', '.join(MODES)}, not "
                f"{self.payload_check!r}"
            )
        for name in ("interactions", "knowledge", "closed_knowledge"):
            if (seconds := getattr(self.retention, name)) is not None and seconds <= 0:
                raise InvalidRequest(
                    f"SOORMA_KEEP_{name.upper()} must be more than 0: all would be forgotten at "
                    "once; unset, they are kept for ever"
                )
        if self.memory_secrets not in SECRETS_MODES:
            raise InvalidRequest(
                f"SOORMA_MEMORY_SECRETS must be one of {', '.join(SECRETS_MODES)}, not "
                f"{self.memory_secrets!r}"
            )
        check_choice(self.embeddings, self.embeddings_model)
        check_level(self.log_level)
        check_format(self.log_format)
        check_listening(self)

    @property
    def ports(self) -> dict[str, int]:
        """The port of each service."""
        return {name: port + self.port_offset for name, port in PORTS.items()}

    def address(self, service: str) -> str:
        """Returns the base address of a service."""
        return address_at(self, self.ports[service])

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, **options: Any) -> Settings:
        """Reads the settings from SOORMA_… variables; `options` win.

        Raises InvalidRequest, which names the variable, if one is invalid.
        """
        found: dict[str, Any] = {
            "host": env.get("SOORMA_HOST") or None,
            "port_offset": _read(env, "SOORMA_PORT_OFFSET", int),
            "access": env.get("SOORMA_ACCESS", "").strip() or None,
            "bootstrap_keys": env.get("SOORMA_BOOTSTRAP_KEYS_FILE") or None,
            "tls_cert": env.get(CERT_SETTING) or None,
            "tls_key": env.get(KEY_SETTING) or None,
            "trusted_proxies": _listed(env, PROXIES_SETTING),
            "public_hosts": _listed(env, HOSTS_SETTING),
            "database": env.get("SOORMA_DATABASE") or None,
            "may_migrate": _flag(env, "SOORMA_MAY_MIGRATE"),
            "lease": _read(env, "SOORMA_LEASE_SECONDS", float),
            "embeddings": env.get("SOORMA_EMBEDDINGS", "").strip() or None,
            "embeddings_model": env.get("SOORMA_EMBEDDINGS_MODEL", "").strip() or None,
            "embeddings_key": env.get("SOORMA_EMBEDDINGS_KEY", "").strip() or None,
            "outlives_plan": env.get("SOORMA_OUTLIVES_PLAN") or None,
            "session_idle": _read(env, "SOORMA_SESSION_IDLE_SECONDS", float),
            "index_bytes": _read(env, "SOORMA_INDEX_BYTES", int),
            "memory_secrets": env.get("SOORMA_MEMORY_SECRETS") or None,
            "memory_secret_patterns": env.get(FILE_SETTING) or None,
            "payload_check": env.get("SOORMA_PAYLOAD_CHECK") or None,
            "failed_attempts": _read(env, "SOORMA_FAILED_ATTEMPTS", int),
            "log_level": env.get("SOORMA_LOG_LEVEL") or None,
            "log_format": env.get("SOORMA_LOG_FORMAT") or None,
        }
        values = {name: value for name, value in found.items() if value is not None} | options
        if "database" in values:
            values["database"] = _file(str(values["database"]))
        for name in ("bootstrap_keys", "tls_cert", "tls_key"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        return cls(
            **values,
            limits=_group(env, "SOORMA_LIMIT_", Limits),
            quotas=_group(env, "SOORMA_QUOTA_", Quotas),
            retention=_group(env, "SOORMA_KEEP_", Retention),
            oidc=OidcSettings.from_env(env),
        )


def _file(name: str) -> Path:
    """Returns the database's file.

    A URL is refused before a file gets its name: there is one engine so far.
    """
    if _URL.match(name):
        engine = name.partition(":")[0]
        raise InvalidRequest(
            "SOORMA_DATABASE names a file, such as .soorma/soorma.db; this version keeps its "
            "record in SQLite and "
            f"does not know {engine}://"
        )
    return Path(name)


def _group(env: Mapping[str, str], prefix: str, kind: Any) -> Any:
    values = {
        field.name: _read(env, prefix + field.name.upper(), int if field.type is int else float)
        for field in msgspec.structs.fields(kind)
    }
    return kind(**{name: value for name, value in values.items() if value is not None})


def _read(env: Mapping[str, str], name: str, kind: Any) -> Any:
    text = env.get(name)
    if text is None or not text.strip():
        return None
    try:
        value = kind(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be a number, not {text!r}") from None
    if not (math.isfinite(value) and value >= 0):
        raise InvalidRequest(f"{name} must be a number from 0 on, not {text!r}")
    return value


def _listed(env: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    """Returns the values of a variable, which are separated by commas; None if there are none."""
    return tuple(one for text in env.get(name, "").split(",") if (one := text.strip())) or None


def _flag(env: Mapping[str, str], name: str) -> bool | None:
    text = env.get(name, "").strip().lower()
    if not text:
        return None
    if text not in _FLAGS:
        raise InvalidRequest(f"{name} must be one of {', '.join(_FLAGS)}, not {text!r}")
    return _FLAGS[text]
