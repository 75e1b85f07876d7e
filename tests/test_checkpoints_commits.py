"""What goes into one commit, who makes it, and who is told how it ended."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from checkpointing import address, chat, put, saver_at, steps, talk, values
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from orchestrator.checkpoints.outcome import Outcome


class Plain:
    """Nothing that a serializer knows."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


def commits(saver: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many operations each commit takes, from now on."""
    writer, sizes = saver._writer, list[int]()
    apply = writer._apply

    def counted(rows: Any, batch: list[Any]) -> Any:
        sizes.append(len(batch))
        return apply(rows, batch)

    monkeypatch.setattr(writer, "_apply", counted)
    return sizes


def test_conversations_side_by_side_share_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def converse(graph: Any, name: str) -> None:
        for turn in range(3):
            said = {"messages": [HumanMessage(f"q{turn}", id=f"q{turn}")]}
            await graph.ainvoke(said, address(name), durability="sync")

    async def several() -> None:
        graph = chat(saver)
        await asyncio.gather(*(converse(graph, f"t{at}") for at in range(16)))

    with saver_at(tmp_path) as saver:
        sizes = commits(saver, monkeypatch)
        asyncio.run(several())
        checkpoints = sum(len(steps(saver, f"t{at}")) for at in range(16))
        assert len(sizes) < checkpoints / 4
        assert all(len(values(saver, address(f"t{at}"))["messages"]) == 6 for at in range(16))


def test_a_conversation_alone_has_one_commit_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with saver_at(tmp_path) as saver:
        sizes = commits(saver, monkeypatch)
        built = StateGraph(MessagesState)
        built.add_sequence([("answer", lambda _: {"messages": [AIMessage("a")]})])
        built.add_edge(START, "answer")
        graph: Any = built.compile(checkpointer=saver)
        for turn in range(5):
            graph.invoke({"messages": [HumanMessage(f"q{turn}")]}, address(), durability="sync")
        assert len(sizes) <= len(steps(saver)) + 1


def test_what_cannot_be_stored_is_told_to_who_wrote_it_and_to_nobody_else(tmp_path: Path) -> None:
    raised: dict[str, Exception | None] = {}

    def write(name: str, value: Any) -> None:
        try:
            saver.put_writes(at, [("channel", value)], name)
            raised[name] = None
        except TypeError as error:
            raised[name] = error

    with saver_at(tmp_path) as saver:
        at = put(saver, {"messages": talk(3)})
        names = {"good": "kept", "bad": Plain(), "better": "kept too"}
        threads = [threading.Thread(target=write, args=one) for one in names.items()]
        for thread in threads:
            thread.start()
        put(saver, {"messages": talk(4)}, at)
        for thread in threads:
            thread.join()
        assert isinstance(raised["bad"], TypeError)
        assert raised["good"] is raised["better"] is None
        found = saver.get_tuple(at)
        assert found is not None
        assert sorted(write[2] for write in found.pending_writes or []) == ["kept", "kept too"]
        assert len(values(saver)["messages"]) == 4


def test_numbers_go_on_after_those_of_another_process(tmp_path: Path) -> None:
    with saver_at(tmp_path) as one, saver_at(tmp_path) as other:
        for turn in range(6):
            put((one, other)[turn % 2], {"messages": talk(turn + 1)}, step=turn)
            put(one, {"messages": talk(turn + 2)}, address("mine"), step=turn)
        assert [step for step, _ in steps(one)] == [step for step, _ in steps(other)] == [5, 4, 3, 2, 1, 0]
        assert one.verify() == []


def test_a_commit_that_failed_leaves_nothing_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(2)}, step=0)
        apply = saver._writer._apply

        def failing(rows: Any, batch: list[Any]) -> Any:
            apply(rows, batch)
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(saver._writer, "_apply", failing)
            with pytest.raises(Exception, match="disk I/O error"):
                put(saver, {"messages": talk(3)}, address("new"), step=1)
        put(saver, {"messages": talk(3)}, address("new"), step=2)
        put(saver, {"messages": talk(4)}, step=3)
        assert [step for step, _ in steps(saver)] == [3, 0]
        assert [step for step, _ in steps(saver, "new")] == [2]
        assert saver.verify() == []


def test_another_program_s_lock_is_waited_for(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"n": 1}, step=0)
        with closing(sqlite3.connect(tmp_path / "checkpoints.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            writing = threading.Thread(target=put, args=(saver, {"n": 2}), kwargs={"step": 1})
            writing.start()
            time.sleep(0.1)
            assert writing.is_alive()
            other.execute("rollback")
            writing.join(5)
        assert [step for step, _ in steps(saver)] == [1, 0]


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_two_readers_never_get_the_same_message(tmp_path: Path, reads: int) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(200)})
        for _ in range(reads):
            del [values(saver)][:]  # all kinds of entries: read once, used again, and remembered as a list
        start = threading.Barrier(4)
        got: list[list[Any]] = []

        def read() -> None:
            start.wait()
            for _ in range(5):
                got.append(values(saver)["messages"])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(message) for messages in got for message in messages}) == 20 * 200


@pytest.mark.parametrize("reads", [0, 1, 2, 5])
def test_a_message_changed_after_it_was_read_is_not_handed_out(tmp_path: Path, reads: int) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(80)})
        for _ in range(reads):
            del [values(saver)][:]
        said = values(saver)["messages"]
        said[7].content = "changed"
        said[8].additional_kwargs["more"] = 1
        said[9].extra = "more"
        del said
        assert values(saver)["messages"] == talk(80)
        assert not any(message.__pydantic_extra__ for message in values(saver)["messages"])
        ids = [id(message) for message in values(saver)["messages"]]
        assert [id(message) for message in values(saver)["messages"]] == ids, "one that was changed is let go"


def test_an_outcome_reaches_threads_and_loops() -> None:
    outcome, seen = Outcome(), list[str]()

    async def waits() -> None:
        await outcome.settle()
        seen.append("loop")

    def holds() -> None:
        with pytest.raises(ValueError, match="no"):
            outcome.result()
        seen.append("thread")

    threads = [threading.Thread(target=holds), threading.Thread(target=asyncio.run, args=(waits(),))]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert not outcome.is_set()
    outcome.set(ValueError("no"))
    outcome.set()
    for thread in threads:
        thread.join(5)
    assert sorted(seen) == ["loop", "thread"]
    with pytest.raises(ValueError, match="no"):
        outcome.result()
