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

from orchestrator.context import Context, enter
from orchestrator.errors import StorageError, ToolError
from orchestrator.nodes.budget import over_step
from orchestrator.nodes.changes import files, told
from orchestrator.nodes.circles import CUT_OFF, counts, refusals, repeats
from orchestrator.nodes.guidance import unfit, watches
from orchestrator.nodes.keeping import Keeping
from orchestrator.nodes.messages import FINISH, last_answer
from orchestrator.nodes.prompts import SMALL_RESULT_CHARACTERS
from orchestrator.state import SpecialistState, Verdict
from orchestrator.tools.base import Tool, parse
from orchestrator.tools.base import call as call_tool
from orchestrator.tools.results import cut

PARALLEL = 8


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
    results |= await _run_all(runnable, state["verdicts"], runtime, watched=watched)
    limit = SMALL_RESULT_CHARACTERS if small else model.context_tokens * 3 // 4
    answers: list[AnyMessage] = [
        ToolMessage(
            cut(results[str(call["id"])], limit),
            tool_call_id=str(call["id"]),
            name=call["name"],
            id=f"{call['id']}-result",
        )
        for call in pending
    ]
    return {"messages": answers + _complaints(message), **counts(state, pending, refused, again)}


async def _run_all(
    calls: list[ToolCall], verdicts: Mapping[str, Verdict], runtime: Runtime[Context], *, watched: bool
) -> dict[str, str]:
    """Run calls in order, neighbouring reads side by side; returns the texts by call id."""
    texts: dict[str, str] = {}
    known = runtime.context.tools
    for reads, group in groupby(calls, key=lambda call: known[call["name"]].effects.is_read_only):
        for batch in batched(list(group), PARALLEL if reads else 1):
            done = await asyncio.gather(*(_run(call, verdicts, runtime.context, watched) for call in batch))
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


async def _run(call: ToolCall, verdicts: Mapping[str, Verdict], context: Context, watched: bool) -> str:
    """Run one call, or serve what the journal knows of it; `watched` adds what a command did to files."""
    identifier, tool, journal = str(call["id"]), context.tools[call["name"]], context.journal
    recorded = journal.of_call(identifier, "tool_result")
    if recorded is not None and journal.is_same(recorded.fields.get("arguments", {}), call["args"]):
        journal.write("served", call=identifier, tool=tool.name)
        return str(recorded.fields["text"])
    kept = Keeping(tool, call, verdicts[identifier], context)
    about: dict[str, Any] = {"tool": tool.name, "arguments": call["args"]}
    intent = journal.of_call(identifier, "tool_intent")
    if intent is not None and not (tool.effects.is_read_only or tool.effects.repeatable):
        about |= {**kept.began(intent), **await kept.after()}
        journal.write("tool_result", call=identifier, **about, status="unknown", text=CUT_OFF)
        return CUT_OFF
    if over := over_step(context):
        return over
    about |= await kept.before()
    journal.write("tool_intent", call=identifier, **about)
    started = time.monotonic()
    seen = await asyncio.to_thread(files, context.root) if watched and tool.effects.executes else None
    status, text = await _outcome(tool, call, verdicts[identifier], context)
    text += await asyncio.to_thread(told, seen, context.root)
    seconds = time.monotonic() - started
    about |= await kept.after()
    journal.write("tool_result", call=identifier, seconds=seconds, **about, status=status, text=text)
    return text


async def _outcome(tool: Tool, call: ToolCall, verdict: Verdict, context: Context) -> tuple[str, str]:
    """Status `ok` or `error`, and the text for the model."""
    approved = verdict["decision"] == "ask"
    using = replace(context.tool_context, read_only_command=verdict["read_only"], approved=approved)
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
