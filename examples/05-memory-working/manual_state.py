"""Working memory by hand: every call says whose plan it means.

Compare with WorkflowState in planner.py.
"""

import asyncio
import sys
import uuid

from soorma import SoormaError
from soorma.memory.client import MemoryClient

# Fixed ids, for the example. In a handler they come from the event.
TENANT_ID = "00000000-0000-0000-0000-000000000000"
USER_ID = "00000000-0000-0000-0000-000000000000"


async def main() -> None:
    memory = MemoryClient()
    try:
        await store_and_retrieve(memory)
    finally:
        await memory.close()


async def store_and_retrieve(memory: MemoryClient) -> None:
    plan_id = str(uuid.uuid4())
    print(f"Plan {plan_id}")

    # Store.
    await memory.set_plan_state(
        plan_id=plan_id,
        key="research_data",
        value={"findings": ["containers share a kernel", "images are layered"]},
        tenant_id=TENANT_ID,
        user_id=USER_ID,
    )
    print("stored    research_data")

    # Retrieve.
    response = await memory.get_plan_state(
        plan_id, "research_data", tenant_id=TENANT_ID, user_id=USER_ID
    )
    print(f"retrieved {response.key} = {response.value}")
    print(
        f"          id {response.id}, revision {response.revision}, updated at "
        f"{response.updated_at}"
    )

    # A history kept by hand is a read, a change and a write; two agents at once would lose one of
    # them. WorkflowState.record_action does it in one call, on the platform.
    for action in ("research.started", "research.completed"):
        try:
            history = (await memory.get_plan_state(plan_id, "history", TENANT_ID, USER_ID)).value
        except KeyError:
            history = []
        await memory.set_plan_state(plan_id, "history", [*history, action], TENANT_ID, USER_ID)
    response = await memory.get_plan_state(plan_id, "history", TENANT_ID, USER_ID)
    print(f"history   {response.value}")

    # Clean up.
    deleted = await memory.cleanup_plan(plan_id, tenant_id=TENANT_ID, user_id=USER_ID)
    print(f"cleaned up {deleted} keys")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(str(error))
