"""Where code runs that a model wrote: a process that sees the workspace and little else.

A sandbox turns an argument vector into one that runs confined; it starts nothing itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

View = Literal["work", "inspect"]
"""`work`: writes the workspace and a private /tmp, no network, own process space.
`inspect`: sees files, processes and network of the machine as they are, and can change nothing."""


WALLED = frozenset({"bubblewrap", "container"})
"""Sandboxes whose processes have a space of their own and end with it."""


@dataclass(frozen=True)
class Confinement:
    """How a command is to be confined."""

    root: Path
    """The only folder that a `work` command can write."""
    cwd: Path
    view: View = "work"
    git_records: bool = False
    """Whether a `work` command may change `.git/hooks` and `.git/config`, because a person said so."""
    gate: int | None = None
    """Number of an inherited socket on which a `work` command's listener is handed out; see `gate`."""


def needs_keeper(sandbox: Sandbox) -> bool:
    """Whether what a command starts could outlive it there, so that a keeper has to end it: see `keeper`."""
    return sys.platform == "linux" and sandbox.name not in WALLED


def no_way(sandbox: str) -> str:
    """Why commands get no way to granted hosts in a sandbox that has no gate."""
    if sandbox == "none":
        return "nothing confines commands here, so each of them is asked and has the whole network"
    return f"only bubblewrap can give a way to some hosts; in {sandbox}, commands have no network"


class Sandbox(Protocol):
    """One way to confine a process."""

    name: str
    """Such as `bubblewrap` or `none`; recorded with each run."""

    has_gate: bool
    """Whether a command without a network can be given a way to granted hosts."""

    @property
    def is_confining(self) -> bool:
        """False when commands run unconfined, so that each of them must be asked."""
        ...

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        """Return the argument vector that runs `argv` confined."""
        ...
