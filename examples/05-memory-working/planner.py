"""The planner: splits a goal into tasks, notes them in working memory and assigns the first."""

import uuid

from soorma import Worker
from soorma.workflow import WorkflowState

TASKS = ["research", "draft", "review"]

planner = Worker(
    name="workflow-planner",
    description="Splits goals into tasks",
    capabilities=["planning"],
    events_consumed=["goal.received"],
    events_produced=["task.assigned"],
)


@planner.on_event("goal.received", topic="action-requests")
async def handle_goal(event, context):
    goal = event.get("data", {}).get("goal")
    plan_id = str(uuid.uuid4())

    # Tenant and user come with the event, so one planner serves them all.
    state = WorkflowState(
        context.memory,
        plan_id,
        tenant_id=event.get("tenant_id", "00000000-0000-0000-0000-000000000000"),
        user_id=event.get("user_id", "00000000-0000-0000-0000-000000000001"),
    )
    await state.record_action("planning.started")
    await state.set("goal", goal)
    await state.set("status", "planning")
    await state.set("tasks", TASKS)
    await state.set("current_task_index", 0)
    await state.set("status", "in_progress")
    await state.record_action("workflow.started")

    # The event goes out with the changes above when the handler returns, or neither does.
    await context.bus.publish(
        event_type="task.assigned",
        topic="action-requests",
        data={"plan_id": plan_id, "task": TASKS[0], "goal": goal, "task_index": 0},
    )
    print(f"[planner] plan {plan_id}: {', '.join(TASKS)} for {goal!r}", flush=True)


if __name__ == "__main__":
    planner.run()
