"""Small checkpoints and a small graph for the tests of the checkpointer."""

from __future__ import annotations

import operator
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from orchestrator.checkpoints import Checkpointer
from orchestrator.checkpoints.blocks import Block, read_block


def address(thread: str = "t", ns: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    configurable = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": configurable | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def put(
    saver: BaseCheckpointSaver[Any], values: dict[str, Any], config: RunnableConfig | None = None, **more: Any
) -> RunnableConfig:
    """Put one checkpoint with these values; `more` is metadata."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, 1)
    metadata: Any = {"source": "loop", "step": 1, "parents": {}, **more}
    return saver.put(config or address(), checkpoint, metadata, checkpoint["channel_versions"])


def values(saver: BaseCheckpointSaver[Any], config: RunnableConfig | None = None) -> dict[str, Any]:
    found = saver.get_tuple(config or address())
    assert found is not None
    return found.checkpoint["channel_values"]


def steps(saver: BaseCheckpointSaver[Any], thread: str = "t") -> list[Any]:
    """The steps of a thread's checkpoints and the values of their pending writes, newest first."""
    listed = saver.list(address(thread))
    return [(one.metadata["step"], [write[2] for write in one.pending_writes or []]) for one in listed]


def talk(length: int) -> list[BaseMessage]:
    kinds = (HumanMessage, AIMessage)
    return [kinds[at % 2](f"words of message {at} " * 20, id=f"m{at}") for at in range(length)]


def gathered(old: list[Any], new: list[list[Any]]) -> list[Any]:
    return [*old, *(item for items in new for item in items)]


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    notes: Annotated[list[Any], operator.add]
    ledger: Annotated[list[Any], DeltaChannel(gathered, snapshot_frequency=3)]


def answer(state: State) -> State:
    turn = len(state["messages"])
    return {"messages": [AIMessage(f"answer {turn}", id=f"a{turn}")], "notes": [turn], "ledger": [turn]}


def chat(saver: BaseCheckpointSaver[Any]) -> Any:
    graph = StateGraph(State)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=saver)


def say(graph: Any, text: str, thread: str = "t") -> dict[str, Any]:
    said: dict[str, Any] = graph.invoke({"messages": [HumanMessage(text, id=text)]}, address(thread))
    return said


def saver_at(folder: Path) -> Checkpointer:
    return Checkpointer(folder / "checkpoints.db")


def run_sql(file: Path, statement: str, *parameters: object) -> list[Any]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


def sql(folder: Path, statement: str, *parameters: object) -> list[Any]:
    """The same for the file of `saver_at`."""
    return run_sql(folder / "checkpoints.db", statement, *parameters)


def tell(saver: Checkpointer, length: int, thread: str = "t", start: int = 1) -> list[Any]:
    """One checkpoint for each message; returns them."""
    config = address(thread)
    return [config := put(saver, {"messages": talk(end)}, config) for end in range(start, length + 1)]


def blocks(folder: Path) -> dict[int, Block]:
    return {n: read_block(data) for n, data in sql(folder, "select n, data from ck_blocks")}
