"""Ctrl-C at any moment from the first line of ours on: one line or the normal end, never a traceback."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from desk import ORC, PATIENCE, Desk, Done, wait_for
from scripted import Say

import orchestrator
from orchestrator import __main__ as entry

SITE = """
import pathlib, sys
class First:
    def find_spec(self, name, *_):
        if name == "orchestrator.quiet":
            sys.meta_path.remove(self)
            pathlib.Path("marker").touch()
sys.meta_path.insert(0, First())
"""
"""Says when the first line of ours has run: what Python does before takes as long as the machine is busy."""
COMMANDS = {"help": ["--help"], "runs": ["runs", "list"], "run": ["run", "-q", "hello, how are you today?"]}
CASES = [
    *(("help", ms) for ms in range(0, 100, 8)),
    *(("runs", ms) for ms in (*range(0, 130, 10), 160, 200, 300)),
    *(("run", ms) for ms in (0, 20, 60, 100, 160, 230, 310, 400)),
]


def pressed(desk: Desk, arguments: list[str], seconds: float) -> Done:
    """Run the command and press Ctrl-C so long after its first line."""
    desk.write("first/sitecustomize.py", SITE)
    (desk.root / "marker").unlink(missing_ok=True)
    process = desk.start(*arguments, PYTHONPATH="first")
    wait_for(desk.root / "marker")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


@pytest.mark.parametrize(("command", "milliseconds"), CASES)
def test_a_press_while_the_command_starts_takes_one_line(desk: Desk, command: str, milliseconds: int) -> None:
    desk.settings({})
    with desk.model(lambda _: Say("Fine.")):
        done = pressed(desk, COMMANDS[command], milliseconds / 1000)
    # The last milliseconds of a process are Python's own again: its output is whole by then.
    assert done.code in {130, 0, -signal.SIGINT}, done
    if done.code == 130:
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("error: stopped")
    else:
        assert "Traceback" not in done.err
        assert command != "run" or done.out == "Fine.\n"
    if "goes on" in done.err:
        assert desk.runs()[0].status == "stopped"
        assert desk.work(None, [Say("Fine.")]).answer == "Fine."


def test_nothing_is_imported_before_a_press_is_taken() -> None:
    """Each import would be a moment in which Python shows a traceback; these two are there already."""
    lines = ast.parse(Path(entry.__file__).read_text("utf-8")).body
    imported = [name.name for line in lines if isinstance(line, ast.Import) for name in line.names]
    assert imported == ["_signal", "os"]
    assert not any(isinstance(line, ast.ImportFrom) for line in lines)
    code = "import orchestrator, sys; print(len(sys.modules))"
    bare = "import sys; print(len(sys.modules))"
    counts = [int(subprocess.check_output([sys.executable, "-c", each])) for each in (code, bare)]
    assert counts[0] - counts[1] <= 1, orchestrator


def test_a_press_that_is_ignored_stays_so(desk: Desk) -> None:
    """As in what a script starts in the background."""
    desk.write("first/sitecustomize.py", SITE + "import time; time.sleep(0)\n")
    command = f"trap '' INT; exec {ORC} runs list"
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=desk.root,
        env={"PYTHONPATH": "first", "HOME": str(desk.home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    desk.processes.append(process)
    wait_for(desk.root / "marker")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "no runs here yet" in err


DROPPED = """
import os, signal, sys, time, weakref
from orchestrator import quiet
quiet.begin(); quiet.works()
class Thing: pass
thing = Thing()
kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT) or time.sleep(0.1))
try:
    del thing
    time.sleep(5)
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""


def test_a_press_that_python_drops_is_not_lost() -> None:
    """In a callback Python prints an exception and goes on; the import system has such callbacks."""
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_press_after_the_end_changes_nothing(desk: Desk, number: signal.Signals) -> None:
    code = (
        "import atexit, pathlib, time, sys\n"
        "def last():\n    pathlib.Path('marker').touch(); time.sleep(0.5)\n"
        "atexit.register(last)\nsys.argv = ['orc', 'run', '-q', 'hello, how are you today?']\n"
        "from orchestrator.__main__ import main\nmain()"
    )
    with desk.model([Say("Fine.")]):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=desk.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        desk.processes.append(process)
        wait_for(desk.root / "marker")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "Fine.\n", "")
