"""No process outlives its command, where no wall ends it: neither a daemon nor when orc itself is killed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import PATIENCE, Desk, alive, slowness, wait_for
from patience import until
from scripted import Call

from orchestrator.sandbox import Confinement, Sandbox, keeper, needs_keeper
from orchestrator.sandbox.landlock import LEAST, Landlock, version
from orchestrator.sandbox.none import NoSandbox
from orchestrator.tools.process import BY_USER, Ended, Job, run

SANDBOXES = [
    NoSandbox(),
    pytest.param(
        Landlock(), marks=pytest.mark.skipif(version() < LEAST, reason=f"Landlock {LEAST} is not here")
    ),
]
either = pytest.mark.parametrize("sandbox", SANDBOXES, ids=["none", "landlock"])
SECONDS = 2.0

DAEMON = """
import os, signal, sys, time
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
for stream in range(3):
    os.dup2(os.open("/dev/null", os.O_RDWR), stream)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]], {})
"""
"""Leaves its group and its session, forks twice, empties its environment and ignores what asks it to end."""


HOPPER = """
import os, time
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0)
"""


class Task:
    """A command that starts a daemon, and the mark by which that is found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = f"daemon-{secrets.token_hex(4)}"
        (root / "daemon.py").write_text(DAEMON, "utf-8")

    def command(self, rest: str) -> str:
        return f"{sys.executable} daemon.py {self.mark}; {rest}"

    def has_begun(self) -> bool:
        return any("time.sleep" in line for line in alive(self.mark))

    def run(
        self, sandbox: Sandbox, command: str, seconds: float = 60, cancel: asyncio.Event | None = None
    ) -> asyncio.Task[Ended]:
        argv = sandbox.wrap(["/bin/bash", "-c", command], Confinement(self.root, self.root))
        job = Job(argv, self.root, seconds, is_kept=needs_keeper(sandbox))
        return asyncio.create_task(run(job, cancel or asyncio.Event()))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


@either
@pytest.mark.parametrize("rest", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done"])
def test_a_stopped_command_takes_its_daemon_along(task: Task, sandbox: Sandbox, rest: str) -> None:
    async def work() -> tuple[Ended, float]:
        cancel = asyncio.Event()
        running = task.run(sandbox, task.command(rest), cancel=cancel)
        await asyncio.to_thread(until, task.has_begun)
        assert not running.done(), running.result()
        stopped = time.monotonic()
        cancel.set()
        return await running, time.monotonic() - stopped

    ended, seconds = asyncio.run(work())
    assert not alive(task.mark)
    assert ended.stopped == BY_USER
    assert seconds < SECONDS * slowness()


@either
def test_a_time_limit_takes_the_daemon_along(task: Task, sandbox: Sandbox) -> None:
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, task.command("sleep 600"), seconds=0.7)))
    assert ended.stopped == "after 0.7 s"
    assert not alive(task.mark)


@either
def test_a_cancelled_task_takes_the_daemon_along(task: Task, sandbox: Sandbox) -> None:
    async def work() -> None:
        running = task.run(sandbox, task.command("trap '' TERM; while :; do sleep 0.1; done"))
        await asyncio.to_thread(until, task.has_begun)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(work())
    assert not alive(task.mark)


@either
def test_a_daemon_ends_with_a_command_that_ends_by_itself(task: Task, sandbox: Sandbox) -> None:
    begun = task.root / "begun"
    command = task.command(f"touch {begun.name}; echo done; exit 3")
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, command)))
    assert not alive(task.mark)
    assert (ended.code, ended.out, ended.left_children) == (3, "done\n", True)
    assert begun.exists()


@either
def test_what_hops_from_process_to_process_is_caught(task: Task, sandbox: Sandbox) -> None:
    (task.root / "hop.py").write_text(HOPPER, "utf-8")
    command = f"{sys.executable} hop.py {task.mark}; sleep 600"
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, command, seconds=0.5)))
    assert ended.stopped
    assert not alive(task.mark)


@either
@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 7", 7), ("kill -9 $$", -9), ("kill -SEGV $$", -11), ("true", 0), ("no-such", 127)],
)
def test_the_end_of_a_command_is_told_as_it_was(
    task: Task, sandbox: Sandbox, command: str, code: int
) -> None:
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, command)))
    assert (ended.code, ended.left_children) == (code, False)


@either
def test_a_pipe_whose_reader_is_gone_ends_its_writer_in_silence(task: Task, sandbox: Sandbox) -> None:
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, "yes | head -n 1; echo ${PIPESTATUS[0]}")))
    assert (ended.out, ended.err) == ("y\n141\n", "")


@either
def test_what_still_writes_after_the_end_is_read(task: Task, sandbox: Sandbox) -> None:
    ended = asyncio.run(_awaited(lambda: task.run(sandbox, "(sleep 0.1; echo late) & echo early")))
    assert (ended.out, ended.left_children) == ("early\nlate\n", False)


def test_a_command_that_kills_its_keeper_is_found_all_the_same(task: Task) -> None:
    command = (
        f"setsid sleep 600 {task.mark} & (sleep 600; : {task.mark}) & kill -9 $PPID; sleep 600; : {task.mark}"
    )
    command = command.replace("sleep 600 daemon", "python3 -c 'import time; time.sleep(600)' daemon")
    asyncio.run(_awaited(lambda: task.run(NoSandbox(), command)))
    assert not alive(task.mark)


def test_children_are_found_where_the_kernel_does_not_list_them() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert keeper._is_child(str(child.pid))
        assert child.pid in keeper._children()
        assert not keeper._is_child("1")
        assert not keeper._is_child("999999999")
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(version() < LEAST, reason=f"Landlock {LEAST} is not here")
def test_a_confined_command_cannot_reach_its_keeper(task: Task) -> None:
    ended = asyncio.run(_awaited(lambda: task.run(Landlock(), "kill -9 $PPID; kill -USR1 $PPID; echo here")))
    assert (ended.code, ended.out) == (0, "here\n")


async def _awaited(start: Callable[[], asyncio.Task[Ended]]) -> Ended:
    return await start()


ORC = """
import sys
from orchestrator.sandbox import detect
detect.programs = lambda: []
from orchestrator.cli import main
main(["run", "--yes", "@coder wait"])
"""
"""orc on a machine without bubblewrap."""


@pytest.mark.parametrize("kind", ["none", "auto"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "SIGTERM", "orc stop"])
def test_nothing_of_a_command_outlives_orc(desk: Desk, kind: str, how: str) -> None:
    desk.user_settings({"sandbox": kind})
    task, marker = Task(desk.root), desk.write("src/marker", "")
    marker.unlink()
    command = task.command("trap '' TERM; touch src/marker; while :; do sleep 0.1; done")
    with desk.model([Call("run_command", command=command, seconds=600)]):
        process = subprocess.Popen(
            [sys.executable, "-c", ORC], cwd=desk.root, stderr=subprocess.PIPE, text=True
        )
        desk.processes.append(process)
        wait_for(marker)
        until(task.has_begun)
        stopped = time.monotonic()
        if how == "orc stop":
            assert desk.orc("stop", desk.runs()[0].name).code == 0
        else:
            process.send_signal(signal.Signals[how])
        process.communicate(timeout=PATIENCE)
        while alive(task.mark) and time.monotonic() < stopped + PATIENCE:
            time.sleep(0.02)
    assert time.monotonic() - stopped < SECONDS * slowness()
