"""Hints for names of other versions of Soorma: errors that say what to use instead."""

from __future__ import annotations

from difflib import get_close_matches
from dis import opmap
from types import FrameType

_WORKER = (
    'an agent with handlers plans here: planner = Worker(name="planner"), then @planner.on_event(…)'
)
_EVENT = (
    "all handlers take events here: @agent.on_event(event_type, topic=…) above async def "
    "handle(event, context)"
)
_CONTEXT = "handlers get a HandlerContext here: `from soorma import HandlerContext`"
_STATE = "a plan's state is a WorkflowState here: WorkflowState(context.memory, plan_id)"

NAMES = {
    "Planner": _WORKER,
    "ChoreographyPlanner": _WORKER,
    "Tool": 'an agent that answers requests is a tool here: Worker(name="…"), and '
    "context.bus.respond(event, …)",
    "PlanContext": _STATE,
    "TaskContext": _STATE,
    "GoalContext": _CONTEXT,
    "ResultContext": _CONTEXT,
    "ToolContext": _CONTEXT,
    "InvocationContext": _CONTEXT,
    "EventEnvelope": "an event is an Event here, a dict with attributes: `from soorma import "
    "Event`",
    "EventTopic": "topics are a Topic here: `from soorma import Topic`, as Topic.ACTION_REQUESTS, "
    "or their names",
    "BusClient": "use context.bus in agents and EventClient elsewhere: `from soorma import "
    "EventClient`",
    "MemoryServiceClient": "it is `from soorma import MemoryClient` here",
}
"""Names that the package lacks, and what to use instead."""

DECORATORS = {
    "on_task": _EVENT,
    "on_goal": _EVENT,
    "on_result": _EVENT,
    "on_transition": _EVENT,
    "on_invoke": _EVENT,
    "on_request": _EVENT,
    "on_message": _EVENT,
    "on": _EVENT,
    "execute_task": _EVENT,
    "memory": "outside handlers, use agent.context.memory; in a handler, context.memory",
    "bus": "outside handlers, use agent.context.bus; in a handler, context.bus",
    "publish": "use context.bus.publish(…) in a handler, agent.context.bus.publish(…) elsewhere",
}
"""Attributes that an agent lacks, and what to use instead."""


def missing_name(module: str, name: str, known: list[str], frame: FrameType) -> Exception:
    """The error for a name that the package lacks, with a hint if there is one.

    It is an ImportError if `frame` imports the name and there is a hint, else an AttributeError.
    """
    hint = NAMES.get(name) or _nearest(name, known)
    said = f"{module} has no {name!r}" + (f": {hint}" if hint else "")
    # `from soorma import X` would turn an AttributeError into an ImportError without the hint.
    is_import = frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]
    return (
        ImportError(said, name=name, path=None)
        if hint and is_import
        else AttributeError(said, name=name)
    )


def missing_attribute(owner: object, name: str) -> AttributeError:
    """The error for an attribute that an agent lacks, with a hint if there is one."""
    hint = DECORATORS.get(name) or _nearest(
        name, [each for each in dir(type(owner)) if not each.startswith("_")]
    )
    said = f"{type(owner).__name__!r} object has no attribute {name!r}"
    return AttributeError(said + (f": {hint}" if hint else ""), name=name, obj=owner)


def _nearest(name: str, known: list[str]) -> str:
    found = get_close_matches(name, known, 1)
    return f"is {found[0]} meant?" if found else ""
