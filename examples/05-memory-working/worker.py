"""The worker: carries out one task at a time and leaves its result in working memory."""

import asyncio
import os

from soorma import Worker
from soorma.workflow import WorkflowState

# How long a task takes. A real one would call a model here.
TASK_SECONDS = float(os.environ.get("TASK_SECONDS", "1"))

worker = Worker(
    name="task-worker",
    description="Carries out research, drafting and review",
    capabilities=["research", "draft", "review"],
    events_consumed=["task.assigned"],
    events_produced=["task.completed"],
)


@worker.on_event("task.assigned", topic="action-requests")
async def handle_task(event, context):
    data = event.get("data", {})
    plan_id, task = data.get("plan_id"), data.get("task")
    state = WorkflowState(
        context.memory,
        plan_id,
        tenant_id=event.get("tenant_id", "00000000-0000-0000-0000-000000000000"),
        user_id=event.get("user_id", "00000000-0000-0000-0000-000000000001"),
    )
    goal = await state.get("goal")
    print(f"[worker] {task}, attempt {context.attempt} of plan {plan_id}", flush=True)

    await asyncio.sleep(TASK_SECONDS)
    result = f"Completed {task} for: {goal}"

    await state.record_action(f"{task}.completed")
    await state.set(f"{task}_result", result)
    await context.bus.publish(
        event_type="task.completed",
        topic="action-results",
        data={"plan_id": plan_id, "task": task, "result": result},
    )


if __name__ == "__main__":
    worker.run()
