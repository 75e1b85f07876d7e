"""Several processes on one file: each takes its turns and writes down how long each one waited."""

from __future__ import annotations

import json
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from doomed import processes
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from orchestrator.checkpoints import Checkpointer

TURNS = 40


def talk(saver: Any) -> Any:
    """A graph that only keeps what is said."""
    graph = StateGraph(MessagesState)
    graph.add_node("keep", lambda state: {"messages": []})
    graph.add_edge(START, "keep")
    return graph.compile(checkpointer=saver)


def say(saver: Any, thread: str, text: str) -> None:
    config: Any = {"configurable": {"thread_id": thread}}
    talk(saver).invoke({"messages": [HumanMessage(text, id=text)]}, config, durability="sync")


def said(saver: Any, thread: str) -> list[str]:
    """What a thread holds."""
    found = saver.get_tuple({"configurable": {"thread_id": thread}})
    return [message.id for message in found.checkpoint["channel_values"]["messages"]] if found else []


class Timed:
    """A saver whose puts are timed."""

    def __init__(self, saver: Checkpointer) -> None:
        self.seconds: list[float] = []
        self._put = saver.put
        saver.put = self.put  # type: ignore[assignment, method-assign]

    def put(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        try:
            return self._put(*arguments)
        finally:
            self.seconds.append(time.perf_counter() - started)


def take_turns(path: Path, name: str, together: Barrier) -> None:
    """Talk in a thread of one's own, as fast as it goes, at the same time as the others."""
    with Checkpointer.from_conn_string(path) as saver:
        timed = Timed(saver)
        say(saver, name, "first")
        together.wait(30)
        timed.seconds.clear()
        for turn in range(TURNS):
            say(saver, name, f"{name} {turn}")
    path.with_name(f"{name}.json").write_text(json.dumps(timed.seconds), encoding="utf-8")


def say_late(path: Path, thread: str, text: str, seconds: float) -> None:
    """Say something in a process whose clock is so many seconds behind."""
    now = time.time_ns
    time.time_ns = lambda: now() - int(seconds * 1e9)
    with Checkpointer.from_conn_string(path) as saver:
        say(saver, thread, text)


def waits(path: Path, count: int) -> list[float]:
    """Let so many processes talk at once; the seconds that each put took, sorted."""
    together = processes.Barrier(count)
    names = [f"neighbour-{number}" for number in range(count)]
    started = [processes.Process(target=take_turns, args=(path, name, together)) for name in names]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise RuntimeError("a neighbour failed")
    return sorted(
        second for name in names for second in json.loads(path.with_name(f"{name}.json").read_text("utf-8"))
    )
