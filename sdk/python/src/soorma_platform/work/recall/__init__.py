"""Searches of a user's memories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soorma_common.episodic import SaidHits, SaidSearch
from soorma_common.likeness import AlikeBody, AlikePassage
from soorma_common.limits import Limits
from soorma_common.names import Scope
from soorma_common.procedural import ProcedureHits, RelevantBody
from soorma_common.semantic import Hits, SearchBody
from soorma_platform.metrics import Metrics
from soorma_platform.stores.ports.store import MemoryStores
from soorma_platform.work.recall.interactions import InteractionSearch
from soorma_platform.work.recall.knowledge import KnowledgeSearch
from soorma_platform.work.recall.procedures import ProcedureSearch
from soorma_platform.work.recall.searching import Searching

if TYPE_CHECKING:
    from soorma_platform.work.embedding.worker import Embedding


class Recall:
    """The searches of all kinds of memories, which share the indexes that are kept.

    At most `most_bytes` of these are. With an `embedding`, searches go by meaning, too.
    """

    def __init__(
        self,
        memories: MemoryStores,
        limits: Limits,
        most_bytes: int,
        embedding: Embedding | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self.searching = searching = Searching(
            memories.semantic, most_bytes, embedding, self._metrics
        )
        self._knowledge = KnowledgeSearch(searching, memories.semantic, limits)
        self._interactions = InteractionSearch(searching, memories.episodic)
        self._procedures = ProcedureSearch(searching, memories.procedural)

    async def knowledge(self, scope: Scope, body: SearchBody) -> Hits:
        """Returns the best passages for a query that the user may read."""
        hits = await self._knowledge.search(scope, body)
        self._metrics.memories.searches.add("semantic", hits.mode)
        return hits

    async def alike(self, scope: Scope, body: AlikeBody) -> list[AlikePassage]:
        """Returns passages that seem to state the same as a text, the nearest first."""
        return await self._knowledge.alike(scope, body)

    async def procedures(self, scope: Scope, body: RelevantBody) -> ProcedureHits:
        """Returns the procedures for an agent and a context, the most successful first."""
        hits = await self._procedures.search(scope, body)
        if body.context is not None:
            self._metrics.memories.searches.add("procedural", hits.mode)
        return hits

    async def interactions(self, scope: Scope, body: SaidSearch) -> SaidHits:
        """Returns the best interactions of a user for a query."""
        hits = await self._interactions.search(scope, body)
        self._metrics.memories.searches.add("episodic", hits.mode)
        return hits
