"""Read a folder by plain means, as an oracle for what snapshots say and restore."""

from __future__ import annotations

import os
import stat
from pathlib import Path

Tree = dict[str, tuple[str, int, bytes]]
"""By path: kind, permission bits, content or target."""


def tree_of(root: Path) -> Tree:
    """Everything but our own state and the workspace's own history."""
    found: Tree = {}
    pending = [root]
    while pending:
        place = pending.pop()
        name = place.relative_to(root).as_posix()
        mode = place.lstat().st_mode
        bits = stat.S_IMODE(mode)
        if stat.S_ISLNK(mode):
            found[name] = ("link", 0, os.fsencode(place.readlink()))
        elif stat.S_ISDIR(mode):
            found[name] = ("folder", bits, b"")
            pending += [path for path in place.iterdir() if path not in {root / ".orc", root / ".git"}]
        elif stat.S_ISREG(mode):
            found[name] = ("file", bits, place.read_bytes())
        else:
            found[name] = ("special", stat.S_IFMT(mode), b"")
    return found
