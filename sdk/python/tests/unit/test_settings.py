"""The platform's settings and the client's, from the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from soorma.config import ClientConfig
from soorma_common.errors import InvalidRequest
from soorma_common.limits import Limits
from soorma_platform.engine.retention import Retention
from soorma_platform.settings import Settings

FIELDS: list[tuple[str, str, str, Any]] = [
    ("SOORMA_HOST", "::1", "host", "::1"),
    ("SOORMA_HOST", "localhost", "host", "localhost"),
    ("SOORMA_HOST", "127.8.8.8", "host", "127.8.8.8"),
    (
        "SOORMA_TRUSTED_PROXIES",
        "192.0.2.7, 10.0.0.0/8,",
        "trusted_proxies",
        ("192.0.2.7", "10.0.0.0/8"),
    ),
    (
        "SOORMA_PUBLIC_HOSTS",
        "a.example,b.example:8443",
        "public_hosts",
        ("a.example", "b.example:8443"),
    ),
    ("SOORMA_PORT_OFFSET", "100", "port_offset", 100),
    ("SOORMA_DATABASE", "/data/my record.db", "database", Path("/data/my record.db")),
    ("SOORMA_MAY_MIGRATE", "no", "may_migrate", False),
    ("SOORMA_MAY_MIGRATE", "TRUE", "may_migrate", True),
    ("SOORMA_LEASE_SECONDS", "2.5", "lease", 2.5),
    ("SOORMA_SESSION_IDLE_SECONDS", "1800", "session_idle", 1800.0),
    ("SOORMA_SESSION_IDLE_SECONDS", "0", "session_idle", 0.0),
    ("SOORMA_OUTLIVES_PLAN", "promoted", "outlives_plan", "promoted"),
    ("SOORMA_PAYLOAD_CHECK", "warn", "payload_check", "warn"),
    ("SOORMA_MEMORY_SECRETS", "refuse", "memory_secrets", "refuse"),
    ("SOORMA_MEMORY_SECRET_PATTERNS", "ours.txt", "memory_secret_patterns", "ours.txt"),
    ("SOORMA_LOG_LEVEL", "debug", "log_level", "debug"),
    ("SOORMA_LOG_FORMAT", "json", "log_format", "json"),
]

BAD = [
    ("SOORMA_TRUSTED_PROXIES", "proxy.example"),
    ("SOORMA_TRUSTED_PROXIES", "0.0.0.0/0"),
    ("SOORMA_PUBLIC_HOSTS", "https://a.example"),
    ("SOORMA_PUBLIC_HOSTS", "*"),
    ("SOORMA_TLS_CERT", "only.pem"),
    ("SOORMA_TLS_KEY", "only.key"),
    ("SOORMA_DATABASE", "postgresql://user:secret@host/soorma"),
    ("SOORMA_DATABASE", "sqlite:///soorma.db"),
    ("SOORMA_PORT_OFFSET", "many"),
    ("SOORMA_PORT_OFFSET", "1.5"),
    ("SOORMA_PORT_OFFSET", "-1"),
    ("SOORMA_PORT_OFFSET", "60000"),
    ("SOORMA_MAY_MIGRATE", "perhaps"),
    ("SOORMA_LEASE_SECONDS", "long"),
    ("SOORMA_LEASE_SECONDS", "-1"),
    ("SOORMA_LEASE_SECONDS", "0"),
    ("SOORMA_LEASE_SECONDS", "nan"),
    ("SOORMA_LEASE_SECONDS", "inf"),
    ("SOORMA_SESSION_IDLE_SECONDS", "soon"),
    ("SOORMA_SESSION_IDLE_SECONDS", "-1"),
    ("SOORMA_OUTLIVES_PLAN", "some"),
    ("SOORMA_PAYLOAD_CHECK", "strict"),
    ("SOORMA_MEMORY_SECRETS", "hide"),
    ("SOORMA_LOG_LEVEL", "loud"),
    ("SOORMA_LOG_FORMAT", "xml"),
    ("SOORMA_LIMIT_PLAN_KEYS", "1k"),
    ("SOORMA_LIMIT_PLAN_KEYS", "-5"),
    ("SOORMA_KEEP_INTERACTIONS", "0"),
    ("SOORMA_KEEP_KNOWLEDGE", "0"),
    ("SOORMA_KEEP_CLOSED_KNOWLEDGE", "-1"),
    ("SOORMA_KEEP_EVENTS", "a week"),
    ("SOORMA_KEEP_EVENTS", "nan"),
]


@pytest.mark.behaviour("settings.variables")
def test_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.host, settings.lease, settings.may_migrate) == ("127.0.0.1", 30.0, True)
    assert settings.ports == {
        "gateway": 8080,
        "registry": 8081,
        "events": 8082,
        "memory": 8083,
        "identity": 8085,
    }
    assert settings.address("memory") == "http://127.0.0.1:8083"


@pytest.mark.behaviour("settings.variables")
@pytest.mark.parametrize(("variable", "text", "field", "value"), FIELDS)
def test_each_variable_sets_its_field_and_no_other(
    variable: str, text: str, field: str, value: Any
) -> None:
    settings = Settings.from_env({variable: text, "UNRELATED": "x"})
    assert getattr(settings, field) == value
    assert msgspec.structs.replace(settings, **{field: getattr(Settings(), field)}) == Settings()


@pytest.mark.behaviour("limits.configurable", "settings.variables")
@pytest.mark.parametrize(
    ("prefix", "kind", "part"), [("LIMIT", Limits, "limits"), ("KEEP", Retention, "retention")]
)
def test_each_limit_and_retention_has_a_variable(prefix: str, kind: Any, part: str) -> None:
    for field in msgspec.structs.fields(kind):
        settings = Settings.from_env({f"SOORMA_{prefix}_{field.name.upper()}": "17"})
        assert getattr(settings, part) == msgspec.structs.replace(kind(), **{field.name: 17})


@pytest.mark.behaviour("settings.variables")
@pytest.mark.parametrize(
    "variable", sorted({variable for variable, *_ in FIELDS} | {"SOORMA_LIMIT_PLAN_KEYS"})
)
def test_an_empty_variable_is_as_good_as_none(variable: str) -> None:
    assert Settings.from_env({variable: ""}) == Settings()


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize(("variable", "text"), BAD)
def test_a_variable_that_is_off_is_named(variable: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=variable) as refused:
        Settings.from_env({variable: text})
    assert "secret" not in str(refused.value)


OPEN_HOSTS = ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1"]
NAMES = ["example.org", "127.0.0.1.example.org", " ", "localhost.", "[::1]"]
TLS = {"SOORMA_TLS_CERT": "server.pem", "SOORMA_TLS_KEY": "server.key"}
PROXIES = {"SOORMA_TRUSTED_PROXIES": "10.0.0.0/8"}
PUBLIC = {"SOORMA_PUBLIC_HOSTS": "soorma.example:443,soorma.internal"}


@pytest.mark.behaviour("security.loopback-only")
@pytest.mark.parametrize("host", OPEN_HOSTS + NAMES)
def test_an_open_platform_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(InvalidRequest, match="loopback only"):
        Settings.from_env(
            {"SOORMA_HOST": host, "SOORMA_ACCESS": "open", **TLS, **PROXIES, **PUBLIC}
        )


@pytest.mark.behaviour("security.off-loopback")
@pytest.mark.parametrize("host", OPEN_HOSTS)
def test_a_closed_platform_is_told_what_it_lacks_off_loopback(host: str) -> None:
    there = {"SOORMA_HOST": host}
    cases: list[tuple[dict[str, str], set[str]]] = [
        ({}, {*TLS, *PROXIES, *PUBLIC}),
        (TLS, {*PUBLIC}),
        (PROXIES, {*PUBLIC}),
        (PUBLIC, {*TLS, *PROXIES}),
    ]
    for given, missing in cases:
        with pytest.raises(InvalidRequest, match=re.escape(repr(host))) as refused:
            Settings.from_env({**there, **given})
        assert set(re.findall("SOORMA_[A-Z_]+", str(refused.value))) == missing
    for given in (TLS, PROXIES, {**TLS, **PROXIES}):
        assert Settings.from_env({**there, **given, **PUBLIC}).host == host


@pytest.mark.behaviour("security.off-loopback")
@pytest.mark.parametrize("host", NAMES)
def test_an_address_to_listen_on_is_no_name(host: str) -> None:
    with pytest.raises(InvalidRequest, match="SOORMA_HOST"):
        Settings.from_env({"SOORMA_HOST": host, **TLS, **PUBLIC})


@pytest.mark.behaviour("security.tls")
@pytest.mark.parametrize(
    ("host", "given", "address"),
    [
        ("127.0.0.1", TLS, "https://127.0.0.1:8083"),
        ("::1", {**TLS, **PUBLIC}, "https://[::1]:8083"),
        ("0.0.0.0", {**TLS, **PUBLIC}, "https://soorma.example:8083"),
        ("::", {**TLS, "SOORMA_PUBLIC_HOSTS": "[2001:db8::1]"}, "https://[2001:db8::1]:8083"),
        ("0.0.0.0", {**PROXIES, **PUBLIC}, "http://0.0.0.0:8083"),
    ],
)
def test_an_address_says_how_it_is_called(host: str, given: dict[str, str], address: str) -> None:
    assert Settings.from_env({"SOORMA_HOST": host, **given}).address("memory") == address


@pytest.mark.behaviour("settings.variables")
def test_what_is_given_wins() -> None:
    settings = Settings.from_env(
        {"SOORMA_PORT_OFFSET": "5", "SOORMA_DATABASE": "a.db"}, port_offset=7, database="b.db"
    )
    assert (settings.port_offset, settings.database) == (7, Path("b.db"))
    assert settings.address("events") == "http://127.0.0.1:8089"
    assert Settings(host="::1").address("events") == "http://[::1]:8082"


@pytest.mark.behaviour("settings.variables", "ids.environment")
def test_a_clients_configuration() -> None:
    assert ClientConfig.from_env({}) == ClientConfig()
    env = {
        "SOORMA_MEMORY_URL": "https://memory.example:1/",
        "SOORMA_EVENT_SERVICE_URL": "http://events.example:2",
        "SOORMA_TENANT_ID": "t",
        "SOORMA_USER_ID": "u",
        "SOORMA_RETRY_SECONDS": "2.5",
        "SOORMA_REGISTRY_URL": "http://registry.example:3",
        "SOORMA_IDENTITY_URL": "http://identity.example:4",
        "SOORMA_API_KEY": " soorma_key ",
    }
    made = ClientConfig.from_env(env)
    assert made == ClientConfig(
        "https://memory.example:1",
        "http://events.example:2",
        "t",
        "u",
        2.5,
        "http://registry.example:3",
        "http://identity.example:4",
        "soorma_key",
    )
    assert "soorma_key" not in repr(made)
    assert made.addresses == {
        "memory": "https://memory.example:1",
        "events": "http://events.example:2",
        "registry": "http://registry.example:3",
        "identity": "http://identity.example:4",
    }
    scope = made.scope(None, None)
    assert (scope.tenant_id, scope.user_id) == ("t", "u")
    assert made.scope("x", "y").user_id == "y"
    default = ClientConfig().scope(None, None)
    assert default.tenant_id == "00000000-0000-0000-0000-000000000000"
    assert default.user_id == "00000000-0000-0000-0000-000000000001"


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SOORMA_MEMORY_URL", "localhost:8083"),
        ("SOORMA_EVENT_SERVICE_URL", "ftp://x"),
        ("SOORMA_REGISTRY_URL", "registry"),
        ("SOORMA_RETRY_SECONDS", "x"),
    ],
)
def test_a_clients_variable_that_is_off_is_named(variable: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=variable):
        ClientConfig.from_env({variable: text})


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize("name", ["interactions", "knowledge", "closed_knowledge"])
def test_a_retention_that_would_forget_all_is_refused(name: str) -> None:
    for seconds in (0, -1.0):
        with pytest.raises(InvalidRequest, match=f"SOORMA_KEEP_{name.upper()} must be more than 0"):
            Settings(retention=Retention(**{name: seconds}))
