"""Hand a step to its specialist: brief in, result out.

The specialist never sees the whole conversation, and the conversation never sees its work: sharing
both histories doubles what a checkpoint stores.
"""

from __future__ import annotations

from typing import Any, Protocol

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from orchestrator.context import Context, enter
from orchestrator.nodes.planner import next_step, prohibitions
from orchestrator.nodes.taint import inherited, taint_of, unsecret_text
from orchestrator.state import Brief, Result, SpecialistState, State, Step

Subgraph = CompiledStateGraph[SpecialistState, Context, SpecialistState, SpecialistState]


class Work(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        """Return what changes in the state."""
        ...


def specialist(subgraph: Subgraph) -> Work:
    """The node that runs the next step of the plan in the specialist's own graph."""

    async def work(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
        step = next_step(state)
        if step is None:
            return {}
        context = enter(runtime, "specialist", step=step["id"], agent=step["agent"])
        context.journal.show("step", status="started", goal=step["goal"])
        given = brief(state, step)
        end = await subgraph.ainvoke({"brief": given})
        result = Result(
            status=end["result"]["status"],
            text=unsecret_text(end["result"]["text"], context.settings),
            taint=taint_of(given, end.get("messages", [])),
        )
        context.journal.write("step", goal=step["goal"], **result)
        return {"results": {step["id"]: result}}

    return work


def brief(state: State, step: Step) -> Brief:
    """What the specialist needs to know, and no more."""
    results = state.get("results", {})
    before = [results[other]["text"] for other in step["after"] if other in results]
    before += [f"an earlier attempt failed: {r['text']}" for r in results.values() if r["status"] == "failed"]
    answers = [message.text for message in state["messages"] if isinstance(message, AIMessage)]
    if answers:
        before.insert(0, f"your last answer to the user was: {answers[-1][:1000]}")
    if step["goal"] != state["request"]:
        before += [f"the user said: {words}" for words in prohibitions(state["request"])]
    said = [str(message.text) for message in state["messages"] if isinstance(message, HumanMessage)]
    return Brief(request=state["request"], step=step, before=before, said=said, taint=inherited(state))
