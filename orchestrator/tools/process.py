"""Run one confined process to its end, whatever it does: flood, hang, ask for input, leave children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.errors import ToolError
from orchestrator.sandbox import keeper
from orchestrator.tools import strays

HEAD, TAIL = 400_000, 400_000
"""Bytes that are kept of each stream's start and end."""
GRACE_SECONDS = 0.8
"""Between the polite signal and the other one: a person who stops a run has the prompt within 2 s."""
DRAIN_SECONDS = 0.4
KEEPER_SECONDS = 0.6
"""For a keeper to see what it killed gone."""
BY_USER = "by the user"
DISK = "because it was filling the disk"
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")


class Stream:
    """Start and end of what a process printed, with the count of all of it."""

    def __init__(self) -> None:
        self.total = 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._held = 0

    def add(self, piece: bytes) -> None:
        """Keep a piece, and drop from the middle what is too much."""
        self.total += len(piece)
        free = HEAD - len(self._head)
        if free > 0:
            self._head += piece[:free]
            piece = piece[free:]
        if piece:
            self._tail.append(piece)
            self._held += len(piece)
        while self._tail and self._held - len(self._tail[0]) >= TAIL:
            self._held -= len(self._tail.popleft())

    def text(self) -> str:
        """As a terminal would have left it: no colours, a redrawn line only in its last state."""
        tail = b"".join(self._tail)[-TAIL:]
        cut = self.total - len(self._head) - len(tail)
        gap = f"\n[… {cut:,} bytes cut …]\n" if cut > 0 else ""
        if not gap:
            return _plain(bytes(self._head) + tail)
        return _plain(bytes(self._head)) + gap + _plain(tail)


def _plain(raw: bytes) -> str:
    text = _ESCAPES.sub("", raw.decode("utf-8", "replace")).replace("\r\n", "\n")
    lines = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))
    return "\n".join(lines).translate(_VISIBLE)


_VISIBLE = {code: "\ufffd" for code in range(32) if chr(code) not in "\n\t"}


@dataclass(frozen=True)
class Ended:
    """How a process ended and what it printed."""

    code: int | None
    """Exit code; negative for a signal; None when it was stopped."""
    seconds: float
    out: str
    err: str
    stopped: str = ""
    """Why it was stopped: `after 60 s`, `by the user`; empty when it ended by itself."""
    left_children: bool = False
    """It left processes behind, which were stopped."""


def environment() -> dict[str, str]:
    """A clean environment: nothing of ours that could hold a secret, nothing that waits for a person."""
    path = os.environ.get("PATH") or os.defpath
    ours = str(Path(sys.executable).parent)
    if ours not in path.split(os.pathsep):
        # At the end: it only fills in for a `python` or `pytest` that the machine does not have.
        path = f"{path}{os.pathsep}{ours}"
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        "PATH": path,
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_TERMINAL_PROMPT": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def shell() -> str:
    """The shell that commands are given to: bash, else sh."""
    return shutil.which("bash") or shutil.which("sh") or "/bin/sh"


@dataclass(frozen=True)
class Room:
    """When a command has filled the disk: little is free, and it was not so little when it began."""

    least_bytes: int = 1 << 30
    taken_bytes: int = 1 << 30
    every_seconds: float = 0.5


@dataclass(frozen=True)
class Job:
    """What to run and for how long."""

    argv: list[str]
    cwd: Path
    seconds: float
    stdin: IO[bytes] | None = None
    """An open file; None gives the process an empty input."""
    room: Room = Room()
    inherits: tuple[int, ...] = ()
    """Numbers of open files that the process keeps beside its streams."""
    is_kept: bool = sys.platform == "linux"
    """Whether a keeper sees its processes gone, because no sandbox does: see `sandbox.keeper`."""


