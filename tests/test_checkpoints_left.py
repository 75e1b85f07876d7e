"""Writes of a running graph, which it does not wait for: who commits them, when, and who is told."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from checkpointing import State, address, chat, put, saver_at, say, steps, talk
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from patience import until

from orchestrator.checkpoints import Checkpointer, watchman


def side_by_side(saver: Checkpointer, slow: Any, notes: Sequence[Any] = ("quick",)) -> Any:
    """A graph with a task that is quick and one that is not."""
    graph = StateGraph(State)
    graph.add_node("quick", lambda _: {"notes": list(notes)})
    graph.add_node("slow", slow)
    graph.add_edge(START, "quick")
    graph.add_edge(START, "slow")
    return graph.compile(checkpointer=saver)


def pending(folder: Path) -> list[Any]:
    """What another process would see of the pending writes now."""
    with saver_at(folder) as other:
        found = steps(other)
    return found[0][1] if found else []


def test_writes_of_a_graph_are_left_to_its_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        writer, left = saver._writer, list[Any]()
        leave = writer.leave

        def noted(operation: Any) -> None:
            left.append(operation)
            leave(operation)

        monkeypatch.setattr(writer, "leave", noted)
        say(chat(saver), "hello")
        assert [operation.done.is_set() for operation in left] == [True] * 2, "input and answer"


def test_writes_that_somebody_waits_for_are_there_when_it_is_over(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        at = put(saver, {"messages": talk(3)})
        for turn in range(5):
            began = time.monotonic()
            saver.put_writes(at, [("notes", turn)], f"task {turn}")
            assert time.monotonic() - began < watchman.LINGER_SECONDS or turn == 0
            assert pending(tmp_path) == list(range(turn + 1))


def test_a_task_that_is_done_is_kept_while_another_one_works(tmp_path: Path) -> None:
    seen: list[bool] = []

    def slow(_: State) -> State:
        seen.append(until(lambda: pending(tmp_path) == [["quick"]], 10))
        return {"notes": ["slow"]}

    with saver_at(tmp_path) as saver:
        side_by_side(saver, slow).invoke({"notes": []}, address())
        assert seen == [True]


def test_what_a_person_is_asked_is_kept_when_the_graph_returns(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        graph = side_by_side(saver, lambda _: {"notes": [interrupt("go on?")]})
        asked = graph.invoke({"notes": []}, address())["__interrupt__"][0]
        with saver_at(tmp_path) as other:
            assert asked in [value[0] for value in steps(other)[0][1] if value != ["quick"]]
        assert sorted(graph.invoke(Command(resume="yes"), address())["notes"]) == ["quick", "yes"]


def test_what_cannot_be_stored_ends_the_graph(tmp_path: Path) -> None:
    def slow(_: State) -> State:
        time.sleep(4 * watchman.LINGER_SECONDS)
        return {"notes": ["slow"]}

    with saver_at(tmp_path) as saver:
        graph = side_by_side(saver, slow, [threading.Lock()])
        with pytest.raises(TypeError, match="lock"):
            graph.invoke({"notes": []}, address())
        assert say(chat(saver), "hello", "another")["notes"] == [1]
        assert say(chat(saver), "hello")["notes"] == [1], "and is told once"


ENDS = """
import asyncio, sys
sys.path[:0] = {path!r}
from checkpointing import address, saver_at
from test_checkpoints_left import side_by_side
from pathlib import Path

async def slow(_):
    await asyncio.sleep(60)

async def main():
    graph = side_by_side(saver, slow)
    task = asyncio.create_task(graph.ainvoke({{"notes": []}}, address(), durability="sync"))
    while not any("['quick']" in str(one.writes) for one in saver._writer._queue if one.queued):
        await asyncio.sleep(0)

saver = saver_at(Path({folder!r}))
asyncio.new_event_loop().run_until_complete(main())
"""


def test_what_is_left_is_kept_when_the_process_ends_without_closing(tmp_path: Path) -> None:
    text = ENDS.format(path=sys.path, folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", text], check=True)
    assert ["quick"] in pending(tmp_path)


def test_the_watchman_s_thread_ends_when_nothing_is_left_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watching() -> int:
        return sum(thread.name == "checkpoints" for thread in threading.enumerate())

    assert until(lambda: watching() == 0, 10)
    monkeypatch.setattr(watchman, "QUIET_SECONDS", 0.05)
    with saver_at(tmp_path) as saver:
        for turn in range(3):
            say(chat(saver), f"hello {turn}")
            assert watching() == 1
            assert until(lambda: watching() == 0, 10)
        assert len(steps(saver)) == 9
    gone = weakref.ref(saver._writer)
    del saver
    gc.collect()
    assert gone() is None
