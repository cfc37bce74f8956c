"""Identity: API keys, and who it is that a credential stands for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from soorma_common.errors import Conflict, Forbidden, InvalidRequest, LimitExceeded, NotFound
from soorma_common.identity import (
    DELIVERIES,
    LONGEST_OVERLAP,
    SCOPES,
    ApiKeys,
    CreatedKey,
    KeyInfo,
    NewKey,
    RotateBody,
    Whoami,
    check_new_key,
    scopes_of,
)
from soorma_common.names import All, Owner
from soorma_platform import http
from soorma_platform.engine.keys import CreateKey, RevokeKey, RotateKey
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access, Door, Principal
from soorma_platform.identity.credentials import TokenCredential, fresh_key, token_info
from soorma_platform.identity.keyring import Keyring
from soorma_platform.identity.keys import key_info, new_row
from soorma_platform.logs import Log
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports.health import HealthStore
from soorma_platform.stores.ports.keys import KeyStore
from soorma_platform.stores.ports.store import Commits

_MANAGERS = frozenset({Access.TENANT, Access.OPERATOR})
_AFTER = http.Number("after", "From behind this key: `next` of the page before.", default=0)
_LIMIT = http.page_limit()
_new_key = msgspec.json.Decoder(NewKey)
_rotate = msgspec.json.Decoder(RotateBody)
_AN_AGENTS_KEY = {
    "name": "packers",
    "role": "agent",
    "agents": ["packer"],
    "subscribe": ["order.paid@business-facts"],
    "publish": ["order.packed@business-facts"],
}

log = Log("soorma.identity")


def identity_service(
    commits: Commits,
    keys: KeyStore,
    keyring: Keyring,
    health: HealthStore,
    metrics: Metrics,
    door: Door | None = None,
    more: Iterable[Endpoint] = (),
) -> http.Application:
    """Returns the service as an ASGI application."""
    faces = _Identity(commits, keys, keyring)
    path, tenant = "/v1/identity/keys", (http.TENANT_ID,)
    one = f"{path}/{{key_id}}"
    return http.Application(
        "identity",
        [
            Endpoint("GET", "/v1/identity/whoami", http.ANYBODY_KNOWN, faces.whoami, Whoami),
            Endpoint("GET", path, _MANAGERS, faces.list_keys, ApiKeys,
                     query=(*tenant, _AFTER, _LIMIT)),
            Endpoint("POST", path, _MANAGERS, faces.create_key, CreatedKey, NewKey, query=tenant,
                     examples={http.JSON: _AN_AGENTS_KEY}, gives={"key_id": "/key/id"},
                     errors=(Forbidden, LimitExceeded)),
            Endpoint("GET", one, _MANAGERS, faces.get_key, KeyInfo, query=tenant,
                     errors=(NotFound,)),
            Endpoint("DELETE", one, _MANAGERS, faces.revoke_key, KeyInfo, query=tenant,
                     errors=(Forbidden, NotFound)),
            Endpoint("POST", f"{one}/rotate", _MANAGERS, faces.rotate_key, CreatedKey, RotateBody,
                     query=tenant,
                     errors=(Conflict, Forbidden, NotFound)),
            *more,
        ],
        health,
        metrics=metrics,
        about=__doc__ or "",
        door=door,
    )  # fmt: skip


class _Identity:
    def __init__(self, commits: Commits, keys: KeyStore, keyring: Keyring) -> None:
        self._commits = commits
        self._keys = keys
        self._keyring = keyring

    async def whoami(self, request: Request) -> Response:
        """Returns the identity behind the request: its key or token, tenant, user and scopes."""
        principal = request.principal
        credential = principal.credential
        owner = None if principal.owner is All.TENANTS else principal.owner
        who = Whoami(scopes=sorted(SCOPES), tenant_id=owner, user_id=principal.user, is_open=True)
        if credential is not None:
            who.is_open, who.scopes = False, sorted(credential.scopes)
            if isinstance(credential, TokenCredential):
                who.token = token_info(credential)
            elif (row := await self._keys.find(All.TENANTS, credential.id)) is not None:
                who.key = key_info(row)
        return http.json_response(who)

    async def list_keys(self, request: Request) -> Response:
        """Lists keys, without their secrets, those changed last at the end."""
        owner = http.TENANT_ID.owner(request)
        size = _LIMIT.size(request)
        rows = await self._keys.list(owner, _AFTER.value(request), size.to_read)
        page, following = size.cut(rows, lambda row: row.change)
        return http.json_response(ApiKeys([key_info(row) for row in page], following))

    async def get_key(self, request: Request) -> Response:
        """Returns a key, without its secret."""
        key_id = request.name("key_id")
        row = await self._keys.find(http.TENANT_ID.owner(request), key_id)
        if row is None:
            raise NotFound(f"there is no key {key_id!r}")
        return http.json_response(key_info(row))

    async def create_key(self, request: Request) -> Response:
        """Creates a key, and returns its credential, which is shown this once.

        It permits no more than the credential that creates it. Without a tenant, it is for those of
        that one.
        """
        body = http.decode(await request.body(), _new_key)
        body.tenant_id = http.TENANT_ID.of_new(request, body.tenant_id)
        check_new_key(body)
        _check_within(request.principal, scopes_of(body))
        fresh, author = fresh_key(), request.principal.author
        life = None if body.expires_in is None else round(body.expires_in * 1000)
        row = await self._commits.transact(
            CreateKey(new_row(body, fresh, author.by_id), life, author=author)
        )
        await self._keyring.follow()
        log.info(
            "key created",
            key=row.id,
            name=row.name,
            tenant_id=row.tenant_id or "all",
            by=author.by_id,
        )
        return _shown_once(CreatedKey(key=key_info(row), credential=fresh.credential))

    async def rotate_key(self, request: Request) -> Response:
        """Creates the successor of a key and returns its credential, which is shown this once.

        The key stays valid beside it for some time, a day unless another `overlap` is given, so
        that no request fails while it is replaced.
        """
        body = http.decode(await request.body(), _rotate)
        if not body.overlap <= LONGEST_OVERLAP:
            raise InvalidRequest(
                f"overlap must be at most {LONGEST_OVERLAP:.0f} seconds, not {body.overlap:g}"
            )
        key_id, owner = request.name("key_id"), http.TENANT_ID.owner(request)
        await self._check_may_change(request, owner, key_id)
        fresh, author = fresh_key(), request.principal.author
        row = await self._commits.transact(
            RotateKey(
                owner,
                key_id,
                new_id=fresh.id,
                digest=fresh.digest,
                overlap=round(body.overlap * 1000),
                author=author,
            )
        )
        await self._keyring.follow()
        log.info("key rotated", key=key_id, successor=row.id, name=row.name, by=author.by_id)
        return _shown_once(CreatedKey(key=key_info(row), credential=fresh.credential))

    async def revoke_key(self, request: Request) -> Response:
        """Revokes a key, for good: its next request is refused, and its connections end."""
        key_id, owner = request.name("key_id"), http.TENANT_ID.owner(request)
        await self._check_may_change(request, owner, key_id)
        author = request.principal.author
        row = await self._commits.transact(RevokeKey(owner, key_id, author=author))
        await self._keyring.follow()
        log.info("key revoked", key=row.id, name=row.name, by=author.by_id)
        return http.json_response(key_info(row))

    async def _check_may_change(self, request: Request, owner: Owner, key_id: str) -> None:
        row = await self._keys.find(owner, key_id)
        if row is not None:  # else the command says so
            _check_within(request.principal, frozenset(row.grants.scopes))


def _check_within(principal: Principal, scopes: frozenset[str]) -> None:
    """Raises Forbidden if a key permits what its creator may not do.

    Taking deliveries is no exception to that, but a part of managing keys: no person takes any.
    """
    credential = principal.credential
    if credential is None:
        return
    if beyond := scopes - credential.scopes - {DELIVERIES}:
        raise Forbidden(
            f"{credential} does not permit {min(beyond)}, and so manages no key that does"
        )


def _shown_once(created: CreatedKey) -> Response:
    response = http.json_response(created)
    response.headers.append((b"cache-control", b"no-store"))
    return response
