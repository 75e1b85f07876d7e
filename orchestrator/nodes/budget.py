"""What a step does when its agent's own limits are used up: it fails, and the turn goes on without it."""

from __future__ import annotations

from functools import wraps
from typing import Any, Protocol

from langgraph.runtime import Runtime

from orchestrator.context import Context
from orchestrator.limits import StepOver
from orchestrator.state import Result, SpecialistState


class Node(Protocol):
    """A node of a specialist's graph."""

    async def __call__(self, state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
        """Return what changes in the state."""
        ...


def within_step(node: Node) -> Node:
    """A node that ends its step as failed where it would pass a limit of the agent."""

    @wraps(node)
    async def limited(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
        try:
            return await node(state, runtime)
        except StepOver as over:
            return {"result": Result(status="failed", text=str(over))}

    return limited


def over_step(context: Context) -> str:
    """Count a tool call; what to say instead of running it when the agent's own limit is reached.

    Raises BudgetExceeded.
    """
    try:
        context.budget.take_tool()
    except StepOver as over:
        return f"Error: not run, {over}"
    return ""
