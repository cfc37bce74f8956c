"""Tokens of an issuer: what is accepted, what is not, and what that costs the issuer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import string
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import depth
import pytest
from joserfc.jwk import RSAKey
from msgspec.structs import replace
from token_issuer import AUDIENCE, Key, TokenIssuer, encoded, key_named

from soorma_common.errors import InvalidRequest, SoormaError, Unauthorized, Unavailable
from soorma_common.identity import ROLES, SCOPES
from soorma_platform.engine.rows.blocks import BlockRow
from soorma_platform.identity import issuer as issuers
from soorma_platform.identity.admissions import NOT_VALID
from soorma_platform.identity.authenticator import Authenticator
from soorma_platform.identity.blocks import Blocks
from soorma_platform.identity.claims import LEEWAY
from soorma_platform.identity.credentials import TokenCredential
from soorma_platform.identity.issuer import AGAIN_SECONDS, KEPT_SECONDS, MOST_WAITING, Issuer
from soorma_platform.identity.jose import SigningKey, object_in
from soorma_platform.identity.keyring import Keyring
from soorma_platform.identity.oidc import ClaimTable, OidcSettings
from soorma_platform.identity.tokens import CACHE_SECONDS, LARGEST_TOKEN, MOST_CACHED, TokenCheck


class Clocks:
    """Clocks that go on only when they are moved."""

    def __init__(self) -> None:
        self.wall, self.steady = round(time.time() * 1000), 5_000.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        self.wall += round(1000 * seconds)
        self.steady += seconds


class Checked:
    """A check of the tokens of an issuer, and its clocks."""

    def __init__(self, issuer: TokenIssuer, **settings: Any) -> None:
        self.clocks = Clocks()
        more = {"jwks_url": issuer.keys_url, **settings}
        self.settings = OidcSettings(issuer.url, AUDIENCE, **more)
        self.keys = Issuer(self.settings, self.clocks.monotonic)
        self.record = Record()
        self.check = TokenCheck(
            self.keys,
            Blocks(self.record),  # type: ignore[arg-type]
            self.clocks.now,
            self.clocks.monotonic,
        )

    async def __call__(self, token: str) -> TokenCredential:
        return await self.check.credential(token)

    async def refuses(self, token: str, why: str) -> None:
        with pytest.raises(Unauthorized, match=why) as error:
            await self.check.credential(token)
        assert token not in str(error.value)
        signature = token.rpartition(".")[2]
        assert len(signature) < 10 or signature not in str(error.value)


@pytest.fixture
async def issuer() -> AsyncIterator[TokenIssuer]:
    async with TokenIssuer() as running:
        yield running


@pytest.fixture
async def checking(issuer: TokenIssuer) -> AsyncIterator[Callable[..., Checked]]:
    made = list[Checked]()

    def make(**settings: Any) -> Checked:
        made.append(Checked(issuer, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.keys.close()


@pytest.fixture
def check(checking: Callable[..., Checked]) -> Checked:
    return checking()


# --- What is accepted


@pytest.mark.behaviour("identity.tokens")
async def test_a_valid_token_says_for_whom_it_is(issuer: TokenIssuer, check: Checked) -> None:
    found = await check(issuer.token())
    assert (found.owner, found.user_id, found.name) == ("acme", "alice", "alice")
    assert found.scopes == ROLES["app"]
    assert not found.takes_deliveries
    assert str(found) == "the token of alice"


@pytest.mark.behaviour("identity.tokens")
@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("RS256", "RSA"), ("PS256", "RSA"), ("RS512", "RSA"), ("ES256", "EC"), ("EdDSA", "OKP"),
     ("Ed25519", "OKP")],
)  # fmt: skip
async def test_each_algorithm_that_is_allowed(
    issuer: TokenIssuer, checking: Callable[..., Checked], algorithm: str, kind: str
) -> None:
    key = key_named(kind, kind)
    issuer.keys = [key]
    token = issuer.token(key=key, algorithm=algorithm)
    assert (await checking(algorithms=(algorithm,))(token)).name == "alice"
    other = "ES384" if algorithm != "ES384" else "RS256"
    await checking(algorithms=(other,)).refuses(token, "algorithm that is allowed")


@pytest.mark.behaviour("identity.tokens")
@pytest.mark.parametrize(
    ("claims", "scopes", "user"),
    [
        ({"role": "viewer"}, ROLES["viewer"], "alice"),
        ({"role": ["user", "viewer", "app"]}, ROLES["viewer"] | ROLES["app"], "alice"),
        ({"role": "operator"}, ROLES["operator"], None),
        ({"role": "operator", "scope": "openid memory:read"}, {"memory:read"}, None),
        ({"role": "viewer", "scope": "memory:read memory:write"}, {"memory:read"}, "alice"),
        ({"role": "app", "scope": "openid profile"}, ROLES["app"], "alice"),
        ({"role": None, "scope": "openid events:read"}, {"events:read"}, "alice"),
        ({"role": None, "scope": ["events:read", 5, "x"]}, {"events:read"}, "alice"),
        ({"role": "agent"}, set(), "alice"),
        ({"role": None, "scope": "deliveries:take"}, set(), "alice"),
        ({"role": "Admin"}, set(), "alice"),
        ({"role": {"operator": True}, "scope": 5}, set(), "alice"),
        ({"role": None}, set(), "alice"),
        ({"role": None, "scope": " ".join(SCOPES)}, ROLES["operator"], "alice"),
    ],
)
async def test_what_a_token_permits(
    issuer: TokenIssuer, check: Checked, claims: dict[str, Any], scopes: set[str], user: str | None
) -> None:
    found = await check(issuer.token(**claims))
    assert (found.scopes, found.user_id) == (scopes, user)
    assert (found.owner, found.agents, found.subscribe) == ("acme", frozenset(), ())


@pytest.mark.behaviour("identity.tokens")
async def test_claims_are_where_the_settings_say(
    issuer: TokenIssuer, checking: Callable[..., Checked]
) -> None:
    table = ClaimTable("https://acme.example/org", "email", "/realm_access/a~1b/roles", "scp")
    check = checking(claims=table)
    claims = {
        "https://acme.example/org": "umbrella",
        "email": "bob@acme.example",
        "realm_access": {"a/b": {"roles": ["viewer"]}},
        "scp": "memory:read",
    }
    found = await check(issuer.token(**claims))
    assert (found.owner, found.user_id) == ("umbrella", "bob@acme.example")
    assert found.scopes == {"memory:read"}
    none = await check(issuer.token(**{**claims, "scp": None, "realm_access": [1]}))
    assert none.scopes == frozenset()


@pytest.mark.behaviour("identity.tokens")
async def test_one_of_several_audiences_is_enough(issuer: TokenIssuer, check: Checked) -> None:
    assert (await check(issuer.token(aud=["other", AUDIENCE]))).name == "alice"


@pytest.mark.behaviour("identity.tokens")
async def test_a_token_without_a_key_id_means_the_only_key(
    issuer: TokenIssuer, check: Checked
) -> None:
    token = issuer.token(header={"kid": None, "typ": "at+jwt"})
    assert (await check(token)).name == "alice"
    issuer.keys.append(key_named("two"))
    check.clocks.advance(AGAIN_SECONDS)
    await check.keys.refresh()
    await check.refuses(token, "names no key")


# --- What is not


def forged(issuer: TokenIssuer, header: dict[str, Any], signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(issuer.claims())}.{encoded(signature)}"


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize("name", ["none", "NONE", "nOnE", "", None, 5, ["RS256"], {}])
async def test_no_signature_is_no_token(issuer: TokenIssuer, check: Checked, name: Any) -> None:
    header = {"alg": name, "kid": "one"}
    for signature in (b"", b"x" * 256):
        await check.refuses(forged(issuer, header, signature), "algorithm that is allowed")
    head, body, _ = issuer.token().split(".")
    for token in (f"{head}.{body}.", f"{head}.{body}.{encoded(b'0' * 256)}"):
        await check.refuses(token, "does not fit")


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_public_key_is_no_secret(
    issuer: TokenIssuer, check: Checked, algorithm: str
) -> None:
    """As one knows the public key, a signature with it as a secret would be anybody's."""
    (key,) = issuer.keys
    hashing = getattr(hashlib, f"sha{algorithm[2:]}")
    as_json = json.dumps(key.as_dict(private=False)).encode()
    for secret in (key.as_pem(private=False), key.as_pem(private=False).strip(), as_json, b""):
        signed = f"{encoded({'alg': algorithm, 'kid': 'one'})}.{encoded(issuer.claims())}"
        signature = hmac.new(secret, signed.encode(), hashing).digest()
        await check.refuses(f"{signed}.{encoded(signature)}", "algorithm that is allowed")


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_signature_fits_its_algorithm_and_key(
    issuer: TokenIssuer, checking: Callable[..., Checked]
) -> None:
    rsa, curve = key_named("one"), key_named("curve", "EC")
    issuer.keys = [rsa, curve]
    check = checking(algorithms=("RS256", "PS256", "ES256"))
    await check.refuses(issuer.token(key=curve, algorithm="ES256", header={"kid": "one"}),
                        "not for ES256")  # fmt: skip
    await check.refuses(issuer.token(key=rsa, header={"kid": "curve"}), "not for RS256")
    await check.refuses(issuer.token(algorithm="RS256", header={"alg": "PS256"}), "does not fit")
    other = key_named("attacker")
    await check.refuses(issuer.token(key=other, header={"kid": "one"}), "does not fit")
    head, _, tail = issuer.token().split(".")
    changed = encoded(issuer.claims(role="operator"))
    await check.refuses(f"{head}.{changed}.{tail}", "does not fit")
    assert issuer.fetches == 1


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_key_for_another_use_verifies_nothing(
    issuer: TokenIssuer, checking: Callable[..., Checked]
) -> None:
    def published(**more: Any) -> bytes:
        (key,) = issuer.keys
        return json.dumps({"keys": [key.as_dict(private=False, **more)]}).encode()

    for more in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"alg": "PS256"}, {"kty": "oct"}):
        issuer.body = published(**more)
        with pytest.raises(Unavailable, match="none of the published keys"):
            await checking()(issuer.token())
    issuer.body = published(use="sig", key_ops=["verify"], alg="RS256", x5u="http://127.0.0.1:1/")
    assert await checking()(issuer.token())


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_token_does_not_say_which_key_to_trust(issuer: TokenIssuer, check: Checked) -> None:
    async with TokenIssuer("attacker") as attacker:
        own: Key = attacker.keys[0]
        at = attacker.keys_url
        public = own.as_dict(private=False)
        certificate = encoded(b"certificate")
        named = [{"jku": at}, {"x5u": at}, {"jwk": public}, {"x5c": [certificate]},
                 {"jku": at, "jwk": public, "x5u": at, "x5t": "x"}]  # fmt: skip
        for header in named:
            for kid in ("attacker", "one", at, f"../..{at}"):
                token = issuer.token(key=own, header={**header, "kid": kid})
                await check.refuses(token, "does not fit|does not publish")
            token = issuer.token(key=own, header={**header, "kid": None})
            await check.refuses(token, "does not fit")
            # They are ignored, not refused, in a token that is signed as it should be.
            assert await check(issuer.token(header=header))
        assert (attacker.fetches, attacker.others) == (0, [])
    assert issuer.others == []


