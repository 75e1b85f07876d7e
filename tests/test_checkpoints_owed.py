"""Writes that a graph left behind, when the saver, the process or the disk does not go on as it should."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from checkpointing import address, gathered, put, saver_at, steps
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from patience import until
from test_checkpoints_left import pending

from orchestrator.checkpoints import Checkpointer
from orchestrator.errors import StorageError


class State(TypedDict, total=False):
    notes: Annotated[list[Any], DeltaChannel(gathered, snapshot_frequency=50)]


def leave(saver: Checkpointer, value: Any) -> None:
    """Put a checkpoint, and a write as a graph that runs does."""
    saver.put_writes(running(put(saver, {})), [("notes", value)], "task")


def running(at: RunnableConfig) -> RunnableConfig:
    """The config that a node of a running graph has."""
    return {"configurable": {**at["configurable"], "__pregel_runtime": None}}


def two_steps(saver: Checkpointer, quick: Any, slow: Any) -> Any:
    """A graph with one node, and then a quick one beside a slow one."""
    graph = StateGraph(State)
    graph.add_node("first", lambda _: {"notes": ["first"]})
    graph.add_node("quick", quick)
    graph.add_node("slow", slow)
    graph.add_edge(START, "first")
    graph.add_edge("first", "quick")
    graph.add_edge("first", "slow")
    return graph.compile(checkpointer=saver)


def slowly(saver: Checkpointer, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let commits take 0.2 s; the event is set in the first of them."""
    apply, is_inside = saver._writer._apply, threading.Event()

    def slow(*given: Any) -> Any:
        is_inside.set()
        threading.Event().wait(0.2)
        return apply(*given)

    monkeypatch.setattr(saver._writer, "_apply", slow)
    return is_inside


