"""Commands and code run to their end and no further, and what they print comes back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from pathlib import Path

import pytest
from patience import until
from scripted_sandbox import Unconfined, context, use, use_with

from orchestrator.errors import ToolError
from orchestrator.tools import process
from orchestrator.tools.base import call, parse
from orchestrator.tools.registry import TOOLS


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_both_streams_and_the_code_come_back(tmp_path: Path) -> None:
    text = use("run_command", tmp_path, command="echo out; echo err >&2; exit 3")
    head, *rest = text.splitlines()
    assert head.startswith("exit code 3 (0.")
    assert rest == ["out", "stderr:", "err"]


def test_silence_is_said(tmp_path: Path) -> None:
    assert use("run_command", tmp_path, command="true").endswith("\n(no output)")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program", "exit code 127 (command not found)"),
        ("touch x; ./x", "exit code 126 (found but may not be executed)"),
        ("kill -9 $$", "ended by signal SIGKILL"),
        ("cat; echo end", "end"),
        ("printf 'a\\033[31mred\\033[0m\\n10%%\\r100%%\\n'", "ared\n100%"),
        ("head -c 3 /dev/zero", "\ufffd"),
    ],
)
def test_endings_are_explained(command: str, said: str, tmp_path: Path) -> None:
    assert said in use("run_command", tmp_path, command=command)


def test_the_folder_is_the_one_asked_for_and_lies_inside(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert use("run_command", tmp_path, command="pwd", cwd="sub").endswith(f"{tmp_path}/sub")
    with pytest.raises(ToolError, match="out of the workspace"):
        use("run_command", tmp_path, command="pwd", cwd="..")
    with pytest.raises(ToolError, match="no folder 'sup'; did you mean 'sub'"):
        use("run_command", tmp_path, command="pwd", cwd="sup")


def test_a_flood_keeps_head_and_tail(tmp_path: Path) -> None:
    text = use(
        "run_command",
        tmp_path,
        command="echo first; head -c 20000000 /dev/zero | tr '\\0' x; echo; echo last",
    )
    assert "first" in text
    assert "cut" in text
    assert "last" in text
    assert len(text) < 12_000


def test_a_time_limit_ends_the_whole_group_and_keeps_the_output(tmp_path: Path) -> None:
    started = time.monotonic()
    text = use("run_command", tmp_path, command="echo begun; sleep 60 & echo $! > pid; wait", seconds=0.4)
    assert text.startswith("stopped after 0.4 s")
    assert "begun" in text
    assert time.monotonic() - started < 4
    process = int((tmp_path / "pid").read_text(encoding="utf-8"))
    until(lambda: not is_running(process))
    assert not is_running(process)


def test_a_command_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    assert "stopped" in use(
        "run_command", tmp_path, command="trap '' TERM; while :; do sleep 0.1; done", seconds=0.2
    )
    assert time.monotonic() - started < 5


def test_the_settings_bound_what_a_command_may_ask_for(tmp_path: Path) -> None:
    given = context(tmp_path, command_seconds=0.3)
    assert "stopped after 0.3 s" in use_with(given, "run_command", command="sleep 30", seconds=999)


def test_a_child_in_the_background_neither_hangs_nor_stays(tmp_path: Path) -> None:
    started = time.monotonic()
    text = use("run_command", tmp_path, command="sleep 60 & echo $! > pid; echo done")
    assert time.monotonic() - started < 3
    assert "exit code 0" in text
    assert "left in the background were stopped" in text
    time.sleep(0.05)
    assert not is_running(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_a_person_can_stop_a_command(tmp_path: Path) -> None:
    async def stopped() -> str:
        given = context(tmp_path)
        asyncio.get_running_loop().call_later(0.3, given.cancel.set)
        tool = TOOLS["run_command"]
        return await call(tool, parse(tool, {"command": "echo begun; sleep 60"}), given)

    text = asyncio.run(stopped())
    assert text.startswith("stopped by the user")
    assert "begun" in text


def test_a_cancelled_task_leaves_no_process(tmp_path: Path) -> None:
    async def cancelled() -> None:
        tool = TOOLS["run_command"]
        command = parse(tool, {"command": "echo $$ > pid; sleep 60"})
        task = asyncio.ensure_future(call(tool, command, context(tmp_path)))
        # The shell is another process: there is nothing to wait on but its file.
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text(encoding="utf-8"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not is_running(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_no_secret_of_ours_reaches_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "DB_PASSWORD", "GH_TOKEN", "MY_SECRET", "PLAIN"):
        monkeypatch.setenv(name, "hunter2")
    text = use("run_command", tmp_path, command="env")
    assert "hunter2" not in text
    assert "TERM=dumb" in text
    assert "GIT_TERMINAL_PROMPT=0" in text


def test_a_machine_without_python_gets_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    assert "exit code 0" in use("run_command", tmp_path, command="python -m pytest --version; python3 -c 1")


@pytest.mark.parametrize(
    ("tool", "is_reading", "view"),
    [("run_command", False, "work"), ("run_command", True, "inspect"), ("run_python", True, "work")],
)
def test_the_sandbox_is_asked_with_the_view_that_fits(
    tool: str, is_reading: bool, view: str, tmp_path: Path
) -> None:
    sandbox = Unconfined()
    given = dataclasses.replace(context(tmp_path), sandbox=sandbox, read_only_command=is_reading)
    arguments = {"code": "print(6 * 7)"} if tool == "run_python" else {"command": "echo 42"}
    assert use_with(given, tool, **arguments).endswith("\n42")
    assert sandbox.last is not None
    assert (sandbox.last.view, sandbox.last.root) == (view, tmp_path)


def test_python_runs_in_the_workspace_and_shows_its_last_value(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("value = 40\n", encoding="utf-8")
    text = use("run_python", tmp_path, code="import mine\nprint('hi')\nmine.value + 2")
    assert text.splitlines()[1:] == ["hi", "42"]
    assert "(no output)" in use("run_python", tmp_path, code="x = 1")


def test_a_traceback_has_the_lines_of_the_code_and_none_of_ours(tmp_path: Path) -> None:
    text = use("run_python", tmp_path, code="def f(x):\n    return 1 / x\n\nf(0)\n")
    assert text.startswith("exit code 1")
    assert 'File "code.py", line 2, in f\n    return 1 / x' in text
    assert "ZeroDivisionError" in text
    assert "<string>" not in text
    assert "SyntaxError" in use("run_python", tmp_path, code="x = (\n")
    assert use("run_python", tmp_path, code="import sys; sys.exit(4)").startswith("exit code 4")


def test_code_that_reads_input_gets_the_end_of_it(tmp_path: Path) -> None:
    assert "EOFError" in use("run_python", tmp_path, code="input('name? ')", seconds=10)


def test_long_code_fits(tmp_path: Path) -> None:
    assert "300000" in use("run_python", tmp_path, code=f"x = '{'y' * 300_000}'\nprint(len(x))")


def test_a_command_that_fills_the_disk_with_many_files_is_stopped(tmp_path: Path) -> None:
    script = 'for i in {1..200}; do head -c 1M /dev/zero > "f$i"; done; exec tail -f /dev/null'
    room = process.Room(least_bytes=1 << 60, taken_bytes=32 << 20, every_seconds=0.05)
    job = process.Job(["/bin/bash", "-c", script], tmp_path, 30, room=room)
    ended = asyncio.run(process.run(job, asyncio.Event()))
    assert (ended.code, ended.stopped) == (None, process.DISK)
    assert ended.seconds < 20


STRAYS = [
    "setsid sleep 300 & sleep 300",
    "trap '' TERM; (trap '' TERM; setsid sleep 300) & setsid env -i sleep 300 & sleep 300",
    "setsid bash -c 'setsid sleep 300 & echo $! >> pids; wait' & wait",
]


@pytest.mark.parametrize("command", STRAYS)
def test_what_leaves_the_process_group_ends_with_the_command(command: str, tmp_path: Path) -> None:
    def sleeping() -> set[str]:
        found = set()
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if place.read_bytes() == b"sleep\x00300\x00" and is_running(int(place.parent.name)):
                    found.add(place.parent.name)
        return found

    before = sleeping()

    async def work() -> None:
        event = asyncio.Event()
        job = process.Job(["/bin/bash", "-c", command], tmp_path, 60)
        running = asyncio.ensure_future(process.run(job, event))
        await asyncio.to_thread(until, lambda: len(sleeping() - before) >= command.count("sleep"))
        event.set()
        await running

    asyncio.run(work())
    assert sleeping() == before


def test_a_command_that_ends_by_itself_takes_what_it_left_along(tmp_path: Path) -> None:
    text = use("run_command", tmp_path, command="setsid sleep 301 > /dev/null 2>&1 & echo $!")
    assert not is_running(int(text.splitlines()[1]))