@pytest.mark.behaviour("identity.tokens")
@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://other.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "https://other.example"}, "another audience"),
        ({"aud": AUDIENCE + "/"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"aud": [[AUDIENCE]]}, "another audience"),
        ({"exp": None}, "never expires"),
        ({"exp": "2100-01-01"}, "no time in seconds"),
        ({"exp": str(int(time.time()) + 99)}, "no time in seconds"),
        ({"exp": True}, "no time in seconds"),
        ({"exp": 1e300}, "no time in seconds"),
        ({"exp": -1}, "no time in seconds"),
        ({"exp": (time.time() + 99) * 1000}, "no time in seconds"),
        ({"exp": 5}, "has expired"),
        ({"nbf": "soon"}, "no time in seconds"),
        ({"tenant_id": None}, "names no tenant"),
        ({"tenant_id": ""}, "names nobody"),
        ({"tenant_id": "x" * 256}, "names nobody"),
        ({"tenant_id": ["acme"]}, "names nobody"),
        ({"tenant_id": {"id": "acme"}}, "names nobody"),
        ({"tenant_id": 5}, "names nobody"),
        ({"tenant_id": "."}, "names nobody"),
        ({"sub": None}, "names no user"),
        ({"sub": ""}, "names nobody"),
        ({"sub": ["alice"]}, "names nobody"),
        ({"jti": 5}, "names nobody"),
    ],
)
async def test_claims_that_are_not_accepted(
    issuer: TokenIssuer, check: Checked, claims: dict[str, Any], why: str
) -> None:
    await check.refuses(issuer.token(**claims), why)