async def run(job: Job, cancel: asyncio.Event) -> Ended:
    """Run to the end, the time limit or the cancellation; all that it started is gone when this returns.

    Raises ToolError when it cannot be started.
    """
    if cancel.is_set():
        return Ended(None, 0.0, "", "", BY_USER)
    started = time.monotonic()
    out, err, told = Stream(), Stream(), Stream()
    mark = secrets.token_hex(8)
    known: set[strays.Process] = set()
    with contextlib.ExitStack() as stack:
        ends = [_pipe(stack, stream) for stream in (out, err, told)]
        try:
            process = await _started(job, [writer for writer, _ in ends], mark)
        except OSError as error:
            raise ToolError(f"the command could not be started: {error.strerror or error}") from None
        finally:
            for writer, _ in ends:
                os.close(writer)
        try:
            stopped = await _wait(process, job, cancel, known)
            # A child that was left behind holds the pipes: what is in them is read, the child is not awaited.
            _, held = await asyncio.wait([done for _, done in ends], timeout=DRAIN_SECONDS)
        finally:
            if not job.is_kept:
                _signal(process.pid, signal.SIGKILL)
            elif process.returncode is not None and not told.total:
                # The keeper was killed itself, which no sandbox hinders.
                strays.end(mark, known)
        await asyncio.wait([done for _, done in ends], timeout=DRAIN_SECONDS)
    seconds = time.monotonic() - started
    code = None if stopped else process.returncode
    has_left = bool(held) or told.text() == keeper.CLEANED.decode()
    return Ended(code, seconds, out.text(), err.text(), stopped, has_left and not stopped)


async def _started(job: Job, writers: list[int], mark: str) -> asyncio.subprocess.Process:
    out, err, told = writers
    argv, inherits, marked = job.argv, job.inherits, {}
    if job.is_kept:
        argv, inherits = keeper.kept(argv, told, GRACE_SECONDS, DRAIN_SECONDS), (*inherits, told)
        marked = {strays.MARK: mark}
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=job.stdin or asyncio.subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=job.cwd,
        env={**environment(), **marked},
        start_new_session=True,
        pass_fds=inherits,
    )


def _pipe(stack: contextlib.ExitStack, stream: Stream) -> tuple[int, asyncio.Future[None]]:
    """A pipe of our own: asyncio's would make waiting for the process wait for its children too."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def readable() -> None:
        try:
            piece = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if piece:
            stream.add(piece)
        else:
            loop.remove_reader(reader)
            done.set_result(None)

    loop.add_reader(reader, readable)
    stack.callback(os.close, reader)
    stack.callback(loop.remove_reader, reader)
    return writer, done


async def _wait(
    process: asyncio.subprocess.Process, job: Job, cancel: asyncio.Event, known: set[strays.Process]
) -> str:
    """Wait for the end and say why it was stopped, if it was; what it has started by then is known then."""
    ended, cancelled = asyncio.ensure_future(process.wait()), asyncio.ensure_future(cancel.wait())
    filled = asyncio.ensure_future(_filled(job.cwd, job.room))
    try:
        waiting = {ended, cancelled, filled}
        await asyncio.wait(waiting, timeout=job.seconds, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ""
        if filled.done():
            return DISK
        return BY_USER if cancelled.done() and cancelled.result() else f"after {job.seconds:g} s"
    finally:
        cancelled.cancel()
        filled.cancel()
        if not ended.done():
            if job.is_kept:
                known |= strays.descendants(process.pid)
            await _end(process.pid, ended, KEEPER_SECONDS if job.is_kept else 0.0)


async def _filled(folder: Path, room: Room) -> None:
    """Return when the disk of a folder has been filled since now: the kernel limits each file, not all."""
    before = 0
    with contextlib.suppress(OSError):
        before = shutil.disk_usage(folder).free
    while True:
        await asyncio.sleep(room.every_seconds)
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
            if free < room.least_bytes and before - free > room.taken_bytes:
                return


async def _end(group: int, ended: asyncio.Future[int], keeper_seconds: float) -> None:
    """Ask the whole group to end, then make it; a keeper does both to what it keeps."""
    try:
        _signal(group, signal.SIGTERM)
        await asyncio.wait({ended}, timeout=GRACE_SECONDS + keeper_seconds)
    finally:
        if keeper_seconds and not ended.done():
            # Should this be cancelled once more, the keeper goes on by itself.
            _signal(group, signal.SIGUSR1)
            await asyncio.wait({ended}, timeout=keeper_seconds)
        _signal(group, signal.SIGKILL)
        await ended


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
