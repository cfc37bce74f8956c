"""The coordinator: when a task is done it assigns the next, and says when all are done."""

from soorma import Worker
from soorma.workflow import WorkflowState

coordinator = Worker(
    name="workflow-coordinator",
    description="Moves plans on from task to task",
    capabilities=["coordination"],
    events_consumed=["task.completed"],
    events_produced=["task.assigned", "workflow.completed"],
)


@coordinator.on_event("task.completed", topic="action-results")
async def handle_task_completion(event, context):
    plan_id = event.get("data", {}).get("plan_id")
    state = WorkflowState(
        context.memory,
        plan_id,
        tenant_id=event.get("tenant_id", "00000000-0000-0000-0000-000000000000"),
        user_id=event.get("user_id", "00000000-0000-0000-0000-000000000001"),
    )
    tasks = await state.get("tasks")
    next_index = await state.get("current_task_index") + 1

    # Read, add one, write, publish: safe as it stands. Killed anywhere here and run again, the
    # handler neither skips a task nor repeats one, for none of it is visible before all of it is.
    if next_index < len(tasks):
        await state.set("current_task_index", next_index)
        await context.bus.publish(
            event_type="task.assigned",
            topic="action-requests",
            data={
                "plan_id": plan_id,
                "task": tasks[next_index],
                "goal": await state.get("goal"),
                "task_index": next_index,
            },
        )
        print(f"[coordinator] plan {plan_id}: {tasks[next_index]} is next", flush=True)
        return

    await state.set("status", "completed")
    await state.record_action("workflow.completed")
    await context.bus.publish(
        event_type="workflow.completed",
        topic="action-results",
        data={
            "plan_id": plan_id,
            "results": {task: await state.get(f"{task}_result") for task in tasks},
            "history": await state.get_action_history(),
        },
    )
    await state.complete()  # the plan has ended: nobody takes it for one that is stuck
    print(f"[coordinator] plan {plan_id}: completed", flush=True)


if __name__ == "__main__":
    coordinator.run()
