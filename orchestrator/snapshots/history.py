"""Tell whether a call moved the workspace's own Git history, which no undo takes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ENTRIES = 20_000
"""Loose references that are looked at."""


def history_mark(root: Path) -> tuple[str, ...]:
    """What is another one when head, branches, tags, stash or settings are; empty without a history."""
    folder = root / ".git"
    if not folder.is_dir():
        return ()
    names = [folder / name for name in ("HEAD", "packed-refs", "config")]
    found = []
    for path in (*names, *_references(folder / "refs")):
        with suppress(OSError):
            state = path.lstat()
            found.append(f"{path.name} {state.st_size} {state.st_mtime_ns} {state.st_ino}")
    return tuple(found)


def _references(folder: Path) -> Iterator[Path]:
    left = _ENTRIES
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names)[:left]:
            yield Path(place, name)
        left -= len(names)
        if left <= 0:
            return
