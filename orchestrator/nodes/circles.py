"""Keep a specialist from going in circles: refused calls, repeated calls, and when to give up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from orchestrator.events import Event
from orchestrator.nodes.messages import FINISH
from orchestrator.nodes.rounds import is_move
from orchestrator.state import Result, SpecialistState
from orchestrator.tools.base import Tool

CUT_OFF = (
    "This call was started and cut off before it returned: it may have done all, a part or nothing. "
    "Look at what is there now, and repeat the call only if it did nothing. Do not say that it did not run."
)
UNFINISHED = (CUT_OFF, "stopped by the user")
"""How results begin after which the same call may well be made again."""
EDITS = ("edit_file ", "write_file ")
"""How the keys of calls begin that set a content."""
CIRCLES = 3
"""Repeated calls in a row after which the step is given up."""
DENIALS = 3
"""Refused calls in a row after which the turn ends."""
MOST_DENIED, LATELY = 10, 50
"""So many denied ones among so many of the turn's last calls end the turn as well."""
NOT_AVAILABLE = "tool.not-available"
"""Rule for a tool that is not there: a slip of the model, which a replan may mend."""


def refusals(message: AIMessage, state: SpecialistState) -> dict[str, str]:
    """Texts for the calls that must not run, by call id; a call without a verdict must not."""
    texts = {}
    for call in message.tool_calls:
        identifier = str(call["id"])
        verdict = state["verdicts"].get(identifier)
        decision = state.get("decisions", {}).get(identifier, {})
        if call["name"] == FINISH or (verdict and verdict["decision"] == "allow"):
            continue
        if verdict and verdict["decision"] == "ask" and decision.get("type") == "approve":
            continue
        if verdict and verdict["decision"] == "ask":
            said = decision.get("message")
            texts[identifier] = f"The user refused this call{f': {said}' if said else ''}. Do not repeat it."
        else:
            why = verdict["why"] if verdict else "it was not judged"
            texts[identifier] = (
                f"Not allowed: {why}. Find another way, or finish and say what is not possible."
            )
    return texts


def denied_lately(events: Iterable[Event]) -> int:
    """How many of the last judged calls among a turn's events were denied."""
    last = {event.call: event.fields["decision"] for event in events if event.kind == "verdict"}
    return list(last.values())[-LATELY:].count("deny")


def repeats(message: AIMessage, state: SpecialistState, known: Mapping[str, Tool]) -> dict[str, str]:
    """Texts for the calls that were made before with nothing changed since, by call id."""
    if is_move(message):
        return {}
    seen: dict[str, str] = {}
    results = {m.tool_call_id: str(m.content) for m in state["messages"] if isinstance(m, ToolMessage)}
    for earlier in state["messages"]:
        if not isinstance(earlier, AIMessage) or earlier.id == message.id:
            continue
        for call in earlier.tool_calls:
            key = _key(call)
            tool = known.get(call["name"])
            if tool is not None and not tool.effects.is_read_only and key not in seen:
                # The same edit a second time is going in circles, whatever was run in between.
                seen = {made: text for made, text in seen.items() if made.startswith(EDITS)}
            result = results.get(str(call["id"]), "")
            if not result.startswith(UNFINISHED):
                seen.setdefault(key, result)
    return {
        str(call["id"]): _again(call["name"], seen[_key(call)])
        for call in message.tool_calls
        if call["name"] != FINISH and _key(call) in seen
    }


def _again(name: str, result: str) -> str:
    """What to say of a repeated call, by what came of it the first time."""
    if result.startswith("Error"):
        return f"{result}\nThis same call has failed before: it is not done. Do it in another way."
    return (
        f"You made this same {name} call before and nothing else was done since; its result stands above. "
        "Now take the next step of the task, or finish when nothing is left to do."
    )


def _key(call: ToolCall) -> str:
    return f"{call['name']} {sorted(call['args'].items())}"


def counts(
    message: AIMessage, state: SpecialistState, refused: dict[str, str], again: dict[str, str]
) -> dict[str, Any]:
    """Count repeats and refusals, and give up when there are too many: the step, or the whole turn."""
    if is_move(message):
        return {}
    pending = [call for call in message.tool_calls if call["name"] != FINISH]
    repeated = state.get("repeats", 0) + 1 if pending and len(again) == len(pending) else 0
    denials = state.get("denials", 0) + 1 if pending and len(refused) == len(pending) else 0
    changed: dict[str, Any] = {"repeats": repeated, "denials": denials}
    if repeated >= CIRCLES:
        changed["result"] = Result(status="failed", text="it went in circles: the same call again and again")
    elif denials >= DENIALS:
        last = next(iter(refused.values()))
        rules = {state["verdicts"][key]["rule"] for key in refused if key in state["verdicts"]}
        changed["result"] = Result(
            status="failed" if rules == {NOT_AVAILABLE} else "refused",
            text=f"its calls were refused {denials} times in a row. {last}",
        )
    elif state.get("denied", 0) >= MOST_DENIED:
        text = f"{state['denied']} of its last {LATELY} calls were denied"
        changed["result"] = Result(status="refused", text=text)
    return changed
