"""Whoever ends a run gets the prompt back within 2 s: nothing is left running, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from desk import PATIENCE, Desk, Terminal, alive, slowness, wait_for
from scripted import Call, Calls, Request, Say, Stall

from orchestrator.errors import BudgetExceeded, Interrupted, TimedOut
from orchestrator.runs import Runs
from orchestrator.session import Options, Session
from orchestrator.storage import opened_state

ASIDE, SLEEP = (f"sleep {seconds}.{os.getpid()}" for seconds in (4544, 4444))
"""Of this process alone: another one may run the same test file."""
LONG = Call(
    "run_command", command=f"touch marker; echo begun; {ASIDE} & {SLEEP}; echo late >> log", seconds=600
)
PROMPT = 2.0
"""Seconds until the prompt is back, on a machine that is not busy."""


def prompt() -> float:
    """What is asked of this machine now."""
    return PROMPT * slowness()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, float]:
    started = time.monotonic()
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err, time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_long_command_and_leaves_no_process(desk: Desk, number: signal.Signals) -> None:
    with desk.model([LONG]):
        process = desk.start("run", "@coder wait")
        wait_for(desk.root / "marker")
        process.send_signal(number)
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert "orc resume" in err
    assert seconds < prompt()
    assert not alive(ASIDE)
    assert not alive(SLEEP)
    assert not (desk.root / "log").exists()
    assert desk.runs()[0].status == "stopped"
    turn = desk.work(None, [Say("it was stopped")])
    assert "stopped by the user; output so far:\nbegun" in turn.requests[0].last
    assert turn.answer == "it was stopped"


def test_a_command_that_will_not_end_is_made_to(desk: Desk) -> None:
    stubborn = "trap '' TERM INT; touch marker; while :; do sleep 0.1; done; : stubborn"
    with desk.model([Call("run_command", command=stubborn, seconds=600)]):
        process = desk.start("run", "@coder wait")
        wait_for(desk.root / "marker")
        process.send_signal(signal.SIGINT)
        code, _, seconds = ended(process)
    assert code == 130
    assert seconds < prompt()
    assert not alive("stubborn")


def test_calls_that_have_ended_are_not_repeated_and_the_rest_is_asked_for_again(desk: Desk) -> None:
    calls = Calls([
        Call("run_command", command="echo one >> log"),
        Call("run_command", command="touch marker; sleep 4144"),
        Call("run_command", command="echo two >> log"),
    ])
    with desk.model([calls]):
        process = desk.start("run", "@coder log one and two")
        wait_for(desk.root / "marker")
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
    assert desk.text("log") == "one\n"
    turn = desk.work(None, [Say("logged one and two")])
    assert turn.answer == "logged one and two"
    assert desk.text("log") == "one\ntwo\n"


def test_a_model_call_is_cut_off_its_connection_closed_and_its_text_kept(desk: Desk) -> None:
    with desk.model([Stall(600, Say("a long story that nobody hears the end of"), after=12)]) as served:
        process = desk.start("run", "--json", "hello, how are you today?")
        assert process.stdout is not None
        assert any('"kind":"text"' in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        code, err, seconds = ended(process)
        until = time.monotonic() + PATIENCE
        while not served.disconnects and time.monotonic() < until:
            time.sleep(0.02)
        assert served.disconnects == 1
    assert (code, "Traceback" in err) == (130, False)
    assert seconds < prompt()
    assert [event.fields["text"][:12] for event in desk.events("partial")] == ["a long story"]
    assert desk.work(None, [Say("Fine.")]).answer == "Fine."


SLOW_READ = """
import asyncio, sys, time
from dataclasses import replace
from pathlib import Path
from orchestrator.cli import main
from orchestrator.tools.registry import TOOLS

async def read(arguments, context):
    Path("marker").touch()
    return await asyncio.to_thread(time.sleep, 600)

TOOLS["read_file"] = replace(TOOLS["read_file"], run=read)
main(["run", "@coder read a"])
"""


def test_a_thread_that_reads_a_slow_disk_holds_nobody_up(desk: Desk) -> None:
    with desk.model([Call("read_file", path="a")]):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_READ], cwd=desk.root, stderr=subprocess.PIPE, text=True
        )
        desk.processes.append(process)
        wait_for(desk.root / "marker")
        process.send_signal(signal.SIGINT)
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert f"`orc resume {desk.runs()[0].id}` goes on" in err
    assert seconds < prompt()
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, lambda _: Say("read")).answer == "read"


SLOW_IMPORT = """
import pathlib, sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "LIBRARY":
            pathlib.Path("marker").touch()
            time.sleep(600)
sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("library", ["langgraph", "openai"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_is_slow_to_load_holds_nobody_up(
    desk: Desk, number: signal.Signals, library: str
) -> None:
    desk.write("slow/sitecustomize.py", SLOW_IMPORT.replace("LIBRARY", library))
    with desk.model([Call("list_files"), Say("nothing here")]):
        process = desk.start("run", "@coder list", PYTHONPATH="slow")
        wait_for(desk.root / "marker")
        process.send_signal(number)
        code, err, seconds = ended(process)
    assert (code, "Traceback" in err) == (130, False)
    assert seconds < prompt()
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, [Call("list_files"), Say("nothing here")]).answer == "nothing here"


def test_a_press_before_a_run_has_begun_ends_with_130_too(desk: Desk) -> None:
    process = desk.start("run", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("x" * 1_000_000)
    process.send_signal(signal.SIGINT)
    code, err, _ = ended(process)
    assert (code, err) == (130, "error: stopped\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_question_puts_it_off(desk: Desk, number: signal.Signals) -> None:
    with (
        desk.model([Call("run_command", command="git push --force")]),
        Terminal(desk, "run", "@coder push") as terminal,
    ):
        terminal.wait_for("decide later")
        terminal.signal(number)
        done = terminal.end()
    assert done.code == 3
    assert "Traceback" not in done.err
    assert desk.runs()[0].status == "waiting"
    assert not desk.events("tool_intent")


def test_a_run_is_stopped_from_another_process(desk: Desk) -> None:
    with desk.model([LONG]):
        process = desk.start("run", "@coder wait")
        wait_for(desk.root / "marker")
        run = desk.runs()[0].id
        done = desk.orc("stop", run)
        code, err, seconds = ended(process)
    assert (done.code, done.out) == (0, f"{run} is stopped; `orc resume {run}` goes on\n")
    assert code == 130
    assert "stopped by `orc stop`" in err
    assert seconds < prompt()
    assert not alive(SLEEP)
    again = desk.orc("stop", run)
    assert (again.code, "nothing works on" in again.err) == (2, True)
    assert desk.work(None, [Say("it was stopped")]).answer == "it was stopped"


EDITOR = """
import time, tty
tty.setraw(0)
print("editing", flush=True)
time.sleep(600)
"""
QUESTIONS = {
    "approval": ((), "decide later"),
    "edit": (("e\n",), "command:"),
    "editor": (("e\n",), "editing"),
    "reason": (("r\n",), "instead?"),
}


@pytest.mark.parametrize("where", QUESTIONS)
def test_a_run_that_asks_a_person_is_stopped_and_the_terminal_is_as_it_was(desk: Desk, where: str) -> None:
    more = "\ngit status" if where == "editor" else ""
    push = Call("run_command", command=f"git push --force{more}")
    desk.write("editor.py", EDITOR)
    editor = f"{sys.executable} {desk.root / 'editor.py'}"
    keys, shown = QUESTIONS[where]
    with desk.model([push]), Terminal(desk, "run", "@coder push", EDITOR=editor) as terminal:
        before = terminal.mode
        terminal.wait_for("decide later")
        for key in keys:
            terminal.type(key)
        terminal.wait_for(shown, times=2 if where == "edit" else 1)
        done = desk.orc("stop", desk.runs()[0].id)
        started = time.monotonic()
        ended = terminal.end()
        assert terminal.mode == before
    assert (done.code, ended.code) == (0, 130), ended.err
    assert time.monotonic() - started < prompt()
    assert "stopped by `orc stop`" in ended.err
    assert "Traceback" not in ended.err
    assert desk.runs()[0].status == "stopped"
    assert not alive("editor.py")
    reject = {"decisions": [{"type": "reject", "message": "no"}]}
    assert desk.work(None, [Say("not pushed")], approver=lambda _: reject).answer == "not pushed"


def test_the_time_limit_ends_a_question_too(desk: Desk) -> None:
    with (
        desk.model([Call("run_command", command="git push --force")]),
        Terminal(desk, "run", "--time-limit", f"{4 * slowness():.0f}s", "@coder push") as terminal,
    ):
        done = terminal.end()
    assert done.code == 124
    assert "decide later" in done.err
    assert "orc resume" in done.err
    assert desk.runs()[0].status == "stopped"


def test_a_run_that_failed_before_it_stopped_is_not_said_to_go_on(desk: Desk) -> None:
    name = desk.work("@coder list", [Call("list_files"), Say("nothing here")]).shown[0].run
    with opened_state(desk.root) as connection:
        runs = Runs(connection, desk.root)
        with runs.held(name) as run:
            process = desk.start("stop", name)
            wait_for(desk.root / ".orc" / "locks" / f"{name}.stop")
            runs.update(run, status="failed")
    out, _ = process.communicate(timeout=PATIENCE)
    assert out == f"{name} is failed\n"


@pytest.mark.parametrize("how", ["closes the pipe", "closes the terminal"])
def test_a_reader_that_hangs_up_ends_the_run(desk: Desk, how: str) -> None:
    late = Call("run_command", command="echo late >> log")
    after = Calls([Call("run_command", command="touch marker; sleep 2"), late])
    with desk.model([after]):
        process = desk.start("run", "--json", "@coder wait")
        wait_for(desk.root / "marker")
        if how == "closes the pipe":
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
        else:
            process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in err, "Exception ignored" in err) == (130, False, False)
    assert "stopped by a hang-up" in err
    assert not (desk.root / "log").exists()
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, lambda _: Say("it was stopped")).answer == "it was stopped"


def test_the_time_limit_ends_a_run_with_124_and_it_goes_on(desk: Desk) -> None:
    with desk.model([Stall(600)]):
        done = desk.orc("run", "--time-limit", "1.5s", "@coder wait")
    assert (done.code, "not done within 1.5 s" in done.err) == (124, True)
    assert [event.fields["type"] for event in desk.events("error")] == [TimedOut.__name__]
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, lambda _: Say("it was stopped")).answer == "it was stopped"


