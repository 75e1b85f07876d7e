"""Look at a step's result and decide how the turn goes on."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.nodes.planner import REPLANS, next_step
from orchestrator.state import Result, State


async def review(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Count a replan when a step failed and there is one left."""
    enter(runtime, "review")
    if failed_step(state) and state.get("replans", 0) < REPLANS:
        return {"replans": state.get("replans", 0) + 1}
    return {}


def failed_step(state: State) -> Result | None:
    """The failed result that the current plan stands on; None while all went well."""
    planned = {step["id"] for step in state.get("plan", [])}
    return next(
        (r for key, r in state.get("results", {}).items() if key in planned and r["status"] == "failed"), None
    )


def after_review(state: State) -> str:
    """The next specialist, `planner` for a replan, or `answer`."""
    if failed_step(state):
        fresh = f"r{state.get('replans', 0)}s"
        replanned = any(step["id"].startswith(fresh) for step in state["plan"])
        return "answer" if replanned or not state.get("replans") else "planner"
    step = next_step(state)
    return step["agent"] if step else "answer"