@pytest.mark.behaviour("identity.tokens")
async def test_a_token_is_valid_from_its_beginning_to_its_end(
    issuer: TokenIssuer, check: Checked
) -> None:
    begin = check.clocks.wall // 1000 + 600
    token = issuer.token(nbf=begin, iat=begin, exp=begin + 100)
    await check.refuses(token, "not valid yet: its nbf is (599|600) s ahead")
    await check.refuses(issuer.token(iat=begin), "its iat")
    check.clocks.advance(600 - LEEWAY)
    assert await check(token)
    check.clocks.wall = (begin + 100) * 1000 - 1
    assert await check(token)
    check.clocks.wall += 1
    await check.refuses(token, "has expired")
    check.clocks.advance(CACHE_SECONDS)
    await check.refuses(token, "has expired")


BAD_PARTS = [
    (b"{", b""),
    (b"[]", b""),
    (b'"RS256"', b""),
    (b'{"alg":"RS256","alg":"RS256"}', b""),
    (b'{"alg":"none","\\u0061lg":"RS256"}', b""),
    (b"\xff\xfe{\x00}\x00", b""),
    ('{"alg":"RS256"}'.encode("utf-16"), b""),
    (b"[" * 3000, b""),
    (b'{"alg":NaN}', b""),
]


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize("head", [head for head, _ in BAD_PARTS])
async def test_a_header_that_is_none(issuer: TokenIssuer, check: Checked, head: bytes) -> None:
    _, body, tail = issuer.token().split(".")
    await check.refuses(f"{encoded(head)}.{body}.{tail}", "is none")
    assert issuer.fetches == 0


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"5", b'"acme"', b"{", b'{"tenant_id":"a","tenant_id":"acme"}',
        b'{"a":{"b":1,"b":2}}', b'{"exp":Infinity}', b"[" * 3000, b"\xff",
        b'{"exp":1' + b"0" * 5000 + b"}",
    ],
)  # fmt: skip
async def test_signed_claims_that_are_none(
    issuer: TokenIssuer, check: Checked, payload: bytes
) -> None:
    await check.refuses(issuer.token(payload=payload), "holds no claims")


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_token_within_a_token_is_none(issuer: TokenIssuer, check: Checked) -> None:
    nested = issuer.token(payload=issuer.token().encode(), header={"cty": "JWT"})
    await check.refuses(nested, "holds no claims")


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "b64", 5, None])
async def test_an_extension_is_refused(issuer: TokenIssuer, check: Checked, crit: Any) -> None:
    header = json.dumps({"alg": "RS256", "kid": "one", "crit": crit, "b64": False}).encode()
    _, body, tail = issuer.token().split(".")
    await check.refuses(f"{encoded(header)}.{body}.{tail}", "extensions")


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_token_that_is_written_otherwise(issuer: TokenIssuer, check: Checked) -> None:
    token = issuer.token()
    assert await check(token)
    for other in (
        token.replace(".", "=.", 1),
        token + "=",
        token + "\n",
        "+" + token[1:],
        "\u00e9" + token[1:],
        token[: token.rindex(".") + 2],
        token.replace(".", " .", 1),
        "..",
    ):
        await check.refuses(other, "is none")


