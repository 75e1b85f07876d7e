"""A graph that does what its state says, so that a random program is plain data and runs on any saver."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Send, interrupt

Action = dict[str, Any]
"""What one superstep does: `do` says what, the other keys say with what."""
NOTHING: Action = {"do": "nothing", "id": "none"}


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both dicts as one; a key that comes with None goes away."""
    return {key: value for key, value in {**old, **new}.items() if value is not None}


def extended(old: list[str], news: Sequence[list[str]]) -> list[str]:
    return [*old, *(item for new in news for item in new)]


class Acting(TypedDict, total=False):
    todo: list[Action]
    now: Action
    inner: list[Action]
    word: Any
    messages: Annotated[list[AnyMessage], add_messages]
    board: Annotated[dict[str, Any], merged]
    notes: Annotated[list[Any], operator.add]
    log: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=3)]


class Child(TypedDict, total=False):
    inner: list[Action]
    messages: Annotated[list[AnyMessage], add_messages]
    board: Annotated[dict[str, Any], merged]
    kept: Annotated[list[Any], operator.add]


class Told(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    board: Annotated[dict[str, Any], merged]


class Flaky(Exception):
    """Fails the first time that it is asked."""


@dataclass
class World:
    """What lies outside the state: which failures have happened already."""

    failed: set[str] = field(default_factory=set)

    def fail_once(self, name: str) -> None:
        if name not in self.failed:
            self.failed.add(name)
            raise Flaky(name)


def effect(action: Action, messages: list[AnyMessage], world: World) -> dict[str, Any]:
    """The update that an action makes; raises Flaky, or interrupts."""
    match action["do"]:
        case "append":
            kinds = cycle((HumanMessage, AIMessage))
            pairs = enumerate(zip(kinds, action["texts"], strict=False))
            return {"messages": [kind(text, id=f"{action['id']}-{n}") for n, (kind, text) in pairs]}
        case "edit" | "remove" if messages:
            chosen = messages[action["at"] % len(messages)].id or ""
            changed = (
                HumanMessage(action["text"], id=chosen) if action["do"] == "edit" else RemoveMessage(chosen)
            )
            return {"messages": [changed]}
        case "clear":
            return {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES)]}
        case "board":
            return {"board": action["items"]}
        case "ask":
            return {"messages": [HumanMessage(f"said {interrupt(action['question'])}", id=action["id"])]}
        case "fail":
            world.fail_once(action["id"])
    return {}


def changed(now: Action) -> dict[str, Any]:
    """The update of channels that only the main graph has."""
    match now["do"]:
        case "word":
            return {"word": now["word"]}
        case "note":
            return {"notes": [now["note"]], "log": [now["id"]]}
        case "child" | "keeper":
            return {"inner": now["inner"]}
    return {}


def chosen(state: Acting) -> list[Send | str]:
    """Where to go after an action: it may want workers or a child."""
    now = state.get("now", NOTHING)
    match now["do"]:
        case "fan":
            return [Send("worker", {"action": each}) for each in now["each"]]
        case "children":
            return [Send("child", {"inner": each}) for each in now["each"]]
        case "child" | "keeper":
            return [now["do"]]
    return [onward(state)]


def onward(state: Acting) -> str:
    return "act" if state.get("todo") else "__end__"


def acting_graph(saver: Any, world: World) -> Any:
    """Acts until nothing is to do; fans out to workers, and calls a child that forgets or one that keeps."""

    def act(state: Acting) -> dict[str, Any]:
        now, *rest = state.get("todo") or [NOTHING]
        return {**effect(now, state.get("messages", []), world), **changed(now), "now": now, "todo": rest}

    def worker(state: Any) -> dict[str, Any]:
        action = state["action"]
        done = effect(action, [], world)
        return {**done, "notes": [action["id"]], "log": [f"{action['id']} done"]}

    graph = StateGraph(Acting)
    graph.add_node("act", act)
    graph.add_node("worker", worker)
    graph.add_node("child", child_graph(world).compile())
    graph.add_node("keeper", child_graph(world).compile(checkpointer=True))
    graph.add_edge(START, "act")
    graph.add_conditional_edges("act", chosen, ["act", "worker", "child", "keeper", "__end__"])
    for name in ("worker", "child", "keeper"):
        graph.add_conditional_edges(name, onward, ["act", "__end__"])
    return graph.compile(checkpointer=saver)


def child_graph(world: World) -> Any:
    """Does its inner actions one a superstep, and notes what it has done where only it can see."""

    def do(state: Child) -> dict[str, Any]:
        action, *rest = state.get("inner") or [NOTHING]
        return {**effect(action, state.get("messages", []), world), "inner": rest, "kept": [action["id"]]}

    graph = StateGraph(Child, output_schema=Told)
    graph.add_node("do", do)
    graph.add_edge(START, "do")
    graph.add_conditional_edges("do", lambda state: "do" if state["inner"] else "__end__", ["do", "__end__"])
    return graph
