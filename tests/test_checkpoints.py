"""The checkpointer gives back what was put, and nothing that anyone did to it since."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from acting import World, acting_graph
from checkpointing import address, chat, put, saver_at, say, steps, talk, values
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import WRITES_IDX_MAP, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from orchestrator.checkpoints import Checkpointer, export_to, import_from, strict_serializer
from orchestrator.errors import StorageError, UsageError


def test_values_come_back_from_a_closed_file(tmp_path: Path) -> None:
    kept: dict[str, Any] = {
        "messages": [
            *talk(30),
            AIMessage("", id="c", tool_calls=[{"name": "f", "args": {"x": [1]}, "id": "1"}]),
        ],
        "results": {f"step {at}": {"text": "long " * 80, "at": at} for at in range(12)},
        "plan": [{"goal": "g" * 90, "after": []}, 7, "short", None, True, 2.5, b"bytes"],
        "empty": [],
        "none": None,
    }
    with saver_at(tmp_path) as saver:
        put(saver, kept)
    with saver_at(tmp_path) as saver:
        assert values(saver) == kept
        assert list(values(saver)["results"]) == list(kept["results"])
        assert saver.verify() == []


def test_a_longer_list_costs_what_is_new(tmp_path: Path) -> None:
    said = talk(2000)
    with saver_at(tmp_path) as saver:
        config = put(saver, {"messages": said})
        before = saver.stats()["elements"]
        for at in range(10):
            said = [*said, HumanMessage("more " * 60 + str(at), id=f"n{at}")]
            config = put(saver, {"messages": said}, config)
        assert saver.stats()["elements"] == before + 10
        assert values(saver)["messages"] == said


def test_every_version_of_a_list_that_is_edited_all_over_comes_back(tmp_path: Path) -> None:
    rng, said, versions = random.Random(5), talk(40), []
    config = address()
    for part in range(3):
        with saver_at(tmp_path) as saver:
            for step in range(60):
                start = rng.randrange(len(said) + 1)
                new = [
                    HumanMessage("new " * 30, id=f"{part}-{step}-{n}")
                    for n in range(rng.choice([0, 1, 2, 30]))
                ]
                said = [*said[:start], *new, *said[start + rng.choice([0, 1, 2, 20]) :]] or talk(12)
                versions.append((config := put(saver, {"messages": said}, config), said))
            assert saver.verify() == []
    with saver_at(tmp_path) as saver:
        for at, expected in rng.sample(versions, len(versions)):
            assert values(saver, at)["messages"] == expected
        saver.gc()
        assert values(saver, versions[-1][0])["messages"] == said


def test_a_message_of_a_long_list_that_changes_in_place_is_stored_as_it_is(tmp_path: Path) -> None:
    said = talk(100)
    with saver_at(tmp_path) as saver:
        at, expected = put(saver, {"messages": said}), []
        for change in (
            lambda: setattr(said[50], "content", "changed"),
            lambda: said[0].additional_kwargs.update(more=[1]),
            lambda: said[0].additional_kwargs["more"].append(2),
            lambda: setattr(said[99], "extra", "kept"),
            lambda: said.__setitem__(3, HumanMessage("other " * 20, id="m3")),
            lambda: said.__delitem__(slice(10, 20)),
        ):
            change()
            at = put(saver, {"messages": said}, at)
            expected.append((at, [message.model_copy(deep=True) for message in said]))
            assert values(saver)["messages"] == said
    with saver_at(tmp_path) as saver:
        for at, messages in expected:
            assert values(saver, at)["messages"] == messages


def test_what_a_caller_does_to_its_messages_is_its_own(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(9)})
        first, second = values(saver), values(saver)
        first["messages"][0].content = "changed"
        first["messages"][1].additional_kwargs["new"] = 1
        del first["messages"][2]
        assert second["messages"] == talk(9)
        assert values(saver)["messages"] == talk(9)


def test_a_message_that_was_changed_in_place_is_stored_as_it_is(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        config = put(saver, {"messages": talk(9)})
        said = values(saver)["messages"]
        said[3].content = "changed"
        put(saver, {"messages": said}, config)
        assert values(saver)["messages"][3].content == "changed"
        assert values(saver, config)["messages"][3].content != "changed"


def test_the_head_is_what_was_put_last_whatever_the_clock_says(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        late, early = "1f0f0000-0000-6000-8000-000000000000", "1f000000-0000-6000-8000-000000000000"
        for step, name in enumerate((late, early)):
            checkpoint = {"v": 4, "id": name, "ts": "", "channel_values": {}, "channel_versions": {}}
            saver.put(address(), {**checkpoint, "versions_seen": {}}, {"step": step}, {})  # type: ignore[typeddict-item]
        assert [step for step, _ in steps(saver)] == [1, 0]
        head = saver.get_tuple(address())
        assert head is not None
        assert head.checkpoint["id"] == early


def test_special_writes_replace_and_others_stay(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        config = put(saver, {})
        for value in ("first", "second"):
            saver.put_writes(config, [("channel", value)], "task")
            saver.put_writes(config, [(next(iter(WRITES_IDX_MAP)), value)], "task")
        assert steps(saver) == [(1, ["second", "first"])]


def test_writes_may_come_before_their_checkpoint(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        config = put(saver, {}, address("other"))
        there = address("t", "", config["configurable"]["checkpoint_id"])
        saver.put_writes(there, [("channel", "early")], "task")
        assert saver.get_tuple(there) is None
        found = saver.get_tuple(config)
        assert found is not None
        saver.put(address(), found.checkpoint, found.metadata, {})
        assert steps(saver) == [(1, ["early"])]


def test_reading_while_listing_waits_for_nobody(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        for step in range(200):
            put(saver, {"n": step}, step=step)
        seen = []
        for found in saver.list(address()):
            seen.append(found.metadata["step"])
            assert values(saver)["n"] >= 199
            if len(seen) == 100:
                put(saver, {"n": 500})
        assert seen == list(range(199, -1, -1))


def test_a_subgraph_s_checkpoint_is_as_old_as_its_parent_however_early_it_was_stored() -> None:
    with Checkpointer(":memory:") as saver:
        older, newer, lost = (empty_checkpoint() for _ in range(3))
        put(saver, {}, address("t", "keeper"), step=1, parents={"": older["id"]})
        put(saver, {}, address("t", "keeper"), step=2, parents={"": newer["id"]})
        put(saver, {}, address("t", "keeper"), step=3, parents={"": lost["id"]})
        at = saver.put(address(), older, {"step": 0}, {})
        after = saver.put(at, newer, {"step": 1}, {})
        for parent, seen in ((at, []), (after, [1])):
            listed = list(saver.list(address("t", "keeper"), before=parent))
            assert [one.metadata["step"] for one in listed] == seen
        whole = list(saver.list({"configurable": {"thread_id": "t"}}, before=after))
        assert [one.metadata["step"] for one in whole] == [0, 1]
        first, *_ = [one.config for one in saver.list(address("t", "keeper")) if one.metadata["step"] == 2]
        inside = saver.list(address("t", "keeper"), before=first)
        assert [one.metadata["step"] for one in inside] == [1]


def test_time_travel_gives_a_subgraph_no_memory_of_the_future(tmp_path: Path) -> None:
    inner = [{"do": "append", "id": "c", "texts": ["x"]}, {"do": "ask", "id": "d", "question": "?"}]
    actions = [{"do": "note", "id": "a", "note": 1}, {"do": "keeper", "id": "b", "inner": inner}]

    async def travelled(saver: Any) -> list[int]:
        graph = acting_graph(saver, World())
        await graph.ainvoke({"todo": actions}, address(), durability="async")
        history = [state async for state in graph.aget_state_history(address())]
        await graph.ainvoke(None, history[1].config, durability="async")
        return [one.metadata["step"] async for one in saver.alist(address("t", "keeper"))]

    async def both() -> None:
        async with AsyncSqliteSaver.from_conn_string(":memory:") as theirs:
            with saver_at(tmp_path) as ours:
                assert await travelled(ours) == await travelled(theirs) == [1, 0, -1, 1, 0, -1]

    asyncio.run(both())


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_a_conversation_is_the_same_as_on_the_other_saver(tmp_path: Path, durability: str) -> None:
    plain = SqliteSaver(sqlite3.connect(":memory:", check_same_thread=False), serde=strict_serializer())
    seen = []
    with saver_at(tmp_path) as ours:
        for saver in (ours, plain):
            graph = chat(saver)
            for turn in range(9):
                said = {"messages": [HumanMessage(f"q{turn}", id=f"q{turn}")]}
                graph.invoke(said, address(), durability=durability)
            history = [state.values for state in graph.get_state_history(address())]
            seen.append((history, steps(saver)))
    plain.conn.close()
    assert seen[0] == seen[1]
    assert seen[0][0][0]["ledger"] == seen[0][0][0]["notes"]


def test_threads_and_event_loops_may_share_a_saver(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        graph = chat(saver)

        async def converse(name: str) -> None:
            for turn in range(4):
                said = {"messages": [HumanMessage(f"q{turn}", id=f"q{turn}")]}
                await graph.ainvoke(said, address(name))

        async def several(names: list[str]) -> None:
            await asyncio.gather(*map(converse, names))

        names = [[f"{loop}-{at}" for at in range(6)] for loop in range(3)]
        threads = [threading.Thread(target=asyncio.run, args=(several(group),)) for group in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in (name for group in names for name in group):
            assert len(values(saver, address(name))["messages"]) == 8
        assert saver.verify() == []


def test_a_cancelled_put_leaves_the_saver_working(tmp_path: Path) -> None:
    async def scenario(saver: Checkpointer) -> None:
        config = put(saver, {})
        task = asyncio.create_task(saver.aput_writes(config, [("channel", "value")], "task"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await saver.aget_tuple(config) is not None

    with saver_at(tmp_path) as saver:
        asyncio.run(scenario(saver))
        assert steps(saver) == [(1, ["value"])]


def test_a_forked_process_goes_on_with_connections_of_its_own(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"n": 1}, step=1)
        child = os.fork()
        if not child:
            put(saver, {"n": 2}, step=2)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        put(saver, {"n": 3}, step=3)
        assert [step for step, _ in steps(saver)] == [3, 2, 1]
        assert saver.verify() == []


def test_a_process_forked_during_a_commit_is_not_locked_out(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"n": 1}, step=1)
        storage, begun = saver._storage, threading.Event()

        def slow(*_: object) -> None:
            begun.set()
            time.sleep(0.3)

        thread = threading.Thread(target=storage.write, args=(slow, lambda _: None), kwargs={"wait": True})
        thread.start()
        begun.wait()
        child = os.fork()
        if not child:
            signal.alarm(5)  # ends the child if it waits
            put(saver, {"n": 2}, step=2)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        put(saver, {"n": 3}, step=3)
        assert [step for step, _ in steps(saver)] == [3, 2, 1]


def test_a_sqlite_saver_file_is_imported_and_exported_whole(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with SqliteSaver.from_conn_string(str(file)) as theirs:
        graph = chat(theirs)
        for turn in ("one", "two", "three"):
            say(graph, turn)
        put(theirs, {"inner": talk(3)}, address("t", "sub:1"))
        expected = [(one.config, one.checkpoint, one.pending_writes) for one in theirs.list(address())]
        with saver_at(tmp_path) as saver:
            assert import_from(file, saver) == len(list(theirs.list(None)))
            assert [
                (one.config, one.checkpoint, one.pending_writes) for one in saver.list(address())
            ] == expected
            with pytest.raises(UsageError, match="here already"):
                import_from(file, saver)
            saver.fork("t", "branch")
            other = InMemorySaver()
            export_to(saver, other)
            for thread in ("t", "branch"):
                assert values(other, address(thread)) == values(saver, address(thread))
                assert steps(other, thread)[0] == steps(saver, thread)[0]
            say(chat(saver), "four")
            assert len(values(saver)["messages"]) == 8


def test_what_is_no_sqlite_saver_file_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all" * 100)
    sqlite3.connect(tmp_path / "empty").close()
    with saver_at(tmp_path) as saver:
        for name in ("missing", "text", "empty"):
            with pytest.raises(StorageError):
                import_from(tmp_path / name, saver)
        assert saver.threads() == []