@pytest.mark.behaviour("identity.token-forgery")
async def test_a_token_that_is_changed_anywhere_is_refused(
    issuer: TokenIssuer, check: Checked
) -> None:
    dice, token = depth.dice("changed tokens"), issuer.token()
    letters = string.ascii_letters + string.digits + "-_.=+/ \n\0\u00e9"
    for _ in range(depth.at_depth(2_000, 100_000)):
        at, until = sorted(dice.choices(range(len(token)), k=2))
        changed = dice.choice([
            token[:at] + dice.choice(letters) + token[at + dice.randint(0, 1):],
            token[:at] + token[until:],
            token[:until] + token[at:],
            token[at:] + token[:at],
        ])  # fmt: skip
        if changed == token or changed.count(".") != 2:
            continue
        with pytest.raises((Unauthorized, Unavailable)):
            await check(changed)
    assert await check(token)


@pytest.mark.behaviour("identity.token-forgery")
@pytest.mark.parametrize("kid", [5, ["one"], {}, "x" * 256])
async def test_a_key_id_that_is_none(issuer: TokenIssuer, check: Checked, kid: Any) -> None:
    await check.refuses(issuer.token(header={"kid": kid}), "kid")
    assert issuer.fetches == 0


@pytest.mark.behaviour("identity.tokens")
async def test_a_huge_token_is_not_read(issuer: TokenIssuer, check: Checked) -> None:
    room = LARGEST_TOKEN - len(issuer.token(more=""))
    assert await check(issuer.token(more="x" * (room * 3 // 4 - 8)))
    await check.refuses(issuer.token(more="x" * LARGEST_TOKEN), "more than 8,192")
    await check.refuses("a." * 40_000 + "b", "more than 8,192")


# --- The issuer's keys


@pytest.mark.behaviour("identity.token-keys")
async def test_a_storm_of_unknown_keys_costs_one_fetch(issuer: TokenIssuer, check: Checked) -> None:
    assert await check(issuer.token())
    check.clocks.advance(AGAIN_SECONDS - 0.1)
    unknown = [issuer.token(header={"kid": f"k{number}"}) for number in range(50)]
    for token in unknown:
        await check.refuses(token, "does not publish")
    assert issuer.fetches == 1
    check.clocks.advance(0.1)
    refusals = await asyncio.gather(*map(check, unknown), return_exceptions=True)
    assert {type(one) for one in refusals} == {Unauthorized}
    assert issuer.fetches == 2
    began = time.perf_counter()
    for number in range(1000):
        await check.refuses(issuer.token(header={"kid": f"{number}"}, payload=b"{}", key=CHEAP,
                                         algorithm="ES256"), "does not publish")  # fmt: skip
    assert time.perf_counter() - began < 5
    assert issuer.fetches == 2


CHEAP = key_named("cheap", "EC")


@pytest.mark.behaviour("identity.token-keys")
async def test_of_those_that_wait_for_a_fetch_the_many_are_refused_at_once(
    issuer: TokenIssuer, check: Checked
) -> None:
    issuer.hung = asyncio.Event()
    token = issuer.token()
    waiting = [asyncio.create_task(check(token)) for _ in range(MOST_WAITING)]
    await issuer.fetched(1)
    with pytest.raises(Unavailable, match="are being fetched"):
        await check(token)
    for one in waiting[:50]:
        one.cancel()
    issuer.hung.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(one, TokenCredential) for one in found) == MOST_WAITING - 50
    assert issuer.fetches == 1


@pytest.mark.behaviour("identity.token-keys")
async def test_a_new_key_is_found_and_a_withdrawn_one_refused(
    issuer: TokenIssuer, check: Checked
) -> None:
    old = issuer.token()
    assert await check(old)
    issuer.keys = [key_named("two"), *issuer.keys]
    new = issuer.token()
    await check.refuses(new, "does not publish")
    check.clocks.advance(AGAIN_SECONDS)
    assert await check(new)
    assert await check(old), "both are published"
    issuer.keys = issuer.keys[:1]
    check.clocks.advance(AGAIN_SECONDS)
    await check.keys.refresh()
    await check.refuses(old, "does not publish")
    assert await check(new)


@pytest.mark.behaviour("identity.token-keys")
async def test_another_key_of_the_same_id_ends_what_was_cached(
    issuer: TokenIssuer, check: Checked
) -> None:
    old = issuer.token()
    assert await check(old)
    other = RSAKey.generate_key(2048, {"kid": "one"})
    issuer.keys = [other]
    await check.keys.refresh()
    await check.refuses(old, "does not fit")
    assert await check(issuer.token(key=other))


@pytest.mark.behaviour("identity.token-keys")
async def test_an_issuer_that_cannot_be_reached_at_first(
    issuer: TokenIssuer, check: Checked
) -> None:
    await issuer.stop()
    for _ in range(5):
        with pytest.raises(Unavailable, match=r"cannot be fetched.*ClientConnectorError"):
            await check(issuer.token())
    await issuer.start()
    with pytest.raises(Unavailable):
        await check(issuer.token())
    assert issuer.fetches == 0, "a failure is remembered"
    check.clocks.advance(AGAIN_SECONDS)
    assert await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
async def test_an_issuer_that_cannot_be_reached_later(issuer: TokenIssuer, check: Checked) -> None:
    assert await check(issuer.token())
    await issuer.stop()
    check.clocks.advance(AGAIN_SECONDS)
    await check.keys.refresh()
    assert await check(issuer.token(sub="bob")), "its key is known"
    with pytest.raises(Unavailable, match="cannot be fetched"):
        await check(issuer.token(key=key_named("two")))
    await check.refuses(issuer.token(algorithm="RS256", header={"alg": "ES256"}), "not for ES256")
    check.clocks.steady += KEPT_SECONDS
    await check.keys.refresh()
    with pytest.raises(Unavailable):
        await check(issuer.token(sub="bob"))
    await issuer.start()
    await check.keys.refresh()
    assert await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"", 200, "no key set"),
        (b"{}", 200, "no key set"),
        (b'{"keys":[5]}', 200, "no key set"),
        (b"[" * 100_000, 200, "no key set"),
        (b'{"keys":[]}', 200, "none of the published keys"),
        (b'{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"one"}]}', 200, "none of the published"),
        (b'{"keys":[{}]}', 200, "none of the published keys"),
        (b'{"keys":[' + b"{}," * 100 + b"{}]}", 200, "more than 100 keys"),
        (b" " * 300_000, 200, "more than 262,144 bytes"),
        (None, 404, "responded with 404"),
        (None, 500, "responded with 500"),
        (None, 204, "responded with 204"),
    ],
)
async def test_keys_that_are_none(
    issuer: TokenIssuer, check: Checked, body: bytes | None, status: int, why: str
) -> None:
    issuer.body, issuer.status = body, status
    with pytest.raises(Unavailable, match=why):
        await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
