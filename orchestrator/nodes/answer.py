"""Answer the user: from the results of the steps, or directly when no step was needed."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.llm.base import ChatModel
from orchestrator.nodes.review import failed_step
from orchestrator.nodes.taint import inherited, unsecret_text
from orchestrator.state import State

REMEMBERED = 12
"""Messages of the conversation that a direct answer sees."""

REPORTED = 8
"""Denied calls that a report names."""


async def answer(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Write the answer of the turn and end it."""
    context = enter(runtime, "answer")
    failed = failed_step(state)
    if failed:
        text = _stopped(state, failed["text"], _denials(context) if failed["status"] == "refused" else [])
    elif not state.get("plan"):
        text = await _direct(state, context)
    else:
        text = await _from_results(state, context)
    text = unsecret_text(text, context.settings)
    status = failed["status"] if failed else "done"
    context.journal.write("answer", text=text, status=status)
    return {
        "answer": text,
        "status": status,
        "messages": [AIMessage(text, id=f"{context.journal.turn}-answer")],
        "taint": inherited(state),
    }


def _denials(context: Context) -> list[str]:
    """What was denied in this turn, and by which rule."""
    denied = [
        e.fields for e in context.journal.of_turn() if e.kind == "verdict" and e.fields["decision"] == "deny"
    ]
    return list(dict.fromkeys(f"{each['tool']}: {each['why']} [{each['rule']}]" for each in denied))[
        -REPORTED:
    ]


def _stopped(state: State, why: str, denials: list[str]) -> str:
    """An honest end: what was done, and what stopped the rest."""
    done = [result["text"] for result in state["results"].values() if result["status"] == "done"]
    lines = ["I could not finish this."]
    lines += ["Done so far:", *(f"- {text}" for text in done)] if done else []
    lines.append(f"What stopped me: {why}")
    lines += ["Denied:", *(f"- {text}" for text in denials)] if denials else []
    return "\n".join(lines)


async def _direct(state: State, context: Context) -> str:
    model = await context.model("default")
    messages: list[AnyMessage] = [
        SystemMessage("You answer briefly and truly. Say so when you do not know."),
        *state["messages"][-REMEMBERED:],
    ]
    return await _written(messages, model, context)


async def _from_results(state: State, context: Context) -> str:
    results = [(step, state["results"][step["id"]]["text"]) for step in state["plan"]]
    if len(results) == 1:
        return results[0][1]
    model = await context.model("default")
    if model.settings.size == "small":
        return "\n\n".join(text for _, text in results)
    facts = "\n\n".join(f"Step: {step['goal']}\nResult: {text}" for step, text in results)
    messages: list[AnyMessage] = [
        SystemMessage(
            "Answer the user's request from the results below and nothing else, in a few sentences."
        ),
        HumanMessage(f"Request: {state['request']}\n\n{facts}"),
    ]
    return await _written(messages, model, context)


async def _written(messages: list[AnyMessage], model: ChatModel, context: Context) -> str:
    context.budget.check()
    return await model.write(messages, on_text=lambda piece: context.journal.show("text", text=piece))
