"""Runs Python blocks of a page, and checks what they say about themselves.

A block may await at its top level. `# -> 3` behind an expression or an assignment states its value,
`# raises Conflict` behind a statement its exception; both are checked.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import io
import re
import sys
import tokenize
import types
from typing import Any
from uuid import uuid4

from doc_pages import Block

from soorma import Event, PlatformContext, Reject, Worker, WorkflowState, errors
from soorma.transport.calls import Caller

SECONDS = 20.0
MODULE = types.ModuleType(
    "documentation", "What blocks say they are part of: a dataclass looks its module up."
)
sys.modules[MODULE.__name__] = MODULE
_REMARK = re.compile(r"#\s*(->|raises)\s+(.+?)\s*$")


class Stage:
    """The environment of a chain's blocks: a tenant of their own, a fresh plan, the platform."""

    def __init__(self, context: PlatformContext, caller: Caller, tenant_id: str) -> None:
        self.context = context
        self.tenant_id = tenant_id
        self.plan_id = "plan-1"
        self.state = WorkflowState(context.memory, self.plan_id)
        self._caller = caller

    def names(self) -> dict[str, Any]:
        """The names for the hidden code of a page, not for the code that a reader sees."""
        return {
            "stage": self,
            "context": self.context,
            "memory": self.context.memory,
            "bus": self.context.bus,
            "state": self.state,
            "plan_id": self.plan_id,
        }

    async def event(self, event_type: str) -> Event:
        """The first event of that type in the chain's tenant."""
        query = {"after": 0, "tenant_id": self.tenant_id, "types": event_type}
        async with asyncio.timeout(SECONDS):
            async for kind, _, data in self._caller.follow(
                "events", "/v1/events/stream", None, query
            ):
                if kind == "event":
                    return Event.from_json(data)
        raise AssertionError("the stream ended")


async def run_chain(chain: list[Block], stage: Stage, preamble: Block | None) -> None:
    """Runs blocks in sequence, in one namespace that begins with the names of the preamble."""
    names: dict[str, Any] = {"__name__": MODULE.__name__}
    if preamble is not None:
        await execute(preamble.code, names, preamble, preamble.line)
    for block in chain:
        await _hidden(block.setup, names, block, stage)
        if block.handler is None:
            await execute(block.code, names, block, block.line)
        else:
            await _in_handler(block, names, stage)
        await _hidden(block.then, names, block, stage)


async def _hidden(code: str, names: dict[str, Any], block: Block, stage: Stage) -> None:
    """Runs hidden code: it knows the stage's names, and adds its own to the block's."""
    seen = {**stage.names(), **names}
    await execute(code, seen, block)
    names.update(
        {name: value for name, value in seen.items() if name in names or name not in stage.names()}
    )


async def _in_handler(block: Block, names: dict[str, Any], stage: Stage) -> None:
    """Runs the block as a handler's body.

    `event` and `context` are those of the handler, `state` is that of its plan.
    """
    agent = Worker(f"reader-{uuid4().hex[:8]}")
    kind = f"read-{uuid4().hex[:8]}"
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @agent.on_event(kind)
    async def handle(event: Any, context: Any) -> None:
        inner = {
            **names,
            "event": event,
            "context": context,
            "state": WorkflowState(context.memory, event.plan_id),
        }
        try:
            await execute(block.code, inner, block, block.line)
        except BaseException as error:
            if not done.done():
                done.set_exception(error)
            raise Reject("the block failed") from error
        names.update(
            {name: value for name, value in inner.items() if name not in ("context", "state")}
        )
        if not done.done():
            done.set_result(None)

    async with agent:
        await stage.context.bus.publish(
            kind, "action-requests", {"plan_id": stage.plan_id, **(block.handler or {})}
        )
        async with asyncio.timeout(SECONDS):
            await done
    # the agent has stopped, so what the handler did is committed


async def execute(code: str, names: dict[str, Any], block: Block, line: int | None = None) -> None:
    """Runs code that may await at its top level.

    What it says of itself is checked only where it has a line.
    """
    if not code.strip():
        return
    source = "\n" * ((line or 1) - 1) + code
    tree = ast.parse(source, filename=str(block.page))
    if line is not None:
        checks = _Checks(_remarks(source))
        tree = ast.fix_missing_locations(checks.visit(tree))
        assert not checks.remarks, (
            f"{block.name}: a remark that belongs to no statement: {checks.remarks}"
        )
        names.update({"_told": _told, "_error": _error, "_did_not_raise": _did_not_raise})
    compiled = compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(compiled, names)
    if inspect.isawaitable(outcome):
        await outcome


def _remarks(source: str) -> dict[int, tuple[str, str]]:
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (remark := _REMARK.match(token.string)):
            found[token.start[0]] = (remark[1], remark[2])
    return found


class _Checks(ast.NodeTransformer):
    """Turns remarks into checks."""

    def __init__(self, remarks: dict[int, tuple[str, str]]) -> None:
        self.remarks = remarks

    def visit(self, node: ast.AST) -> Any:
        self.generic_visit(node)  # the innermost statement that ends on the remark's line is meant
        if (
            not isinstance(node, ast.stmt)
            or (remark := self.remarks.pop(node.end_lineno or 0, None)) is None
        ):
            return node
        kind, text = remark
        line = ast.Constant(node.lineno)
        if kind == "raises":
            return ast.Try(
                body=[node, ast.Expr(_call("_did_not_raise", ast.Constant(text), line))],
                handlers=[
                    ast.ExceptHandler(_call("_error", ast.Constant(text)), None, [ast.Pass()])
                ],
                orelse=[],
                finalbody=[],
            )
        if isinstance(node, ast.Expr):
            return ast.copy_location(
                ast.Expr(_call("_told", node.value, ast.Constant(text), line)), node
            )
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        assert isinstance(target, ast.Name), (
            f"line {node.lineno}: `# ->` stands behind an expression or an assignment"
        )
        return [
            node,
            ast.Expr(_call("_told", ast.Name(target.id, ast.Load()), ast.Constant(text), line)),
        ]


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _told(value: Any, text: str, line: int) -> None:
    expected = ast.literal_eval(text)
    assert value == expected, f"line {line}: it is {value!r}, and the page says {text}"


def _error(name: str) -> type[BaseException]:
    found: type[BaseException] = getattr(errors, name, None) or getattr(builtins, name)
    return found


def _did_not_raise(name: str, line: int) -> None:
    raise AssertionError(f"line {line}: it did not raise {name}")