async def test_a_key_that_is_not_understood_hides_no_other(
    issuer: TokenIssuer, check: Checked
) -> None:
    (key,) = issuer.keys
    good = key.as_dict(private=False)
    strange: list[Any] = [
        {"kty": "MLDSA", "kid": "p"},
        {"kty": 5},
        {**good, "n": "AQAB", "kid": "short"},
        {**good, "n": "_" * 4000, "kid": "long"},
        {**good, "n": "!", "kid": "x"},
        {**good, "kid": 5},
        {**good, "kid": "x" * 300},
        {**good, "key_ops": 5, "kid": "y"},
        {"kty": "EC", "crv": "P-256", "x": encoded(b"1" * 32), "y": encoded(b"1" * 32)},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": encoded(b"1" * 32)},
    ]
    issuer.body = json.dumps({"keys": [*strange, good]}).encode()
    assert await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
async def test_no_redirect_is_followed(issuer: TokenIssuer, check: Checked) -> None:
    async with TokenIssuer() as other:
        issuer.status, issuer.headers = 302, {"Location": other.keys_url}
        with pytest.raises(Unavailable, match="responded with 302"):
            await check(issuer.token())
        assert other.fetches == 0


@pytest.mark.behaviour("identity.token-keys")
async def test_a_packed_response_is_not_unpacked(issuer: TokenIssuer, check: Checked) -> None:
    issuer.body, issuer.headers = gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"}
    with pytest.raises(Unavailable, match="no key set"):
        await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
