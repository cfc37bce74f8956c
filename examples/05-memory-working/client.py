"""The client: submits a goal and waits for its own workflow to complete.

python client.py "Write a blog post about Docker"
"""

import asyncio
import sys
import uuid

from soorma import EventClient, SoormaError

TENANT_ID = "00000000-0000-0000-0000-000000000000"
USER_ID = "00000000-0000-0000-0000-000000000001"
PATIENCE_SECONDS = 30


async def main(goal: str) -> int:
    # Whatever agents lie between, the answer carries the correlation id of the goal.
    correlation_id = str(uuid.uuid4())
    completed = asyncio.get_running_loop().create_future()

    async with EventClient(agent_id="workflow-client", source="workflow-client") as client:

        @client.on_event("workflow.completed", topic="action-results")
        def on_completed(event):
            if event.correlation_id == correlation_id and not completed.done():
                completed.set_result(event.data)

        await client.connect(topics=["action-results"])
        await client.publish(
            event_type="goal.received",
            topic="action-requests",
            data={"goal": goal},
            correlation_id=correlation_id,
            tenant_id=TENANT_ID,
            user_id=USER_ID,
        )
        print(f"Goal submitted: {goal}")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                data = await completed
        except TimeoutError:
            print(
                f"No answer within {PATIENCE_SECONDS} s. The goal is not lost; it waits for the "
                "agents.\n"
                "  - Do the agents run? Start them with ./start.sh in another terminal.\n"
                "  - Does the platform run? soorma dev --status tells, soorma dev --logs why not.",
                file=sys.stderr,
            )
            return 1

    print(f"\nWorkflow completed\nPlan: {data['plan_id']}\n\nResults:")
    for task, result in data["results"].items():
        print(f"  {task}: {result}")
    print("\nAction history:")
    for number, action in enumerate(data["history"], 1):
        print(f"  {number}. {action}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit('Say what is to be done: python client.py "Write a blog post about Docker"')
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit("Interrupted; what was submitted goes on without this client")
    except SoormaError as error:
        sys.exit(f"The goal was not submitted: {error}")
