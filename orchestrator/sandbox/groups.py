"""A control group for the commands of this process: memory and processes of all of them together.

Limits of the kernel's older kind hold for each process, and for root hardly at all. A group holds for
whatever is in it, where this account may make one: below our own group, whose limits go on to hold.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PREFIX = "orc-"
_JOIN = ("/bin/sh", "-c", 'echo $$ > "$0"')


@lru_cache(maxsize=4)
def entrances(memory_bytes: int, processes: int) -> tuple[str, ...]:
    """The files that a process writes its id to, to be held by these limits; empty when none can be made."""
    found = []
    for folder, settings in _candidates(memory_bytes, processes):
        made = folder / f"{_PREFIX}{os.getpid()}-{memory_bytes:x}-{processes:x}"
        if _make(made, settings):
            atexit.register(_remove, made)
            found.append(str(made / "cgroup.procs"))
    return tuple(found)


def _candidates(memory_bytes: int, processes: int) -> list[tuple[Path, dict[str, int]]]:
    """Folders in which a group may be made, with what is then set in it."""
    both = {"memory.max": memory_bytes, "memory.swap.max": 0, "pids.max": processes}
    found: list[tuple[Path, dict[str, int]]] = []
    for line in _own_groups():
        _, kinds, path = line.split(":", 2)
        own = path.lstrip("/")
        if not kinds and (ROOT / "cgroup.controllers").exists():
            found += [(ROOT / own, both), ((ROOT / own).parent, both)]
        elif kinds == "memory":
            found.append((ROOT / "memory" / own, {"memory.limit_in_bytes": memory_bytes}))
        elif kinds == "pids":
            found.append((ROOT / "pids" / own, {"pids.max": processes}))
    return [(folder, settings) for folder, settings in found if os.access(folder, os.W_OK)]


def _own_groups() -> list[str]:
    with contextlib.suppress(OSError):
        return Path("/proc/self/cgroup").read_text("ascii").splitlines()
    return []


def _make(made: Path, settings: dict[str, int]) -> bool:
    """Make a group and try to join it; leaves nothing when it does not work."""
    _remove_abandoned(made.parent)
    try:
        made.mkdir()
        required = [name for name in settings if name != "memory.swap.max"]
        for name, value in settings.items():
            if name in required or (made / name).exists():
                (made / name).write_text(str(value), "ascii")
        done = subprocess.run(
            [*_JOIN, str(made / "cgroup.procs")], capture_output=True, check=False, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        _remove(made)
        return False
    if done.returncode != 0:
        _remove(made)
    return done.returncode == 0


def _remove(made: Path) -> None:
    with contextlib.suppress(OSError):
        made.rmdir()


def _remove_abandoned(folder: Path) -> None:
    """Remove the empty groups of processes that were killed."""
    for left in folder.glob(f"{_PREFIX}*-*"):
        number = left.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            _remove(left)
