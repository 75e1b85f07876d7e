"""Take the specialist's answer, or send it back once when a cheap check finds it wanting."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.nodes.messages import FINISH, last_answer, nudge
from orchestrator.nodes.objections import objection_to
from orchestrator.state import Result, SpecialistState

OBJECTIONS = 3
"""How often an answer is sent back; after that it is taken as it is."""


async def report(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Turn the last message into the step's result, or into an objection for the model."""
    step = state["brief"]["step"]
    context = enter(runtime, "report", step=step["id"], agent=step["agent"])
    message = last_answer(state)
    text = answer_of(message)
    objection = objection_to(text, state, context.root)
    if objection and state.get("objections", 0) < OBJECTIONS:
        context.journal.write("nudge", text=objection.text)
        return {"messages": [_back(message, objection.text)], "objections": state.get("objections", 0) + 1}
    if objection and objection.is_grave:
        return {"result": Result(status="failed", text=f"{objection.text} It answered: {text or 'nothing'}")}
    return {"result": Result(status="done", text=text)}


def answer_of(message: AIMessage) -> str:
    """What the model answers: the argument of `finish`, or its text."""
    for call in message.tool_calls:
        if call["name"] == FINISH:
            return str(call["args"].get("answer", "")).strip()
    return message.text.strip()


def _back(message: AIMessage, objection: str) -> AnyMessage:
    for call in message.tool_calls:
        if call["name"] == FINISH:
            return ToolMessage(
                objection, tool_call_id=str(call["id"]), name=FINISH, id=f"{call['id']}-result"
            )
    return nudge(objection, f"{message.id}-objection")
