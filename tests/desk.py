"""A workspace to work at: the session in this process, or the real command in another one.

turn = desk.work("@coder write a", [Call("write_file", path="a", content="hi"), Say("wrote a")])
done = desk.orc("runs", "list")
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from scripted import Request, Script, ScriptedModel

from orchestrator.errors import OrcError
from orchestrator.events import Event, read_events
from orchestrator.kinds import KINDS
from orchestrator.runs import Run, Runs
from orchestrator.session import Approver, Options, Outcome, Session
from orchestrator.storage import open_state

ORC = Path(sys.executable).with_name("orc")
KEY = "scripted-key-1234"
PATIENCE = 120.0
"""Seconds that a test waits for what will come; only a machine that is very busy needs them."""


def published(event: Event) -> None:
    """Hold an event against the published form of its kind."""
    KINDS[event.kind].model_validate(event.fields)


@dataclass(frozen=True)
class Turn:
    """What became of a turn that was worked on in this process."""

    outcome: Outcome | None
    error: OrcError | None
    shown: list[Event]
    requests: list[Request]

    def __post_init__(self) -> None:
        for event in self.shown:
            published(event)

    @property
    def answer(self) -> str:
        assert self.outcome is not None, f"the turn ended with {self.error!r}"
        return self.outcome.answer

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.shown if event.kind == kind]

    def texts(self, kind: str) -> list[str]:
        return [str(event.fields["text"]) for event in self.of(kind)]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """A fresh workspace, and a home of its own for orc."""

    root: Path
    home: Path
    patch: pytest.MonkeyPatch
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @contextmanager
    def model(
        self, script: Sequence[Any] | Script, *, model: dict[str, Any] | None = None, **options: Any
    ) -> Iterator[ScriptedModel]:
        """Serve a script; `model` are settings of the default tier, in the user's own settings file."""
        with ScriptedModel(script, **options) as served:
            self.patch.setenv("OPENAI_BASE_URL", served.base_url)
            self.patch.setenv("OPENAI_API_KEY", KEY)
            if model is not None:
                tier = {"model": "scripted", "base_url": served.base_url, **model}
                self.user_settings({"models": {"default": tier}})
            yield served

    def user_settings(self, settings: dict[str, Any]) -> None:
        (self.home / "config").mkdir(exist_ok=True)
        (self.home / "config" / "orchestrator.yaml").write_text(json.dumps(settings), "utf-8")

    def settings(self, settings: dict[str, Any]) -> None:
        """JSON is YAML."""
        (self.root / "orchestrator.yaml").write_text(json.dumps(settings), "utf-8")

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def text(self, name: str) -> str:
        return (self.root / name).read_text("utf-8")

    def work(
        self,
        request: str | None,
        script: Sequence[Any] | Script,
        *,
        run: str | None = None,
        approves: bool = False,
        approver: Approver | None = None,
        **options: Any,
    ) -> Turn:
        """Work on a request in this process; None resumes."""
        shown: list[Event] = []
        with self.model(script, **options) as served:
            session = Session(
                self.root, Options(approves=approves, approver=approver, listeners=[shown.append])
            )
            todo = session.resume(run) if request is None else session.run(request, run=run)
            try:
                return Turn(asyncio.run(todo), None, shown, served.requests)
            except OrcError as error:
                return Turn(None, error, shown, served.requests)

    def runs(self) -> list[Run]:
        connection = open_state(self.root)
        try:
            return Runs(connection, self.root).list()
        finally:
            connection.close()

    def events(self, kind: str = "") -> list[Event]:
        """Stored events of the newest run."""
        connection = open_state(self.root)
        try:
            run = Runs(connection, self.root).list(1)[0]
            return [event for event in read_events(connection, run.id) if kind in {"", event.kind}]
        finally:
            connection.close()

    def orc(self, *arguments: str, stdin: str = "", **env: str) -> Done:
        """Run the command to its end, without a terminal."""
        process = self.start(*arguments, stdin=subprocess.PIPE, **env)
        out, err = process.communicate(stdin, timeout=PATIENCE)
        return Done(process.returncode, out, err)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(ORC), *arguments],
            cwd=self.root,
            env={**os.environ, **env},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


class Terminal:
    """The command with a person at it: stdin and stderr are a terminal, stdout is a pipe."""

    def __init__(self, desk: Desk, *arguments: str, **env: str) -> None:
        self._end, theirs = pty.openpty()
        self.seen = ""
        self._process = subprocess.Popen(
            [str(ORC), *arguments],
            cwd=desk.root,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **env},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        os.close(self._end)

    @property
    def mode(self) -> list[Any]:
        """How the terminal treats what is typed."""
        return termios.tcgetattr(self._end)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def interrupt(self) -> None:
        self.signal(signal.SIGINT)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def read(self, seconds: float) -> bool:
        """Read what is on the screen; False when the other end is closed."""
        if not select.select([self._end], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self._end, 65536)
        except OSError:
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, text: str, times: int = 1, seconds: float = PATIENCE) -> None:
        until = time.monotonic() + seconds
        while self.seen.count(text) < times and time.monotonic() < until and self.read(0.1):
            pass
        assert self.seen.count(text) >= times, f"{text!r} was not shown in:\n{self.seen}"

    def end(self, seconds: float = PATIENCE) -> Done:
        """Wait until the command is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.read(0.1):
            pass
        out, _ = self._process.communicate(timeout=PATIENCE)
        return Done(self._process.returncode, out, self.seen)


def slowness() -> float:
    """How many times longer than on an idle machine something takes now."""
    started, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.03:
        pass
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return max(1.0, load, (time.monotonic() - started) / 0.03)


def wait_for(path: Path, seconds: float = PATIENCE) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists(), f"{path} did not appear"


def alive(text: str) -> list[str]:
    """Command lines of living processes that hold a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            is_dead = (folder / "stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] in "ZX"
        except OSError:
            continue
        if text in line and not is_dead and int(folder.name) != os.getpid():
            found.append(line)
    return found