@pytest.mark.parametrize("text", ["0", "-1", "soon", "", "1x", "9999999999h"])
def test_a_senseless_time_limit_is_refused(desk: Desk, text: str) -> None:
    with desk.model([Say("ok")]):
        done = desk.orc("run", f"--time-limit={text}", "@coder wait")
    assert (done.code, "is no time above zero" in done.err) == (2, True)


def test_the_working_time_of_the_settings_ends_a_command_too(desk: Desk) -> None:
    desk.settings({"limits": {"seconds": 1}})
    started = time.monotonic()
    turn = desk.work("@coder wait", [LONG])
    assert isinstance(turn.error, BudgetExceeded)
    assert "limits.seconds" in str(turn.error)
    assert time.monotonic() - started < 8 * slowness()
    assert not alive(SLEEP)


def test_a_caller_that_goes_away_ends_its_run(desk: Desk) -> None:
    async def leave() -> float:
        session = Session(desk.root)
        task = asyncio.create_task(session.run("@coder wait"))
        await asyncio.to_thread(wait_for, desk.root / "marker")
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return time.monotonic() - started

    with desk.model([LONG]):
        assert asyncio.run(leave()) < prompt()
    assert not alive(SLEEP)
    assert desk.runs()[0].status == "stopped"
    assert desk.work(None, [Say("it was stopped")]).answer == "it was stopped"


def test_a_server_that_shuts_down_loses_none_of_its_runs(desk: Desk) -> None:
    many = 12

    async def serve() -> float:
        session = Session(desk.root, Options())
        tasks = [asyncio.create_task(session.run(f"@coder wait {number}")) for number in range(many)]
        for number in range(many):
            await asyncio.to_thread(wait_for, desk.root / f"m{number}")
        started = time.monotonic()
        session.stop()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [Interrupted] * many
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return time.monotonic() - started

    def wait(request: Request) -> Call:
        number = request.last.split()[-1]
        return Call("run_command", command=f"touch m{number}; sleep 4244", seconds=600)

    with desk.model(wait):
        assert asyncio.run(serve()) < 2 * prompt()
    assert not alive("sleep 4244")
    runs = desk.runs()
    assert [run.status for run in runs] == ["stopped"] * many
    for run in runs:
        assert desk.work(None, [Say("it was stopped")], run=run.id).answer == "it was stopped"
