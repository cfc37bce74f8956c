"""Which embedder the settings choose."""

from __future__ import annotations

from soorma_common.errors import InvalidRequest
from soorma_platform.work.embedding.protocol import Embedder

AUTO, OFFLINE, NONE = "auto", "offline", "none"


def is_address(embeddings: str) -> bool:
    """True if the setting names an endpoint."""
    return embeddings not in (AUTO, OFFLINE, NONE)


def check_choice(embeddings: str, model: str) -> None:
    """Raises InvalidRequest if no embedder can be chosen by these settings."""
    if not is_address(embeddings):
        return
    from soorma_platform.work.embedding.endpoint import check_address  # noqa: PLC0415 - aiohttp

    check_address(embeddings)
    if not model:
        raise InvalidRequest(
            "SOORMA_EMBEDDINGS_MODEL must name the model that is behind the address in "
            "SOORMA_EMBEDDINGS"
        )


def model_of(embeddings: str, model: str) -> str | None:
    """Returns the name of the model of these settings; None if searches go by words alone.

    Raises Unavailable, with advice, if it is to be the offline model and that cannot be used.
    """
    if embeddings == NONE:
        return None
    if embeddings in (AUTO, OFFLINE):
        from soorma_platform.work.embedding import offline  # noqa: PLC0415 - numpy

        if embeddings == AUTO and offline.model_file() is None:
            return None
        offline.usable_model_file()
        return offline.OfflineEmbedder.name
    from soorma_platform.work.embedding.endpoint import name_at  # noqa: PLC0415 - aiohttp

    return name_at(embeddings, model)


def embedder_of(embeddings: str, model: str, key: str) -> Embedder | None:
    """Returns the embedder of the settings; None if searches go by words alone."""
    if embeddings == NONE:
        return None
    if embeddings in (AUTO, OFFLINE):
        from soorma_platform.work.embedding import offline  # noqa: PLC0415 - numpy

        if embeddings == AUTO and offline.model_file() is None:
            return None
        return offline.OfflineEmbedder()
    from soorma_platform.work.embedding.endpoint import EndpointEmbedder  # noqa: PLC0415 - aiohttp

    return EndpointEmbedder(embeddings, model, key)