def test_a_reader_waits_for_the_commit_of_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        at = running(put(saver, {}))
        is_inside = slowly(saver, monkeypatch)
        saver.put_writes(at, [("notes", "left")], "task")
        assert is_inside.wait(10)
        assert steps(saver)[0][1] == ["left"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_what_is_done_after_a_question_is_not_done_again_elsewhere(tmp_path: Path, durability: str) -> None:
    runs, is_asked = list[int](), threading.Event()

    def quick(_: State) -> State:
        is_asked.wait(0.2)
        runs.append(1)
        return {"notes": ["quick"]}

    with saver_at(tmp_path) as saver, saver_at(tmp_path) as other:
        graphs = [two_steps(one, quick, lambda _: {"notes": [interrupt("go on?")]}) for one in (saver, other)]
        graphs[0].invoke({"notes": []}, address(), durability=durability)
        assert graphs[1].invoke(Command(resume="yes"), address())["notes"] == ["first", "quick", "yes"]
    assert len(runs) == 1


def test_what_was_left_outlives_its_saver(tmp_path: Path) -> None:
    saver = saver_at(tmp_path)
    leave(saver, "left")
    del saver
    gc.collect()
    assert until(lambda: pending(tmp_path) == ["left"], 10)


ENDS = """
import sqlite3, sys, threading, time
sys.path[:0] = {path!r}
from pathlib import Path
from test_checkpoints_owed import put, running, saver_at

folder = Path({folder!r})
saver = saver_at(folder)
at = running(put(saver, {{}}))
"""
LOCKED = """
other = sqlite3.connect(folder / "checkpoints.db", isolation_level=None, check_same_thread=False)
other.execute("begin immediate")
saver.put_writes(at, [("notes", "left")], "task")
threading.Thread(target=lambda: (time.sleep(0.3), other.execute("commit")), daemon=True).start()
"""
COMMITTING = """
apply, is_inside = saver._writer._apply, threading.Event()
saver._writer._apply = lambda *given: (is_inside.set(), time.sleep(0.3), apply(*given))[2]
saver.put_writes(at, [("notes", "left")], "task")
assert is_inside.wait(10)
"""


@pytest.mark.parametrize("meanwhile", [LOCKED, COMMITTING], ids=["locked", "committing"])
def test_the_end_of_a_process_waits_for_what_was_left(tmp_path: Path, meanwhile: str) -> None:
    text = ENDS.format(path=sys.path, folder=str(tmp_path)) + meanwhile
    subprocess.run([sys.executable, "-c", text], check=True)
    assert pending(tmp_path) == ["left"]


def test_a_child_leaves_to_its_parent_what_the_parent_left(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        at = running(put(saver, {}))
        with saver._storage.lock:  # type: ignore[attr-defined]
            saver.put_writes(at, [("notes", "left")], "task")
            child = os.fork()
            if not child:
                saver.get_tuple(address())
                saver.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        assert until(lambda: not saver._writer._queue, 10)
        assert saver.stats()["writes"] == 1


def full_for(saver: Checkpointer, monkeypatch: pytest.MonkeyPatch, is_full: threading.Event) -> list[int]:
    """Let the disk be full while the event is set; returns a list with an entry for each refusal."""
    apply, refused = saver._writer._apply, list[int]()

    def limited(rows: Any, batch: Any) -> Any:
        if is_full.is_set():
            refused.append(len(batch))
            raise sqlite3.OperationalError("database or disk is full")
        return apply(rows, batch)

    monkeypatch.setattr(saver._writer, "_apply", limited)
    return refused


@pytest.mark.parametrize("seconds", [0, 0.1], ids=["with it", "before it"])
def test_no_checkpoint_is_stored_without_what_was_left_to_it(tmp_path: Path, seconds: float) -> None:
    values: list[Any] = [threading.Lock()]

    def slow(_: State) -> State:
        threading.Event().wait(seconds)
        return {"notes": ["slow"]}

    with saver_at(tmp_path) as saver:
        graph = two_steps(saver, lambda _: {"notes": values}, slow)
        with pytest.raises(TypeError, match="lock"):
            graph.invoke({"notes": []}, address(), durability="sync")
        assert "quick" in graph.get_state(address()).next, "the superstep is not over"
        values[:] = ["quick"]
        assert graph.invoke(None, address())["notes"] == ["first", "quick", "slow"]


@pytest.mark.parametrize("has_room", [False, True], ids=["full", "full for a moment"])
def test_a_full_disk_ends_the_graph_before_it_leaves_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    with saver_at(tmp_path) as saver:
        is_full, fills = threading.Event(), iter([True])
        refused = full_for(saver, monkeypatch, is_full)

        def slow(_: State) -> State:
            if next(fills, False):
                is_full.set()
                if has_room:
                    assert until(lambda: bool(refused), 10)
                    is_full.clear()
            return {"notes": ["slow"]}

        graph = two_steps(saver, lambda _: {"notes": ["quick"]}, slow)
        with pytest.raises(StorageError, match="full"):
            graph.invoke({"notes": []}, address(), durability="sync")
        is_full.clear()
        assert graph.invoke(None, address())["notes"] == ["first", "quick", "slow"]
        assert graph.get_state(address()).values["notes"] == ["first", "quick", "slow"]


def test_a_closed_saver_takes_no_writes(tmp_path: Path) -> None:
    saver = saver_at(tmp_path)
    at = running(put(saver, {}))
    saver.close()
    with pytest.raises(StorageError, match="closed"):
        saver.put_writes(at, [("notes", "late")], "task")


def test_writes_are_committed_at_once_where_no_thread_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with saver_at(tmp_path) as saver:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        leave(saver, "left")
        assert pending(tmp_path) == ["left"]


def test_who_waits_goes_on_when_who_commits_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        writer, is_queued, is_taken = saver._writer, threading.Event(), threading.Event()
        enqueue, apply = writer._enqueue, writer._apply
        other = threading.Thread(target=lambda: put(saver, {}, address("other")), daemon=True)

        def slowly(operation: Any, **more: Any) -> None:
            enqueue(operation, **more)
            if threading.current_thread() is other:
                is_queued.set()
                is_taken.wait(10)

        def interrupted(*_: Any) -> Any:
            monkeypatch.setattr(writer, "_apply", apply)
            is_taken.set()
            other.join(0.2)
            raise KeyboardInterrupt

        monkeypatch.setattr(writer, "_enqueue", slowly)
        monkeypatch.setattr(writer, "_apply", interrupted)
        other.start()
        assert is_queued.wait(10)
        with pytest.raises(KeyboardInterrupt):
            put(saver, {})
        other.join(10)
        assert not other.is_alive()
        assert saver.threads() == ["other", "t"]


def test_a_new_run_owes_nothing_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with saver_at(tmp_path) as saver:
        at, is_full = running(put(saver, {})), threading.Event()
        refused = full_for(saver, monkeypatch, is_full)
        is_full.set()
        saver.put_writes(at, [("notes", ["lost"])], "task")
        assert until(lambda: bool(saver._writer._owed), 10), refused
        is_full.clear()
        graph = two_steps(saver, lambda _: {"notes": ["quick"]}, lambda _: {"notes": ["slow"]})
        assert graph.invoke({"notes": []}, address())["notes"] == ["first", "quick", "slow"]


def test_an_interrupt_leaves_no_transaction_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(wait: bool) -> None:
        monkeypatch.setattr(storage, "_begin", begin)
        begin(wait)
        raise KeyboardInterrupt

    with saver_at(tmp_path) as saver, saver_at(tmp_path) as other:
        storage: Any = saver._storage
        begin = storage._begin
        monkeypatch.setattr(storage, "_begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(saver, {})
        put(other, {}, address("other"))
        storage._writer.execute("begin")
        put(saver, {})
        assert saver.threads() == ["other", "t"]
