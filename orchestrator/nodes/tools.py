"""Answer every call of the model's last message: with its result, or with why it was not run."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.nodes.asking import is_attended
from orchestrator.nodes.calls import run_all
from orchestrator.nodes.circles import counts, refusals, repeats
from orchestrator.nodes.guidance import unfit, watches
from orchestrator.nodes.messages import FINISH, last_answer
from orchestrator.nodes.prompts import SMALL_RESULT_CHARACTERS
from orchestrator.nodes.receiving import message_of
from orchestrator.safety.provenance import OURS
from orchestrator.state import SpecialistState


async def tools(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Answer every call of the last message with a ToolMessage."""
    step = state["brief"]["step"]
    context = enter(runtime, "tools", step=step["id"], agent=step["agent"])
    message = last_answer(state)
    refused, again = refusals(message, state), repeats(message, state, context.tools)
    pending = [call for call in message.tool_calls if call["name"] != FINISH]
    model = (await context.open_model(step["agent"])).settings
    small = model.size == "small"
    spoiling: dict[str, str] = {}
    if small:
        again, spoiling = unfit(message, state, context.root, again)
    results: dict[str, str] = {**refused, **again, **spoiling}
    for identifier, text in again.items():
        context.journal.write("nudge", call=identifier, text=text)
    runnable = [call for call in pending if str(call["id"]) not in results]
    watched = small and watches(step["goal"], message)
    attended = [key for key, said in state.get("decisions", {}).items() if is_attended(said)]
    results |= await run_all(runnable, state["verdicts"], context, watched=watched, attended=attended)
    ran = {str(call["id"]): state["verdicts"][str(call["id"])] for call in runnable}
    limit = SMALL_RESULT_CHARACTERS if small else model.context_tokens * 3 // 4
    answers: list[AnyMessage] = [
        message_of(call, results[str(call["id"])], ran.get(str(call["id"])), context, limit=limit)
        for call in pending
    ]
    return {"messages": answers + _complaints(message), **counts(message, state, refused, again)}


def _complaints(message: AIMessage) -> list[AnyMessage]:
    """Answers to calls whose arguments were not JSON at all."""
    return [
        ToolMessage(
            f"Error: the arguments of {call['name']} are not valid JSON "
            f"({call.get('error') or 'cannot be read'}); write the call again",
            tool_call_id=str(call["id"]),
            name=call["name"] or "unknown",
            id=f"{call['id']}-result",
            artifact=dict(OURS),
        )
        for call in message.invalid_tool_calls
    ]
