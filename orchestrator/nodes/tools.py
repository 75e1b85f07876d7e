"""Run the calls that were let through: reads side by side, everything else alone and in order.

Each call is journalled before and after. On the way back from a crash a call with a recorded result
is served from the journal, and a write whose outcome nobody knows is not repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.messages.tool import ToolCall
from langgraph.errors import GraphDrained
from langgraph.runtime import Runtime

from orchestrator.context import Context
from orchestrator.errors import StorageError, ToolError
from orchestrator.nodes.prompts import SMALL_RESULT_CHARACTERS
from orchestrator.nodes.think import FINISH, last_answer
from orchestrator.state import Result, SpecialistState, Verdict
from orchestrator.tools.base import Tool, parse, shorten
from orchestrator.tools.base import call as call_tool

PARALLEL = 8
CUT_OFF = (
    "This call was cut off before it returned; whether it took effect is unknown. "
    "Check the state first, and repeat the call only if it did not."
)
UNFINISHED = (CUT_OFF, "stopped by the user")
"""How results begin after which the same call may well be made again."""
CIRCLES = 3
"""Repeated calls in a row after which the step is given up."""
DENIALS = 3
"""Refused calls in a row after which the step is given up."""


async def tools(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Answer every call of the last message with a ToolMessage."""
    context, step = runtime.context, state["brief"]["step"]
    context.journal.enter("tools", step=step["id"], agent=step["agent"])
    message = last_answer(state)
    refused, again = _refusals(message, state), _repeats(message, state, context.tools)
    pending = [call for call in message.tool_calls if call["name"] != FINISH]
    results: dict[str, str] = {**refused, **again}
    for identifier, text in again.items():
        context.journal.write("nudge", call=identifier, text=text)
    runnable = [call for call in pending if str(call["id"]) not in results]
    results |= await _run_all(runnable, state["verdicts"], runtime)
    small = (await context.open_model(step["agent"])).settings.size == "small"
    limit = SMALL_RESULT_CHARACTERS if small else 1_000_000
    answers: list[AnyMessage] = [
        ToolMessage(
            shorten(results[str(call["id"])], limit),
            tool_call_id=str(call["id"]),
            name=call["name"],
            id=f"{call['id']}-result",
        )
        for call in pending
    ]
    return {"messages": answers + _complaints(message), **_counts(state, pending, refused, again)}


async def _run_all(
    calls: list[ToolCall], verdicts: Mapping[str, Verdict], runtime: Runtime[Context]
) -> dict[str, str]:
    """Run calls in order, neighbouring reads side by side; returns the texts by call id."""
    texts: dict[str, str] = {}
    known = runtime.context.tools
    for reads, group in groupby(calls, key=lambda call: known[call["name"]].effects.is_read_only):
        for batch in batched(list(group), PARALLEL if reads else 1):
            done = await asyncio.gather(*(_run(call, verdicts, runtime.context) for call in batch))
            texts |= {str(call["id"]): text for call, text in zip(batch, done, strict=True)}
            _stop_if_asked(runtime, is_last=batch[-1] is calls[-1])
    return texts


def batched(calls: list[ToolCall], size: int) -> Iterator[list[ToolCall]]:
    """Cut a list into pieces of at most `size`."""
    return (calls[start : start + size] for start in range(0, len(calls), size))


def _stop_if_asked(runtime: Runtime[Context], *, is_last: bool) -> None:
    """Between two calls of a message: stop now; what has run is in the journal and is not run again."""
    if not is_last and runtime.control is not None and runtime.control.drain_requested:
        raise GraphDrained(runtime.control.drain_reason or "stopped")


def _refusals(message: AIMessage, state: SpecialistState) -> dict[str, str]:
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


def _repeats(message: AIMessage, state: SpecialistState, known: Mapping[str, Tool]) -> dict[str, str]:
    """Texts for the calls that were made before with nothing changed since, by call id."""
    seen: dict[str, str] = {}
    results = {m.tool_call_id: str(m.content) for m in state["messages"] if isinstance(m, ToolMessage)}
    for earlier in state["messages"]:
        if not isinstance(earlier, AIMessage) or earlier.id == message.id:
            continue
        for call in earlier.tool_calls:
            key = _key(call)
            tool = known.get(call["name"])
            if tool is not None and not tool.effects.is_read_only and key not in seen:
                seen.clear()
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
        f"You made this same {name} call before and nothing has changed since; its result stands above. "
        "Now take the next step of the task, or finish when nothing is left to do."
    )


def _key(call: ToolCall) -> str:
    return f"{call['name']} {sorted(call['args'].items())}"


async def _run(call: ToolCall, verdicts: Mapping[str, Verdict], context: Context) -> str:
    """Run one call, or serve what the journal knows of it."""
    identifier, tool, journal = str(call["id"]), context.tools[call["name"]], context.journal
    recorded = journal.of_call(identifier, "tool_result")
    if recorded is not None:
        return str(recorded.fields["text"])
    cut_off = journal.of_call(identifier, "tool_intent") is not None
    if cut_off and not (tool.effects.is_read_only or tool.effects.repeatable):
        journal.write("tool_result", call=identifier, tool=tool.name, status="unknown", text=CUT_OFF)
        return CUT_OFF
    context.budget.check()
    journal.write("tool_intent", call=identifier, tool=tool.name, arguments=call["args"])
    started = time.monotonic()
    status, text = await _outcome(tool, call, verdicts[identifier], context)
    event = journal.write(
        "tool_result",
        call=identifier,
        seconds=time.monotonic() - started,
        tool=tool.name,
        arguments=call["args"],
        status=status,
        text=text,
    )
    context.budget.count(event)
    return text


async def _outcome(tool: Tool, call: ToolCall, verdict: Verdict, context: Context) -> tuple[str, str]:
    """Status `ok` or `error`, and the text for the model."""
    using = replace(context.tool_context, read_only_command=verdict["read_only"])
    try:
        return "ok", await call_tool(tool, parse(tool, call["args"]), using)
    except ToolError as error:
        return "error", f"Error: {error}"
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001 - the border: a fault in a tool must not end the run
        return "error", f"Error: {tool.name} failed: {type(error).__name__}: {error}. Try another way."


def _complaints(message: AIMessage) -> list[AnyMessage]:
    """Answers to calls whose arguments were not JSON at all."""
    return [
        ToolMessage(
            f"Error: the arguments of {call['name']} are not valid JSON "
            f"({call.get('error') or 'cannot be read'}); write the call again",
            tool_call_id=str(call["id"]),
            name=call["name"] or "unknown",
            id=f"{call['id']}-result",
        )
        for call in message.invalid_tool_calls
    ]


def _counts(
    state: SpecialistState, pending: list[ToolCall], refused: dict[str, str], again: dict[str, str]
) -> dict[str, Any]:
    """Count repeats and refusals in a row, and give the step up when there are too many."""
    repeats = state.get("repeats", 0) + 1 if pending and len(again) == len(pending) else 0
    denials = state.get("denials", 0) + 1 if pending and len(refused) == len(pending) else 0
    counts: dict[str, Any] = {"repeats": repeats, "denials": denials}
    if repeats >= CIRCLES:
        counts["result"] = Result(status="failed", text="it went in circles: the same call again and again")
    elif denials >= DENIALS:
        last = next(iter(refused.values()))
        counts["result"] = Result(
            status="failed", text=f"its calls were refused {denials} times in a row. {last}"
        )
    return counts
