"""Let the specialist's model pick the next action."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.runtime import Runtime

from orchestrator.agents import Agent
from orchestrator.context import Context, enter, until_killed
from orchestrator.nodes.messages import FINISH, last_answer, numbered
from orchestrator.nodes.opening import opening
from orchestrator.nodes.prompts import brief_message, examples, fit, system_prompt, tool_specs
from orchestrator.settings import ModelSettings
from orchestrator.state import Result, SpecialistState

AFRESH = 0.5
"""Temperature of a small model's second try, which at 0 would be its first one again."""
SMALL_CALLS = 14
"""Model calls of a step after which a small model does not find its way any more; a replan starts afresh."""
RESTLESS = 0.8
"""Temperature after a second repeated call: at 0 a model repeats itself for ever."""


async def think(state: SpecialistState, runtime: Runtime[Context]) -> dict[str, Any]:
    """Ask the model for the next calls, or for the answer."""
    brief = state["brief"]
    context = enter(runtime, "think", step=brief["step"]["id"], agent=brief["step"]["agent"])
    agent = context.agents[brief["step"]["agent"]]
    history = state.get("messages", [])
    model = await context.open_model(agent.name)
    over = _over_limit(agent, model.settings, history)
    if over:
        return {"result": Result(status="failed", text=over)}
    context.budget.check()
    specs = tool_specs(context, agent, brief["step"]["tools"], model.settings)
    prefix = f"{context.journal.turn}.{brief['step']['id']}"
    if not history:
        task = brief_message(brief, context.root).model_copy(update={"id": f"{prefix}.0"})
        first = None
        if model.settings.size == "small":
            first = opening(brief, context.root, agent.tools, f"{prefix}.1")
        if first:
            return {"messages": [task, first]}
        history = [task]
    shown = examples() if model.settings.size == "small" and model.settings.tool_calls == "json" else ()
    messages = fit([system_prompt(agent, model.settings), *shown, *history], model.settings)
    answer = await until_killed(
        model.act(
            messages,
            specs,
            temperature=_warmth(state, model.settings),
            without=_withheld(state),
        ),
        context,
    )
    new = numbered(answer, f"{prefix}.{len(history)}")
    return {"messages": [new] if state.get("messages") else [*history, new]}


def _withheld(state: SpecialistState) -> set[str]:
    """Tools that make no sense as the very next call: what was just repeated, refused or in vain."""
    last = state.get("messages", [])[-1:]
    if state.get("repeats", 0):
        return {call["name"] for call in last_answer(state).tool_calls}
    if not last or not isinstance(last[0], ToolMessage):
        return set()
    if str(last[0].content).startswith("Error: not edited"):
        return {FINISH, "edit_file"}
    return {FINISH} if last[0].name == FINISH or "\nsyntax error" in str(last[0].content) else set()


def _warmth(state: SpecialistState, model: ModelSettings) -> float | None:
    """A higher temperature where the model is stuck, or tries a second time; None leaves it as it is set."""
    if state.get("repeats", 0) >= 2:
        return RESTLESS
    wrote_nonsense = any(
        "\nsyntax error" in str(message.content) for message in state.get("messages", [])[-1:]
    )
    is_second_try = state.get("objections", 0) >= 2 or state["brief"]["step"]["id"].startswith("r")
    return AFRESH if model.size == "small" and (is_second_try or wrote_nonsense) else None


def _over_limit(agent: Agent, model: ModelSettings, history: list[AnyMessage]) -> str:
    """Why the specialist may not think again within this step; empty when it may."""
    asked = sum(isinstance(message, AIMessage) for message in history)
    called = sum(len(message.tool_calls) for message in history if isinstance(message, AIMessage))
    caps = [("model calls", asked, SMALL_CALLS)] if model.size == "small" else []
    if agent.limits:
        caps.append(("model calls", asked, agent.limits.model_calls))
        caps.append(("tool calls", called, agent.limits.tool_calls))
    for noun, used, limit in caps:
        if used >= limit:
            return f"{agent.name} used {used} of its {limit} {noun} for this step"
    return ""
