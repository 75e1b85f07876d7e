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
    failed = failed_step(state)
    # What may not be done may not be done in another way either.
    if failed and failed["status"] != "refused" and state.get("replans", 0) < REPLANS:
        return {"replans": state.get("replans", 0) + 1}
    return {}


def failed_step(state: State) -> Result | None:
    """The failed or refused result that the current plan stands on; None while all went well."""
    planned = {step["id"] for step in state.get("plan", [])}
    results = [result for key, result in state.get("results", {}).items() if key in planned]
    return next((result for result in results if result["status"] in {"failed", "refused"}), None)


def after_review(state: State) -> str:
    """The next specialist, `planner` for a replan, or `answer`."""
    if failed_step(state):
        fresh = f"r{state.get('replans', 0)}s"
        replanned = any(step["id"].startswith(fresh) for step in state["plan"])
        return "answer" if replanned or not state.get("replans") else "planner"
    step = next_step(state)
    return step["agent"] if step else "answer"
