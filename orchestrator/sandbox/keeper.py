"""Start a command and see all that it started gone, however this ends; a script, for where no wall does it.

Arguments: the number of a pipe, the id of the process that asks, seconds between the polite signal and the
other one, seconds for what a command leaves behind, the command. Whatever a command starts and abandons, as
a daemon forks twice, becomes a child of this process: it is killed when the command ended, on SIGTERM,
on SIGUSR1 at once, and when the process that asked is killed. The pipe is told how that went.
Numbers are those of linux/prctl.h. `signal`, `json` and the like are not imported: each costs milliseconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import sys
import time

CLEAN, CLEANED = b".", b"l"
"""What the pipe is told: nothing was left behind, or something was and is gone."""
_PARENT_DEATH, _SUBREAPER = 1, 36
_END_SECONDS = 0.5
"""For the end of what was killed: a process that waits for a disk may take longer, and is not waited for."""
_SIGNALS = {_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1}
_PYTHONS = (_signal.SIGPIPE, _signal.SIGXFSZ)
"""Signals that Python ignores, which a command must not."""
_CONFINED = os.path.join(os.path.dirname(__file__), "confined.py")  # noqa: PTH118, PTH120


def kept(argv: list[str], control: int, grace: float, drain: float) -> list[str]:
    """The argument vector that runs `argv` under a keeper of this process."""
    return [
        *(sys.executable, "-I", "-S", __file__),
        *(str(control), str(os.getpid()), str(grace), str(drain), *argv),
    ]


def _become(command: list[str]) -> None:
    """Become the command; never returns."""
    if command[:4] == [sys.executable, "-I", "-S", _CONFINED]:
        # In this process: another start of Python would take 10 ms.
        sys.path.append(os.path.dirname(_CONFINED))  # noqa: PTH120
        import confined  # type: ignore[import-not-found]  # noqa: PLC0415

        confined.main(command[4:])
    try:
        os.execvp(command[0], command)  # noqa: S606 - it becomes the command
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def _start(command: list[str], libc: ctypes.CDLL) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    libc.prctl(_PARENT_DEATH, _signal.SIGKILL, 0, 0, 0)
    for number in _PYTHONS:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGNALS)
    _become(command)
    os._exit(126)


class _Family:
    """The command and all that it left to this process."""

    def __init__(self, command: int) -> None:
        self.command = command
        self.status: int | None = None
        """How the command ended."""

    def reap(self) -> bool:
        """Take in what has ended; whether anything is left."""
        while True:
            try:
                number, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if number == 0:
                return True
            if number == self.command:
                self.status = status

    def kill(self) -> bool:
        """Kill layer by layer, as orphans arrive; whether all are gone.

        A child's number cannot be another process's before it is reaped here.
        """
        until = time.monotonic() + _END_SECONDS
        while self.reap():
            for child in _children():
                _send(child, _signal.SIGKILL)
            if time.monotonic() > until:
                return False
            _signal.sigtimedwait({_signal.SIGCHLD}, 0.005)
        return True


def _send(to: int, number: int) -> None:
    try:
        os.kill(to, number)
    except OSError:
        return


def _children() -> list[int]:
    try:
        with open("/proc/thread-self/children", "rb") as listed:  # noqa: PTH123
            return [int(number) for number in listed.read().split()]
    except OSError:
        return [int(number) for number in os.listdir("/proc") if number.isdigit() and _is_child(number)]  # noqa: PTH208


def _is_child(number: str) -> bool:
    try:
        with open(f"/proc/{number}/stat", "rb") as told:  # noqa: PTH123
            return int(told.read().rpartition(b") ")[2].split()[1]) == os.getpid()
    except OSError:
        return False


def _attend(family: _Family, grace: float, drain: float) -> bool:
    """Wait until nothing is left, or nothing may be left any more; whether anything was."""
    asked = ended = float("inf")
    while family.reap():
        now = time.monotonic()
        if family.status is not None:
            ended = min(ended, now)
        left = min(asked + grace, ended + drain) - now
        if left <= 0:
            return True
        got = _signal.sigtimedwait(_SIGNALS, min(left, 3600.0))
        if got is None or got.si_signo == _signal.SIGCHLD:
            continue
        if got.si_signo != _signal.SIGTERM:
            return True
        asked = min(asked, time.monotonic())
        _send(-family.command, _signal.SIGTERM)
    return False


def _tell(control: int, what: bytes) -> None:
    try:
        os.write(control, what)
    except OSError:
        return


def _end_as(status: int) -> None:
    """End as the command did."""
    if os.WIFSIGNALED(status):
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number not in {_signal.SIGKILL, _signal.SIGSTOP}:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Keep one command."""
    control, parent, grace, drain = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    os.set_inheritable(control, False)
    libc = ctypes.CDLL(None)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    libc.prctl(_PARENT_DEATH, _signal.SIGUSR1, 0, 0, 0)
    is_heir = libc.prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    if os.getppid() != parent:
        os._exit(1)
    family = _Family(_start(sys.argv[5:], libc))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    is_left = _attend(family, grace, drain)
    if family.kill() and is_heir:
        _tell(control, CLEANED if is_left else CLEAN)
    _end_as(1 if family.status is None else family.status)


if __name__ == "__main__":
    main()
