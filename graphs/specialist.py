"""A specialist's graph: think, have the calls judged, ask where needed, run them, think again."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from orchestrator.context import Context
from orchestrator.nodes.approval import approval
from orchestrator.nodes.guardian import guardian
from orchestrator.nodes.messages import FINISH, last_answer
from orchestrator.nodes.report import report
from orchestrator.nodes.specialist import Subgraph
from orchestrator.nodes.think import think
from orchestrator.nodes.tools import tools
from orchestrator.state import SpecialistState


def after_think(state: SpecialistState) -> str:
    """To the guardian while there are calls; to the report when the model answers or gives up."""
    if state.get("result"):
        return END
    message = last_answer(state)
    calls = [call for call in message.tool_calls if call["name"] != FINISH]
    return "guardian" if calls or message.invalid_tool_calls else "report"


def after_guardian(state: SpecialistState) -> str:
    """A person decides on the asked calls; the others go on to the tools."""
    asked = any(verdict["decision"] == "ask" for verdict in state["verdicts"].values())
    return "approval" if asked else "tools"


def after_tools(state: SpecialistState) -> str:
    """Think about the results, unless the step was given up or the answer came with the calls."""
    if state.get("result"):
        return END
    finished = any(call["name"] == FINISH for call in last_answer(state).tool_calls)
    return "report" if finished else "think"


def after_report(state: SpecialistState) -> str:
    """Back to thinking when the answer was sent back."""
    return END if state.get("result") else "think"


def build() -> Subgraph:
    """Wire a specialist; all of them share this graph and differ by their agent file."""
    graph = StateGraph(SpecialistState, context_schema=Context)
    graph.add_node("think", think)
    graph.add_node("guardian", guardian)
    graph.add_node("approval", approval)
    graph.add_node("tools", tools)
    graph.add_node("report", report)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", after_think, ["guardian", "report", END])
    graph.add_conditional_edges("guardian", after_guardian, ["approval", "tools"])
    graph.add_conditional_edges("tools", after_tools, ["think", "report", END])
    graph.add_conditional_edges("report", after_report, ["think", END])
    return graph.compile()