async def test_a_response_that_takes_too_long_is_not_waited_for(
    issuer: TokenIssuer, check: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.05)
    issuer.hung = asyncio.Event()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await check(issuer.token())


@pytest.mark.behaviour("identity.token-keys")
async def test_the_keys_are_where_the_discovery_document_says(
    issuer: TokenIssuer, checking: Callable[..., Checked]
) -> None:
    assert await checking(jwks_url="")(issuer.token())
    assert issuer.fetches == 1


@pytest.mark.behaviour("identity.token-keys")
@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"jwks_uri": "https://other.example/keys"}, "on another host"),
        ({"jwks_uri": "http://other.example/keys"}, "https off loopback"),
        ({"jwks_uri": "http://127.0.0.2:1/keys"}, "on another host"),
        ({"jwks_uri": "file:///etc/passwd"}, "must be an address"),
        ({"jwks_uri": "http://[::1/keys"}, "must be an address"),
        ({"jwks_uri": 5}, "no discovery document"),
    ],
)
async def test_a_discovery_document_that_is_not_believed(
    issuer: TokenIssuer, checking: Callable[..., Checked], document: dict[str, Any], why: str
) -> None:
    issuer.discovery = document
    with pytest.raises(Unavailable, match=why):
        await checking(jwks_url="")(issuer.token())
    assert issuer.fetches == 0


@pytest.mark.behaviour("identity.token-keys")
async def test_the_keys_are_kept_fresh(
    issuer: TokenIssuer, check: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "FRESH_SECONDS", 0.01)
    monkeypatch.setattr(issuers, "FAILED_SECONDS", 0.01)
    running = asyncio.create_task(check.keys.run())
    try:
        async with asyncio.timeout(20):
            await issuer.fetched(3)
            issuer.status = 500
            await issuer.fetched(3)
            with pytest.raises(Unavailable, match="responded with 500"):
                await check(issuer.token(key=key_named("two")))
            issuer.status = 200
            await issuer.fetched(3)
            await check.refuses(issuer.token(key=key_named("two")), "does not publish")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


