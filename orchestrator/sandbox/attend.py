"""Run the client that starts a container, and see the container gone however this ends; a script.

Arguments: seconds between the polite signal and the other one, the container's name, the client's command.
Killing a client leaves its container running. So this process ends the container when it is asked to end or
when the process that started it is gone; a second one does it when this one is killed.
"""

import os
import signal
import subprocess
import sys
import time

_LOOK_SECONDS = 0.2
_CALL_SECONDS = 20
_AGAIN_SECONDS = (0.0, 0.3, 2.0)
"""A client that was killed may have asked for a container that is not there yet."""


def _call(client: str, *what: str) -> None:
    try:
        subprocess.run([client, *what], capture_output=True, timeout=_CALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return


def _remove(client: str, name: str) -> None:
    _call(client, "kill", name)
    _call(client, "rm", "--force", name)


def _stand_by(alive: int, client: str, name: str) -> None:
    """Wait for the other process to end; unless it said that all is well, remove the container."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    if os.read(alive, 1):
        return
    for pause in _AGAIN_SECONDS:
        time.sleep(pause)
        _remove(client, name)


def main() -> int:
    """Return the exit code of the command in the container."""
    polite, name, command = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
    alive, well = os.pipe()
    if os.fork() == 0:
        os.close(well)
        _stand_by(alive, command[0], name)
        os._exit(0)
    os.close(alive)
    parent, asked = os.getppid(), [0.0]

    def ask(*_: object) -> None:
        asked[0] = asked[0] or time.monotonic()

    def look(*_: object) -> None:
        if (asked[0] and time.monotonic() - asked[0] > polite) or os.getppid() != parent:
            _remove(command[0], name)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGALRM, look)
    try:
        client = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 125
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    code = client.wait()
    signal.setitimer(signal.ITIMER_REAL, 0)
    if asked[0] or code < 0:
        # A client that is stopped early may leave a container that was made and never started.
        _remove(command[0], name)
    else:
        os.write(well, b".")
    return code if code >= 0 else 128 - code


sys.exit(main())
