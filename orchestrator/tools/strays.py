"""Processes that a command put out of its process group, where no sandbox ends them with it.

A keeper ends them (see `sandbox.keeper`); this is for when a command has killed its keeper. They are found
as its descendants while it lives, and by a mark in their environment afterwards. Only Linux tells; one that
forks twice with an empty environment is then not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import NamedTuple

MARK = "ORC_COMMAND"
"""The variable that says which command a process belongs to."""
_ROUNDS = 5
"""How often is looked again for what was forked meanwhile."""


class Process(NamedTuple):
    """One process; its number may be given to another, later one."""

    number: int
    born: str


def descendants(of: int) -> set[Process]:
    """What a process started, directly or not, and what is still alive."""
    parents: dict[int, list[Process]] = {}
    for process, parent in _all().items():
        parents.setdefault(parent, []).append(process)
    found: set[Process] = set()
    waiting = [of]
    while waiting:
        children = [child for child in parents.get(waiting.pop(), []) if child not in found]
        found.update(children)
        waiting += [child.number for child in children]
    return found


def end(mark: str, known: set[Process]) -> None:
    """Kill the processes with a mark, and those of the known ones that are still there."""
    for _ in range(_ROUNDS):
        alive = _all().keys()
        found = {each for each in alive if each in known or _is_marked(each.number, mark)}
        if not found:
            return
        for process in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.number, signal.SIGKILL)


def _all() -> dict[Process, int]:
    """Every process that is no zombie, with its parent."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in the parentheses may hold anything.
            fields = place.read_text("utf-8", "replace").rpartition(") ")[2].split()
            if fields[0] not in "ZX":
                found[Process(int(place.parent.name), fields[19])] = int(fields[1])
    return found


def _is_marked(number: int, mark: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{MARK}={mark}".encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    return False
