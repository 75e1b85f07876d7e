"""Many runs in one process: memory stays flat, no file, socket, task or process is left, no event is missing.

ORC_SOAK_RUNS=1000 makes it the real thing (`make soak`); by default it is a few.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from desk import Desk
from scripted import Call, Calls, Reply, Request, Say, ScriptedModel

from orchestrator.cancel import Cancel
from orchestrator.context import Context
from orchestrator.events import Journal, broken_links, read_events
from orchestrator.limits import Budget, Ledger
from orchestrator.llm.chat import Chat
from orchestrator.session import Session
from orchestrator.storage import open_state

RUNS = int(os.environ.get("ORC_SOAK_RUNS", "12"))
WARM = max(RUNS // 5, 2)
"""Runs until caches are full and modules loaded."""
FLAT_KB = 8
"""Growth of each run after that which is still flat: the unrest of an allocator."""
FLAT_OBJECTS = 150
"""Growth of each run in objects while caches fill up; 72 were measured here, and none after 60 runs."""
SLOWER = 1.5
"""What a run may take in the end, as a multiple of what it took at first, in seconds of this process."""
OF_A_RUN = (Journal, Budget, Ledger, Context, Cancel, Chat, sqlite3.Connection)
"""What must not outlive its run."""
TURNS: list[Reply] = [
    Calls([Call("read_file", path="a.txt"), Call("list_files")]),
    Call("run_command", command="cat a.txt | wc -l"),
    Call("write_file", path="b.txt", content="b\n"),
    Say("done"),
]


def script(request: Request) -> Reply:
    reply: Reply = TURNS[min(sum(m["role"] == "assistant" for m in request["messages"]), len(TURNS) - 1)]
    return reply


def resident_kb() -> int:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def say(number: int, seconds: Sequence[float]) -> None:
    """Show how a long soak is getting on, also while pytest keeps what is printed."""
    if RUNS >= 200 and (number + 1) % (RUNS // 20) == 0:
        last = statistics.median(seconds[-RUNS // 20 :])
        sys.__stderr__.write(  # type: ignore[union-attr]
            f"{number + 1} runs: {resident_kb() / 1024:.1f} MB, {descriptors()} descriptors, "
            f"{len(gc.get_objects()):,} objects, {last * 1000:.0f} ms CPU a run\n"
        )


def test_many_runs_leave_nothing_behind(desk: Desk) -> None:
    desk.write("a.txt", "alpha\n")
    temporary = desk.home / "tmp"
    temporary.mkdir()
    desk.patch.setattr(tempfile, "tempdir", str(temporary))
    desk.patch.setenv("TMPDIR", str(temporary))
    seen: list[tuple[int, int, int]] = []
    seconds: list[float] = []

    async def work(served: ScriptedModel) -> None:
        session = Session(desk.root)
        for number in range(RUNS):
            began = time.process_time()
            outcome = await session.run(f"@coder do it for the {number}th time")
            seconds.append(time.process_time() - began)
            assert outcome.answer == "done"
            assert asyncio.all_tasks() == {asyncio.current_task()}
            served.requests.clear()
            if number >= WARM:
                gc.collect()
                seen.append((resident_kb(), descriptors(), len(gc.get_objects())))
            say(number, seconds)

    with desk.model(script) as served:
        asyncio.run(work(served))
    (first_kb, first_open, first_objects), (last_kb, last_open, last_objects) = seen[0], seen[-1]
    assert last_open <= first_open + 2
    assert [each for each in gc.get_objects() if isinstance(each, OF_A_RUN)] == []
    assert (last_objects - first_objects) / len(seen) < FLAT_OBJECTS
    if RUNS >= 200:
        assert (last_kb - first_kb) / len(seen) < FLAT_KB
        fifth = RUNS // 5
        assert statistics.median(seconds[-fifth:]) < SLOWER * statistics.median(seconds[WARM : WARM + fifth])
    assert list(temporary.iterdir()) == []
    folder = desk.root / ".orc"
    assert {path.name for path in folder.iterdir()} <= {
        "state.db", "state.db-wal", "state.db-shm", "snapshots", "logs", "locks", "results",
    }  # fmt: skip
    assert not list((folder / "locks").glob("*.stop"))
    runs = desk.runs() if RUNS <= 50 else []
    connection = open_state(desk.root)
    names = [name for (name,) in connection.execute("select id from runs")]
    assert len(names) == RUNS
    assert all(run.status == "done" for run in runs)
    for name in names:
        events = read_events(connection, name)
        kinds = [event.kind for event in events]
        assert (kinds[0], kinds[-1], kinds.count("end")) == ("turn", "end", 1)
        assert kinds.count("tool_intent") == kinds.count("tool_result") == 4
        assert kinds.count("model_call") == 4
        assert broken_links(connection, name) == []
        lines = (folder / "logs" / f"{name}.jsonl").read_text("utf-8").splitlines()
        assert len(lines) == len(events)
    connection.close()
