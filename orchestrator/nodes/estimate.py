"""Say what a plan may cost before it starts, and ask where that is more than the user likes to spend."""

from __future__ import annotations

from typing import Any

from langgraph.runtime import Runtime
from langgraph.types import interrupt

from orchestrator.context import Context, enter
from orchestrator.limits.amounts import dollars, money, nano
from orchestrator.limits.prices import Tokens, cost
from orchestrator.nodes.planner import next_step
from orchestrator.nodes.review import failed_step
from orchestrator.state import Result, State, Step

CALLS = (2, 12)
"""Model calls of a step of which nothing is known yet."""
REQUEST, ANSWER = (1_500, 8_000), (100, 600)
"""Tokens of such a call."""
START = "start the plan"
APPROVED = {"decisions": [{"type": "approve"}]}
REFUSED = "the plan was not started, because of what it may cost"


async def estimate(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Tell the range, and have a person decide where it may pass `limits.ask_above_usd`."""
    step = next_step(state)
    if step is None:
        return {}
    context = enter(runtime, "estimate", step=step["id"], agent=step["agent"])
    left = [s for s in state["plan"] if s["id"] not in state.get("results", {})]
    ranges = [await _of_step(each, context) for each in left]
    known = [found for found in ranges if found is not None]
    low, high = sum(found[0] for found in known), sum(found[1] for found in known)
    unpriced = len(ranges) - len(known)
    texts: dict[str, Any] = {
        "low": money(dollars(low)),
        "high": money(dollars(high)),
        "unpriced_steps": unpriced,
    }
    told = [event.fields for event in context.journal.of_turn() if event.fields.get("estimate")]
    if high and not any(fields["steps"] == len(left) for fields in told):
        context.journal.write("budget", estimate=True, steps=len(left), **texts)
    limit = context.settings.limits.ask_above_usd
    if limit is None or high <= nano(limit):
        return {}
    by = "--yes" if context.approves else "person"
    answer = APPROVED if context.approves else interrupt(_payload(step, texts, len(left), money(limit)))
    given = answer.get("decisions") if isinstance(answer, dict) else None
    is_approved = isinstance(given, list) and given and given[0].get("type") == "approve"
    kind = "approve" if is_approved else "reject"
    context.journal.write("approval", tool=START, type=kind, by=by, user=context.budget.who.user)
    if is_approved:
        return {}
    return {"results": {step["id"]: Result(status="failed", text=REFUSED)}}


def after_estimate(state: State) -> str:
    """The specialist of the first step, or the answer when the plan was refused."""
    step = next_step(state)
    return "answer" if step is None or failed_step(state) else step["agent"]


async def _of_step(step: Step, context: Context) -> tuple[int, int] | None:
    """From and to, in billionths of a dollar; None when the price is not known."""
    past = context.budget.ledger.per_step(step["agent"])
    if past is not None:
        return past
    settings = (await context.open_model(step["agent"])).settings
    found = [cost(settings, settings.model, Tokens(REQUEST[i], ANSWER[i])) for i in (0, 1)]
    if found[0] is None or found[1] is None:
        return None
    return nano(found[0].total * CALLS[0]), nano(found[1].total * CALLS[1])


def _payload(step: Step, texts: dict[str, Any], steps: int, limit: str) -> dict[str, Any]:
    return {
        "step": step["id"],
        "action_requests": [
            {
                "name": START,
                "args": {"steps": steps, "may cost": f"{texts['low']} to {texts['high']}"},
                "description": f"it may cost up to {texts['high']}; limits.ask_above_usd is {limit}",
                "rule": "limits.ask_above_usd",
                "inside": True,
                "agent": step["agent"],
            }
        ],
        "review_configs": [{"action_name": START, "allowed_decisions": ["approve", "reject"]}],
    }
