"""Read a folder by plain means, as an oracle for what snapshots say and restore."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

Tree = dict[str, tuple[str, int, bytes]]
"""By path: kind, permission bits, content or target."""


def tree_of(root: Path) -> Tree:
    """Everything but our own state and the workspace's own history."""
    found: Tree = {}
    _read(root, root, found)
    return found


def _read(root: Path, place: Path, found: Tree) -> None:
    name = place.relative_to(root).as_posix()
    mode = place.lstat().st_mode
    bits = stat.S_IMODE(mode)
    if stat.S_ISLNK(mode):
        found[name] = ("link", 0, os.fsencode(place.readlink()))
    elif stat.S_ISDIR(mode):
        found[name] = ("folder", bits, b"")
        with opened_up(place, bits, 0o700):
            for path in place.iterdir():
                if path not in {root / ".orc", root / ".git"}:
                    _read(root, path, found)
    elif stat.S_ISREG(mode):
        with opened_up(place, bits, 0o400):
            found[name] = ("file", bits, place.read_bytes())
    else:
        found[name] = ("special", stat.S_IFMT(mode), b"")


@contextlib.contextmanager
def opened_up(place: Path, bits: int, need: int) -> Iterator[None]:
    """Only root may read what is closed; everybody else opens it for the moment."""
    if os.geteuid() == 0 or bits & need == need:
        yield
        return
    place.chmod(bits | need)
    try:
        yield
    finally:
        place.chmod(bits)
