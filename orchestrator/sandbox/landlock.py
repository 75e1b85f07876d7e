"""Confine a process with Landlock and seccomp, where bubblewrap may not make namespaces.

Landlock grants and never takes back below what it granted, so a folder with something hidden in it is
granted entry by entry. A workspace that holds `.orc` is one: its commands can change what is in it, but can
make nothing new directly in its top folder, unless `.orc` is a link to a folder elsewhere. Sockets are
refused as a whole. Rights and owners of files outside can be changed as far as the account may; their
content cannot.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.sandbox import Confinement, confined, seccomp
from orchestrator.sandbox.places import SECRET_NAME, Limits, hidden_from, homes, tool_folders

LEAST = 6
"""Version of Landlock that keeps signals inside; before, a command could kill what is outside."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_UNSEEN = ("/tmp", "/var/tmp", "/dev", "/run", "/boot", "/lost+found")  # noqa: S108
_AF_UNIX = 1


@lru_cache(maxsize=1)
def version() -> int:
    """Version of the kernel's Landlock; 0 when there is none."""
    try:
        return max(0, int(ctypes.CDLL(None).syscall(444, None, 0, 1)))
    except (OSError, AttributeError):
        return 0


@dataclass
class Landlock:
    """Landlock and seccomp, set up by a small program that then becomes the command."""

    limits: Limits = field(default_factory=Limits)
    name: str = "landlock"
    has_gate: bool = False
    instead: str = ""
    """Why it is not bubblewrap, in words for a person."""

    @property
    def is_confining(self) -> bool:
        """Always; `detect` has tried."""
        return True

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        """The argument vector that runs `argv` confined."""
        plan = confined.packed(self._plan(confinement))
        return [sys.executable, "-I", "-S", confined.__file__, *plan, *argv]

    def _plan(self, confinement: Confinement) -> dict[str, Any]:
        root, works = confinement.root.resolve(), confinement.view == "work"
        hidden = _hidden(root)
        temporary = _temporary()
        write = [temporary, *(f"/dev/{name}" for name in ("null", "zero", "full", "tty"))]
        if works:
            unseen = [*hidden, *map(Path, _UNSEEN), *homes()]
            shown = [place for home in homes() for place in tool_folders(home)]
            shown += [Path(sys.base_prefix), Path(sys.prefix), *(Path("/dev") / name for name in _DEVICES)]
            read = [
                *granted(Path("/"), unseen),
                *(item for place in shown for item in granted(place, hidden)),
            ]
            read += granted(root, hidden)
            write += map(str, granted(root, hidden))
        else:
            read = [*granted(Path("/"), [*hidden, Path("/dev")]), Path("/dev")]
        limits = self.limits
        return {
            "version": version(),
            "cwd": str(confinement.cwd.resolve()),
            "read": sorted({str(place) for place in read}),
            "write": sorted(set(write)),
            "list": [str(root), "/etc"] if works else ["/"],
            "network": not works,
            "filter": seccomp.program(closed=works, families=(_AF_UNIX,)).hex(),
            "hidden": [name for name in os.environ if SECRET_NAME.search(name)],
            "groups": limits.groups(),
            "environment": {"TMPDIR": temporary},
            "limits": {
                "RLIMIT_DATA": limits.memory_bytes,
                "RLIMIT_NPROC": limits.processes,
                "RLIMIT_FSIZE": limits.file_bytes,
                "RLIMIT_NOFILE": limits.open_files,
                "RLIMIT_CPU": limits.cpu_seconds,
                "RLIMIT_CORE": 0,
            },
        }

    @property
    def features(self) -> tuple[str, ...]:
        """What confines a command here, in words for a person."""
        return (
            f"Landlock {version()}: writes in the workspace only, signals stay inside",
            "no sockets",
            "no capabilities",
            "seccomp filter",
            f"limits: memory {self.limits.memory_bytes >> 30} GB a process, {self.limits.total}",
            "nothing new directly in a workspace that holds .orc, unless that is a link to elsewhere",
            *([f"taken because of {self.instead}"] if self.instead else []),
        )


def _hidden(root: Path) -> list[Path]:
    """Credentials and our own records."""
    return [place for place in hidden_from(root, homes()) if place.exists() and not place.is_symlink()]


def granted(place: Path, hidden: Iterable[Path]) -> Iterator[Path]:
    """The places that together are `place` without what is hidden in it."""
    below = [item for item in hidden if item == place or item.is_relative_to(place)]
    if place in below:
        return
    if not below:
        yield place
        return
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return
    for entry in entries:
        if not entry.is_symlink():
            yield from granted(entry, below)


@lru_cache(maxsize=1)
def _temporary() -> str:
    """A folder for temporary files of the commands of this process, removed at its end."""
    folder = tempfile.mkdtemp(prefix="orc-tmp-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