# --- What is remembered


@pytest.mark.behaviour("identity.tokens")
async def test_a_verified_token_is_verified_again_after_a_while(
    issuer: TokenIssuer, check: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = list[str]()
    verifies = SigningKey.verifies

    def counted(self: SigningKey, algorithm: str, signed: bytes, signature: bytes) -> bool:
        verified.append(algorithm)
        return verifies(self, algorithm, signed, signature)

    monkeypatch.setattr(SigningKey, "verifies", counted)
    token = issuer.token()
    first = await check(token)
    check.clocks.advance(CACHE_SECONDS - 0.1)
    assert await check(token) is first
    assert len(verified) == 1
    check.clocks.advance(0.1)
    assert await check(token) == first
    assert len(verified) == 2
    assert token not in repr(check.check.__dict__)


@pytest.mark.behaviour("identity.tokens")
async def test_so_many_tokens_are_remembered(
    issuer: TokenIssuer, check: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soorma_platform.identity.tokens.MOST_CACHED", 3)
    tokens = [issuer.token(sub=f"user{number}") for number in range(4)]
    first = await check(tokens[0])
    for token in tokens[1:3]:
        await check(token)
    assert await check(tokens[0]) is first
    second = await check(tokens[1])
    await check(tokens[2])
    await check(tokens[3])
    assert len(check.check._verified) == 3 < MOST_CACHED
    assert await check(tokens[1]) is second
    assert await check(tokens[0]) is not first, "the one that was not used for longest is gone"


# --- What ends


class Record:
    """The blocks of a record."""

    def __init__(self) -> None:
        self.rows = list[BlockRow]()

    async def changed(self, after: int, limit: int) -> list[BlockRow]:
        return [row for row in self.rows if row.change > after][:limit]


async def blocking(check: Checked, *what: str | None, **more: Any) -> None:
    """Adds a block to the record, and learns of it."""
    tenant_id, subject, jti = what
    row = BlockRow("", check.settings.issuer, tenant_id or "", subject, jti)
    check.record.rows.append(replace(row, change=len(check.record.rows) + 1, **more))
    await check.check.follow()


@pytest.mark.behaviour("identity.token-ends")
@pytest.mark.parametrize(
    ("block", "others"),
    [
        (("acme", "alice", None), True),
        (("", "alice", None), True),
        (("acme", None, "1"), False),
        (("", None, "1"), False),
    ],
)
async def test_a_blocked_user_or_token_is_refused(
    issuer: TokenIssuer, check: Checked, block: Any, others: bool
) -> None:
    own, another = issuer.token(), issuer.token(jti="2")
    assert await check(own)
    await blocking(check, *block)
    await check.refuses(own, "was blocked")
    if others:
        await check.refuses(another, "was blocked")
    else:
        assert await check(another)
    assert await check(issuer.token(sub="bob", jti="3"))
    if block[0]:
        assert await check(issuer.token(tenant_id="umbrella"))
    await blocking(check, *block, lifted_at=5)
    assert await check(own)


@pytest.mark.behaviour("identity.token-ends")
async def test_a_block_may_end(issuer: TokenIssuer, check: Checked) -> None:
    await blocking(check, "acme", "alice", None, expires_at=check.clocks.wall + 10_000)
    await check.refuses(issuer.token(), "was blocked")
    check.clocks.advance(10)
    assert await check(issuer.token(jti=None))
    await blocking(check, "acme", "alice", None, issuer="https://other.example")
    assert await check(issuer.token())


@pytest.mark.behaviour("identity.token-ends")
@pytest.mark.parametrize("end", ["expiry", "block", "withdrawal"])
async def test_what_was_admitted_ends_with_the_token(
    issuer: TokenIssuer, check: Checked, end: str
) -> None:
    soon = check.clocks.wall // 1000 + 60
    admitted = asyncio.Event()

    async def stream(token: str) -> None:
        check.check.admit(await check(token))
        admitted.set()
        await asyncio.Event().wait()

    streaming = asyncio.create_task(stream(issuer.token(exp=soon)))
    await admitted.wait()
    check.check.end_invalid()
    await asyncio.sleep(0)
    assert not streaming.done()
    if end == "expiry":
        check.clocks.wall = soon * 1000
    elif end == "block":
        await blocking(check, "acme", "alice", None)
    else:
        issuer.keys = [key_named("two")]
        await check.keys.refresh()
    check.check.end_invalid()
    with pytest.raises(asyncio.CancelledError, match=NOT_VALID):
        await streaming


@pytest.mark.behaviour("identity.token-ends")
async def test_a_refreshed_token_ends_with_its_own_expiry(
    issuer: TokenIssuer, check: Checked
) -> None:
    first, second = [
        await check(issuer.token(exp=check.clocks.wall // 1000 + 60 * hours)) for hours in (1, 2)
    ]
    assert first != second
    assert replace(first, expires_at=second.expires_at) == second


# --- Beside keys


@pytest.mark.behaviour("identity.tokens")
async def test_what_looks_like_a_token_is_one(issuer: TokenIssuer, check: Checked) -> None:
    class NoKeys:
        def now(self) -> int:
            return 0

        async def changed(self, after: int, limit: int) -> list[Any]:
            return []

    both = Authenticator(Keyring(NoKeys()), check.check)  # type: ignore[arg-type]
    found = await both.credential(f"bearer  {issuer.token()} ")
    assert found.name == "alice"
    for shown in (None, "", "Bearer", "Bearer x", "Bearer soorma_1.2.3", "Basic a.b.c",
                  f"Basic {issuer.token()}", "Bearer a.b.c.d.e"):  # fmt: skip
        with pytest.raises(Unauthorized, match=r"API key|soorma_"):
            await both.credential(shown)
    for shown in ("Bearer ..", "Bearer a.b.c", "Bearer a.b .c"):
        with pytest.raises(Unauthorized, match="the token is none"):
            await both.credential(shown)


# --- Settings

GOOD = {"SOORMA_OIDC_ISSUER": "https://id.example/a", "SOORMA_OIDC_AUDIENCE": "soorma"}


@pytest.mark.behaviour("settings.variables")
def test_the_settings_of_an_issuer() -> None:
    assert OidcSettings.from_env({"SOORMA_OIDC_ISSUER": " "}) is None
    assert OidcSettings.from_env({"SOORMA_OIDC_ALGORITHMS": "RS256"}) is None
    found = OidcSettings.from_env(GOOD)
    assert found == OidcSettings("https://id.example/a", "soorma", ("RS256", "ES256"))
    assert OidcSettings.from_env(
        {
            **GOOD,
            "SOORMA_OIDC_ALGORITHMS": "ES256, EdDSA",
            "SOORMA_OIDC_JWKS_URL": "https://keys.example/jwks",
            "SOORMA_OIDC_CLAIM_TENANT": "org",
            "SOORMA_OIDC_CLAIM_USER": "email",
            "SOORMA_OIDC_CLAIM_ROLE": "/realm_access/roles",
            "SOORMA_OIDC_CLAIM_SCOPE": "scp",
        }
    ) == OidcSettings(
        "https://id.example/a",
        "soorma",
        ("ES256", "EdDSA"),
        "https://keys.example/jwks",
        ClaimTable("org", "email", "/realm_access/roles", "scp"),
    )


@pytest.mark.behaviour("settings.refused")
@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SOORMA_OIDC_ISSUER", ""),
        ("SOORMA_OIDC_AUDIENCE", ""),
        ("SOORMA_OIDC_ISSUER", "id.example"),
        ("SOORMA_OIDC_ISSUER", "http://id.example"),
        ("SOORMA_OIDC_ISSUER", "https://id.example?x=1"),
        ("SOORMA_OIDC_ISSUER", "https://user:secret@id.example"),
        ("SOORMA_OIDC_ISSUER", "https://id.example:port"),
        ("SOORMA_OIDC_ISSUER", "https://id.exa mple"),
        ("SOORMA_OIDC_ALGORITHMS", "none"),
        ("SOORMA_OIDC_ALGORITHMS", "RS256,HS256"),
        ("SOORMA_OIDC_ALGORITHMS", "RS256,"),
        ("SOORMA_OIDC_ALGORITHMS", "rs256"),
        ("SOORMA_OIDC_JWKS_URL", "http://id.example/keys"),
        ("SOORMA_OIDC_JWKS_URL", "http://localhost.example/keys"),
        ("SOORMA_OIDC_JWKS_URL", "file:///keys"),
    ],
)
def test_a_setting_of_an_issuer_that_is_off_is_named(variable: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=variable) as refused:
        OidcSettings.from_env({**GOOD, variable: text})
    assert "secret" not in str(refused.value)


def test_an_object_is_read_strictly() -> None:
    assert object_in(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}
    assert issubclass(Unavailable, SoormaError)
