"""The operations on a user's memories that a commit may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from soorma_common.episodic import (
    LogInteraction,
    NameSession,
    check_interaction,
    check_session_name,
)
from soorma_common.limits import Limits
from soorma_common.procedural import AnyProcedureOperation, StoreProcedure, check_procedure
from soorma_common.semantic import AnyKnowledgeOperation, StoreKnowledge, check_change

AnyMemoryOperation: TypeAlias = (
    AnyKnowledgeOperation | LogInteraction | NameSession | AnyProcedureOperation
)


def check_memories(operations: list[AnyMemoryOperation], limits: Limits) -> Iterator[None]:
    """Raises InvalidRequest, InvalidValue or LimitExceeded for what cannot be done.

    Yields after each operation, so that the caller can give others a turn.
    """
    size = 0
    for operation in operations:
        if isinstance(operation, LogInteraction):
            check_interaction(operation, limits)
        elif isinstance(operation, NameSession):
            check_session_name(operation)
        elif isinstance(operation, AnyProcedureOperation):
            check_procedure(operation, limits)
        else:
            check_change(operation, limits)
        if isinstance(operation, StoreKnowledge | LogInteraction | StoreProcedure):
            size += len(operation.content.encode())
            if isinstance(operation, StoreProcedure):
                size += sum(map(len, operation.files.values()))
            limits.check("memory_bytes", size, "what the commit stores in memories, in bytes,")
        yield
