"""The main graph: who takes the request, in which steps, and what the user gets back."""

from __future__ import annotations

from collections.abc import Iterable

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from orchestrator.context import Context
from orchestrator.nodes.answer import answer
from orchestrator.nodes.classifier import NONE
from orchestrator.nodes.estimate import after_estimate, estimate
from orchestrator.nodes.planner import planner
from orchestrator.nodes.review import after_review, review
from orchestrator.nodes.router import router
from orchestrator.nodes.specialist import Subgraph, specialist
from orchestrator.state import State


def after_router(state: State) -> str:
    """Small talk is answered directly; everything else gets a plan, if only of one step."""
    return "answer" if state["route"]["agent"] == NONE else "planner"


def build(
    agents: Iterable[str], subgraph: Subgraph, checkpointer: BaseCheckpointSaver[str] | None = None
) -> CompiledStateGraph[State, Context, State, State]:
    """Wire the main graph for a set of specialists."""
    names = list(agents)
    graph = StateGraph(State, context_schema=Context)
    graph.add_node("router", router)
    graph.add_node("planner", planner)
    graph.add_node("estimate", estimate)
    for name in names:
        graph.add_node(name, specialist(subgraph))
        graph.add_edge(name, "review")
    graph.add_node("review", review)
    graph.add_node("answer", answer)
    graph.add_edge(START, "router")
    graph.add_conditional_edges("router", after_router, ["planner", "answer"])
    graph.add_edge("planner", "estimate")
    graph.add_conditional_edges("estimate", after_estimate, [*names, "answer"])
    graph.add_conditional_edges("review", after_review, [*names, "planner", "answer"])
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=checkpointer)
