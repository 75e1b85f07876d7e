"""Let the specialist's model pick the next action."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.runtime import Runtime

from orchestrator.agents import Agent
from orchestrator.context import Context, enter
from orchestrator.nodes.budget import within_step
from orchestrator.nodes.compaction import Prompt, answered
from orchestrator.nodes.guidance import guided
from orchestrator.nodes.messages import numbered
from orchestrator.nodes.moves import next_move
from orchestrator.nodes.prompts import brief_message, examples, system_prompt, tool_specs
from orchestrator.nodes.receiving import fenced_results
from orchestrator.nodes.rounds import is_move
from orchestrator.settings import ModelSettings
from orchestrator.state import Result, SpecialistState, offered

SMALL_CALLS = 14
"""Model calls of a step after which a small model does not find its way any more; a replan starts afresh."""


@within_step
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
    context.budget.begin_round()
    tools = offered(brief["step"], agent.tools)
    prefix = f"{context.journal.turn}.{brief['step']['id']}"
    small = model.settings.size == "small"
    task: list[AnyMessage] = []
    if not history:
        task = [brief_message(brief, context.root, deep=small).model_copy(update={"id": f"{prefix}.0"})]
    whole = [*history, *task]
    number = len(whole)
    move = next_move(history, brief, context.root, tools, f"{prefix}.{number}") if small else None
    if move:
        return {"messages": [*task, move]}
    guide = guided(state, whole, model.settings, context.root, tools)
    if guide.gives_up:
        return {"result": Result(status="failed", text=guide.gives_up)}
    if guide.code:
        text = await model.write(guide.code.question, temperature=guide.warmth, most=guide.code.most)
        if call := guide.code.call(text):
            return {"messages": [*task, numbered(call, f"{prefix}.{number}")]}
    specs = tool_specs(context, tools, model.settings)
    shown = examples() if small and model.settings.tool_calls == "json" else ()
    front = [system_prompt(agent, model.settings), *shown]

    async def ask(messages: list[AnyMessage]) -> AIMessage:
        fenced = fenced_results(messages, context.journal.run, small=small)
        return await model.act(fenced, specs, temperature=guide.warmth, without=guide.withheld)

    prompt = Prompt(front, whole, specs)
    answer, cut = await answered(prompt, state.get("compaction"), model, context, ask)
    new = numbered(answer, f"{prefix}.{number}")
    return {"messages": [*task, new], **cut}


def _over_limit(agent: Agent, model: ModelSettings, history: list[AnyMessage]) -> str:
    """Why the specialist may not think again within this step; empty when it may."""
    asked = sum(isinstance(message, AIMessage) and not is_move(message) for message in history)
    called = sum(len(message.tool_calls) for message in history if isinstance(message, AIMessage))
    caps: list[tuple[str, int, int | None]] = (
        [("model calls", asked, SMALL_CALLS)] if model.size == "small" else []
    )
    if agent.limits:
        caps += [("model calls", asked, agent.limits.model_calls)]
        caps += [("tool calls", called, agent.limits.tool_calls)]
    for noun, used, limit in caps:
        if limit is not None and used >= limit:
            return f"{agent.name} used {used} of its {limit} {noun} for this step"
    return ""
