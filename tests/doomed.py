"""Runs that are made to be killed: real processes on a real file, which log what they reach.

With durability "sync" a superstep begins only once the one before it is saved, so each line of the log
is a claim about the file. A node logs the number of its superstep before it does anything.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import operator
import os
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send

from orchestrator.checkpoints import Checkpointer

LENGTH = 24
"""How often the main node of a whole run acts."""
CONFIG: Any = {"configurable": {"thread_id": "doomed"}, "recursion_limit": 1_000}
Note = Callable[[int], None]
processes = multiprocessing.get_context("forkserver")
# Not this module: the server looks for modules before it knows pytest's path.
processes.set_forkserver_preload(["orchestrator.checkpoints", "langgraph.graph.message"])


class Doomed(TypedDict, total=False):
    steps: Annotated[list[int], operator.add]
    parts: Annotated[list[str], operator.add]
    messages: Annotated[list[AnyMessage], add_messages]


class Given(TypedDict, total=False):
    steps: list[int]


class Told(TypedDict, total=False):
    parts: Annotated[list[str], operator.add]


class Inner(Given, Told, total=False):
    within: Annotated[list[int], operator.add]


def main_graph(do: Callable[[Doomed, int], None], then: str) -> StateGraph[Any]:
    """Acts, goes on to another node, and comes back until it is over."""

    def act(state: Doomed) -> dict[str, Any]:
        number = len(state.get("steps", []))
        do(state, number)
        return {"steps": [number], "messages": [AIMessage(f"{number} " * 300, id=f"m{number}")]}

    graph = StateGraph(Doomed)
    graph.add_node("act", act)
    graph.add_edge(START, "act")
    graph.add_conditional_edges(
        then, lambda state: "act" if len(state["steps"]) < LENGTH else "__end__", ["act", "__end__"]
    )
    return graph


def sequential(note: Note) -> StateGraph[Any]:
    """One node, again and again."""
    return main_graph(lambda _, number: note(number), "act")


def parallel(note: Note) -> StateGraph[Any]:
    """Four parts after each act: even lines are acts, odd ones their parts."""

    def part(state: Any) -> dict[str, Any]:
        note(2 * state["of"] + 1)
        return {"parts": [f"{state['of']}{state['name']}"]}

    graph = main_graph(lambda _, number: note(2 * number), "part")
    graph.add_node("part", part)
    graph.add_conditional_edges(
        "act",
        lambda state: [Send("part", {"of": state["steps"][-1], "name": name}) for name in "abcd"],
        ["part"],
    )
    return graph


def subgraph(note: Note) -> StateGraph[Any]:
    """A child with three supersteps of its own after each act."""

    def do(state: Inner) -> dict[str, Any]:
        within = len(state.get("within", []))
        note(4 * state["steps"][-1] + 1 + within)
        return {"within": [within], "parts": [f"{state['steps'][-1]}{within}"] if within == 2 else []}

    child = StateGraph(Inner, input_schema=Given, output_schema=Told)
    child.add_node("do", do)
    child.add_edge(START, "do")
    child.add_conditional_edges(
        "do", lambda state: "do" if len(state["within"]) < 3 else "__end__", ["do", "__end__"]
    )
    graph = main_graph(lambda _, number: note(4 * number), "child")
    graph.add_node("child", child.compile())
    graph.add_edge("act", "child")
    return graph


SHAPES = {"sequential": sequential, "parallel": parallel, "subgraph": subgraph}
LINES = {"sequential": LENGTH, "parallel": 2 * LENGTH, "subgraph": 4 * LENGTH}
"""Supersteps that log something in a whole run."""


def work(folder: Path, shape: str, is_async: bool, ready: Event | None = None) -> None:
    """Begin the run, or go on with it as far as it came; nobody says how far that is but the file."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Checkpointer.from_conn_string(folder / "doomed.db") as saver:
        graph = SHAPES[shape](lambda number: ignored(os.write(log, b"%d\n" % number)))
        compiled = graph.compile(checkpointer=saver)
        start: Any = {"steps": []} if saver.get_tuple(CONFIG) is None else None
        if ready is not None:
            ready.set()
        if is_async:
            asyncio.run(compiled.ainvoke(start, CONFIG, durability="sync"))
        else:
            compiled.invoke(start, CONFIG, durability="sync")
    os.close(log)


def ignored(_: object) -> None:
    """For a lambda that returns nothing."""


def logged(folder: Path) -> list[int]:
    """The lines of the log so far."""
    log = folder / "log"
    return [int(line) for line in log.read_text("ascii").split()] if log.exists() else []
