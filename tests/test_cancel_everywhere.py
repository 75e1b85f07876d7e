"""A run that is cancelled wherever it stands can be resumed, does nothing twice and leaves nothing behind.

ORC_CANCEL_STRIDE=1 cancels at every pass of the event loop, one run for each; by default some are tried.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from desk import PATIENCE, Desk
from scripted import Call, Calls, Reply, Request, Say

from orchestrator.session import Outcome, Session

STRIDE = int(os.environ.get("ORC_CANCEL_STRIDE", "41"))
FIRST = int(os.environ.get("ORC_CANCEL_FIRST", "7"))
TURNS: list[Reply] = [
    Calls([Call("read_file", path="a.txt"), Call("list_files"), Call("search_files", pattern="alpha")]),
    Calls([Call("run_command", command="echo x >> log"), Call("write_file", path="b.txt", content="b\n")]),
    Call("add_lines", path="b.txt", place="end", text="c\n"),
    Say("all of it is done"),
]


class CountedLoop(asyncio.SelectorEventLoop):
    """Cancels a task at a pass of its own."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.passes = at, 0
        self.task: asyncio.Task[Any] | None = None

    def _run_once(self) -> None:
        self.passes += self.task is not None
        if self.passes == self.at and self.task is not None:
            self.task.cancel()
        super()._run_once()  # type: ignore[misc]


def script(request: Request) -> Reply:
    """What comes next follows from the conversation alone, so that asking again changes nothing."""
    said = sum(message["role"] == "assistant" for message in request["messages"])
    reply: Reply = TURNS[min(said, len(TURNS) - 1)]
    return reply


def cancelled(desk: Desk, at: int) -> tuple[Outcome | None, int]:
    """Work until the pass; the outcome when the run has ended before it, and the number of passes."""
    loop = CountedLoop(at)

    async def work() -> Outcome | None:
        task = asyncio.ensure_future(Session(desk.root).run("@coder do all of it"))
        loop.task = task
        try:
            return await task
        except asyncio.CancelledError:
            return None
        finally:
            loop.task = None
            assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        outcome: Outcome | None = runner.run(work())
        return outcome, loop.passes


def children() -> list[str]:
    lists = Path("/proc/self/task").glob("*/children")
    return [child for path in lists for child in path.read_text("utf-8").split()]


def sockets() -> int:
    """Open sockets and pipes, those of the scripted model included."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(path.readlink()).startswith(("socket:", "pipe:"))
    return found


def settled(limit: int) -> bool:
    """Whether no more sockets are open; the model's threads need a moment to see that we went away."""
    until = time.monotonic() + PATIENCE
    while sockets() > limit and time.monotonic() < until:
        time.sleep(0.01)
    return sockets() <= limit


def check_resumed(desk: Desk, at: int) -> None:
    resumed = asyncio.run(Session(desk.root).resume())
    assert (resumed.status, resumed.answer) == ("done", "all of it is done"), at
    results = {e.call: e.fields for e in desk.events("tool_result")}
    assert len(results) == len(desk.events("tool_result")), f"a call has two results when cancelled at {at}"
    command = next(fields for fields in results.values() if fields["tool"] == "run_command")
    is_whole = command["text"].startswith("exit code 0")
    assert desk.text("log") == "x\n" if is_whole else not (desk.root / "log").exists() or desk.text("log"), at
    assert desk.text("b.txt") == "b\nc\n", at


def test_a_run_cancelled_anywhere_goes_on_and_does_nothing_twice(desk: Desk, tmp_path: Path) -> None:
    desk.write("a.txt", "alpha\n")
    with desk.model(script):
        outcome, count = cancelled(desk, 10**9)
        assert outcome is not None
        for at in range(FIRST, count, STRIDE):
            root = tmp_path / f"at-{at}"
            root.mkdir()
            (root / "a.txt").write_text("alpha\n", "utf-8")
            there = Desk(root, desk.home, desk.patch)
            gc.collect()
            before = sockets()
            outcome, _ = cancelled(there, at)
            assert children() == [], at
            gc.collect()
            assert settled(before), at
            if at == 1:
                assert there.runs() == [], "nothing of it had been started"
            elif outcome is None:
                check_resumed(there, at)
