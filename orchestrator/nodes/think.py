"""Let the specialist's model pick the next action."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.runtime import Runtime
from pydantic import BaseModel, create_model

from orchestrator.agents import Agent
from orchestrator.context import Context, until_killed
from orchestrator.events import writable
from orchestrator.llm.base import ToolSpec
from orchestrator.nodes.opening import opening
from orchestrator.nodes.prompts import brief_message, examples, fit, system_prompt
from orchestrator.settings import ModelSettings
from orchestrator.state import Result, SpecialistState
from orchestrator.tools.base import Arguments

FINISH = "finish"
DONE_BY_COMMAND = frozenset({"list_files", "search_files", "move_file", "delete_file"})
"""Tools that a small model is not shown beside run_command: the fewer there are, the better it picks."""
ESSENTIAL = frozenset({"path", "offset", "glob"})
"""Optional arguments that a small model is shown as well."""
RESTLESS = 0.8
"""Temperature after a second repeated call: at 0 a model repeats itself for ever."""


async def think(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the model for the next calls, or for the answer."""
    context, brief = runtime.context, state["brief"]
    agent = context.agents[brief["step"]["agent"]]
    context.journal.enter("think", step=brief["step"]["id"], agent=agent.name)
    history = state.get("messages", [])
    over = _over_limit(agent, history)
    if over:
        return {"result": Result(status="failed", text=over)}
    context.budget.check()
    model = await context.open_model(agent.name)
    specs = tool_specs(context, agent, brief["step"]["tools"], model.settings)
    prefix = f"{context.journal.turn}.{brief['step']['id']}"
    if not history:
        task = brief_message(brief, context.root).model_copy(update={"id": f"{prefix}.0"})
        first = None
        if model.settings.size == "small":
            first = opening(brief, context.root, [spec.name for spec in specs], f"{prefix}.1")
        if first:
            return {"messages": [task, first]}
        history = [task]
    shown = examples() if model.settings.size == "small" and model.settings.tool_calls == "json" else ()
    messages = fit([system_prompt(agent, model.settings), *shown, *history], model.settings)
    repeats = state.get("repeats", 0)
    answer = await until_killed(
        model.act(
            messages,
            specs,
            temperature=RESTLESS if repeats >= 2 else None,
            without={call["name"] for call in last_answer(state).tool_calls} if repeats else (),
        ),
        context,
    )
    new = numbered(answer, f"{prefix}.{len(history)}")
    return {"messages": [new] if state.get("messages") else [*history, new]}


def _over_limit(agent: Agent, history: list[AnyMessage]) -> str:
    """Why the specialist may not think again within this step; empty when it may."""
    if agent.limits is None:
        return ""
    asked = sum(isinstance(message, AIMessage) for message in history)
    called = sum(len(message.tool_calls) for message in history if isinstance(message, AIMessage))
    for noun, used, limit in (
        ("model calls", asked, agent.limits.model_calls),
        ("tool calls", called, agent.limits.tool_calls),
    ):
        if used >= limit:
            return f"{agent.name} used {used} of its {limit} {noun} for this step"
    return ""


def tool_specs(context: Context, agent: Agent, allowed: list[str], model: ModelSettings) -> list[ToolSpec]:
    """The tools that the model is shown.

    A model with native tool calls ends by answering in text; a schema-constrained one cannot, and
    gets `finish` for it.
    """
    small = model.size == "small"
    names = [name for name in agent.tools if name != FINISH and (not allowed or name in allowed)]
    if small and "run_command" in names:
        names = [name for name in names if name not in DONE_BY_COMMAND]
    if model.tool_calls == "json":
        names.append(FINISH)
    tools = [context.tools[name] for name in names]
    return [ToolSpec(t.name, t.description, _essential(t.arguments) if small else t.arguments) for t in tools]


@lru_cache(maxsize=64)
def _essential(arguments: type[Arguments]) -> type[BaseModel]:
    """The arguments that a small model is shown: options tempt it into calls that differ in nothing else."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in arguments.model_fields.items()
        if field.is_required() or name in ESSENTIAL
    }
    return create_model(arguments.__name__, **fields)


def numbered(answer: AIMessage, prefix: str) -> AIMessage:
    """Give message and calls ids that derive from their position.

    Some endpoints reuse call ids; the journal must never take one call's result for another's.
    """
    calls = [
        {**call, "args": _sound(call["args"]), "id": f"{prefix}.{index}"}
        for index, call in enumerate(answer.tool_calls)
    ]
    count = len(calls)
    broken = [
        {**call, "id": f"{prefix}.{count + index}"} for index, call in enumerate(answer.invalid_tool_calls)
    ]
    return AIMessage(
        content=answer.content,
        id=prefix,
        tool_calls=calls,
        invalid_tool_calls=broken,
        usage_metadata=answer.usage_metadata,
        additional_kwargs={k: v for k, v in answer.additional_kwargs.items() if k == "raw"},
    )


def _sound(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments that can be stored and sent: models do write halves of surrogate pairs."""
    sound: dict[str, Any] = json.loads(writable(json.dumps(arguments, ensure_ascii=False)))
    return sound


def last_answer(state: SpecialistState) -> AIMessage:
    """The newest message of the model."""
    return next(message for message in reversed(state["messages"]) if isinstance(message, AIMessage))


def nudge(text: str, identifier: str) -> HumanMessage:
    """Tell the model what is wrong with its last answer."""
    return HumanMessage(text, id=identifier)
