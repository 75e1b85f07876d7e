"""Ask a person about the calls that the guardian does not let through alone.

A node that calls `interrupt` runs again from its first line when the answer comes, so this one does
nothing before it but read the state.
"""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCall
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from orchestrator.context import Context, enter
from orchestrator.nodes.intent import NOT_ASKED, WHOLESALE
from orchestrator.nodes.messages import last_answer
from orchestrator.state import SpecialistState, Step, Verdict


async def approval(
    state: SpecialistState, runtime: Runtime[Context]
) -> Command[Literal["guardian", "tools"]]:
    """Get a decision for each asked call: approve, edit or reject.

    The payload has LangChain's human-in-the-loop shape, one action request for each call, and the
    answer is `{"decisions": [{"type": "approve"} | {"type": "reject", "message": …} |
    {"type": "edit", "edited_action": {"name": …, "args": …}}, …]}`, in the same order.
    """
    step = state["brief"]["step"]
    context = enter(runtime, "approval", step=step["id"], agent=step["agent"])
    verdicts, message = state["verdicts"], last_answer(state)
    asked = [call for call in message.tool_calls if _is_asked(verdicts, call)]
    unattended = [call for call in asked if context.approves and verdicts[str(call["id"])]["inside"]]
    attended = [call for call in asked if call not in unattended]
    decisions = {str(call["id"]): _unattended(verdicts[str(call["id"])]) for call in unattended}
    if attended:
        answers = _answers(interrupt(_payload(attended, verdicts, step)), len(attended))
        decisions |= {str(call["id"]): answer for call, answer in zip(attended, answers, strict=True)}
    for call in asked:
        context.journal.write(
            "approval", call=str(call["id"]), tool=call["name"], **decisions[str(call["id"])]
        )
    edited = {key: value["edited_action"] for key, value in decisions.items() if value["type"] == "edit"}
    if edited:
        return Command(goto="guardian", update={"messages": [_with_edits(message, edited)]})
    return Command(goto="tools", update={"decisions": decisions})


def _unattended(verdict: Verdict) -> dict[str, Any]:
    """What `--yes` says to a call inside the workspace: yes, within what the user can have meant."""
    if verdict["rule"] in {NOT_ASKED, WHOLESALE}:
        return {"type": "reject", "by": "--yes", "message": f"{verdict['why']}; go on without it"}
    return {"type": "approve", "by": "--yes"}


def _is_asked(verdicts: dict[str, Verdict], call: ToolCall) -> bool:
    verdict = verdicts.get(str(call["id"]))
    return verdict is not None and verdict["decision"] == "ask"


def _payload(calls: list[ToolCall], verdicts: dict[str, Verdict], step: Step) -> dict[str, Any]:
    return {
        "step": step["id"],
        "action_requests": [
            {
                "name": call["name"],
                "args": call["args"],
                "description": verdicts[str(call["id"])]["why"],
                "rule": verdicts[str(call["id"])]["rule"],
                "inside": verdicts[str(call["id"])]["inside"],
                "agent": step["agent"],
            }
            for call in calls
        ],
        "review_configs": [
            {"action_name": call["name"], "allowed_decisions": ["approve", "edit", "reject"]}
            for call in calls
        ],
    }


def _answers(answer: Any, count: int) -> list[dict[str, Any]]:
    """The decisions of a person; anything that is not one is a rejection, so that nothing runs by mistake."""
    given = answer.get("decisions") if isinstance(answer, dict) else None
    if not isinstance(given, list) or len(given) != count:
        return [{"type": "reject", "message": "no valid decision was given"}] * count
    return [_decision(item) for item in given]


def _decision(item: Any) -> dict[str, Any]:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "approve":
        return {"type": "approve", "by": "person"}
    if kind == "edit" and isinstance(item.get("edited_action"), dict):
        return {"type": "edit", "edited_action": item["edited_action"]}
    message = str(item.get("message") or "") if isinstance(item, dict) else ""
    return {"type": "reject", "message": message}


def _with_edits(message: AIMessage, edited: dict[str, dict[str, Any]]) -> AIMessage:
    """The same message with the person's arguments; its id makes it replace the old one.

    The text that the model wrote goes, because it would show the model a call that never ran.
    """
    calls = [
        {**call, "args": edited[str(call["id"])].get("args", call["args"])}
        if str(call["id"]) in edited
        else call
        for call in message.tool_calls
    ]
    return AIMessage(content="", id=message.id, tool_calls=calls)
