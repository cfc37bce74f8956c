"""What the services of all memories do with a request: commit its operations, or forget."""

from __future__ import annotations

from soorma_common.errors import Forbidden
from soorma_common.forgetting import ForgetBody, Receipt
from soorma_common.memories import AnyMemoryOperation
from soorma_common.memory import Commit
from soorma_common.semantic import MemoryDone
from soorma_platform.http import Request
from soorma_platform.work.committer import Committer
from soorma_platform.work.forgetting import Forgetting


async def remember(
    committer: Committer, request: Request, operations: list[AnyMemoryOperation], sent: bytes
) -> list[MemoryDone]:
    """Commits operations for the sender of a request; returns the result of each.

    `sent` is what a repetition under the same idempotency key has to have in common with it.
    """
    done = await committer.commit_request(
        request.principal,
        request.scope,
        Commit(memories=operations),
        sent,
        request.idempotency_key,
    )
    return done.memories or []


async def forget_by(request: Request, forgetting: Forgetting, body: ForgetBody) -> Receipt:
    """Forgets by a description; not from a handler, whose attempt may fail or be repeated."""
    if request.principal.fence is not None:
        raise Forbidden(
            "a handler forgets single passages, with its commit; what fits a description is "
            "forgotten at once, and so by an application"
        )
    return await forgetting.forget(request.scope, body, request.principal.author)
