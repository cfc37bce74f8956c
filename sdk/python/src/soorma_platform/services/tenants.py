"""Memories of whole tenants over HTTP, a part of the memory service."""

from __future__ import annotations

import msgspec

from soorma_common.errors import Forbidden, InvalidRequest
from soorma_common.forgetting import ForgetBody, Receipt, check_forget
from soorma_common.names import All
from soorma_platform import http
from soorma_platform.http import Endpoint, Request, Response
from soorma_platform.identity import Access
from soorma_platform.identity.door import FENCE_HEADER
from soorma_platform.work.forgetting import Forgetting

_OF_TENANT = frozenset({Access.TENANT, Access.OPERATOR})
_forget_body = msgspec.json.Decoder(ForgetBody)


def tenant_endpoints(forgetting: Forgetting) -> list[Endpoint]:
    """Returns the endpoints of whole tenants."""
    faces = _Tenants(forgetting)
    return [
        Endpoint("POST", "/v1/memory/tenant/forget", _OF_TENANT, faces.forget_tenant, Receipt,
                 ForgetBody, query=(http.TENANT_ID,), errors=(Forbidden,),
                 examples={http.JSON: {"source": "mail", "preview": True}}),
    ]  # fmt: skip


class _Tenants:
    def __init__(self, forgetting: Forgetting) -> None:
        self._forgetting = forgetting

    async def forget_tenant(self, request: Request) -> Response:
        """Forgets what all users of a tenant have stored and fits, or counts it for a preview.

        It takes several commits: what is stored meanwhile may stay. A repeated request forgets what
        is left.
        """
        owner = http.TENANT_ID.owner(request)
        if owner is All.TENANTS:
            raise InvalidRequest(
                "say which tenant is meant, with tenant_id, or in the headers: nothing is "
                "forgotten for all tenants at once"
            )
        if request.header(FENCE_HEADER):
            raise Forbidden("a handler acts for one user: an application forgets for all of them")
        body = http.decode(await request.body(), _forget_body)
        check_forget(body)
        receipt = await self._forgetting.forget_tenant(owner, body, request.principal.author)
        return http.json_response(receipt)
