"""Remember what each path held when it was last read, so that an unchanged file costs one stat.

An append-only file of JSON lines, one per folder, the last line of a folder counts. A torn line is
ignored: forgetting costs a read, never a wrong answer.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from orchestrator.snapshots.model import Entry

Key = tuple[int, int, int, int, int]
"""st_mode, st_size, st_mtime_ns, st_ctime_ns, st_ino."""
_SLACK_LINES = 1_000


class Known(NamedTuple):
    """One name in a folder."""

    key: Key
    entry: Entry
    is_settled: bool
    """False when it was read in the same tick of the clock in which it changed: it may change unseen."""


class Record(NamedTuple):
    """One folder that was read in full."""

    tree: str
    names: dict[str, Known]


class Cache:
    """The records of all folders of the last snapshot, by path; not for two threads at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = self._offset = self._lines = 0
        self._new: list[str] = []
        self.folders: dict[str, Record] = {}

    def sync(self) -> None:
        """Read what other processes added since."""
        self._new = []
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self.folders, self._inode, self._offset, self._lines = {}, 0, 0, 0
            return
        if found.st_ino != self._inode or found.st_size < self._offset:
            self.folders, self._inode, self._offset, self._lines = {}, found.st_ino, 0, 0
        if found.st_size == self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file.read().split(b"\n"):
                self._take_in(line)
            self._offset = file.tell()

    def forget(self) -> None:
        """Go back to what is on disk, at the next `sync`: what was set and not saved may not exist."""
        self._inode = -1

    def _take_in(self, line: bytes) -> None:
        if not line:
            return
        self._lines += 1
        with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):
            folder, tree, names = json.loads(line)
            if tree is None:
                self.folders.pop(folder, None)
                return
            self.folders[folder] = Record(
                tree, {name: Known(tuple(key), Entry(*entry), ok) for name, (key, entry, ok) in names.items()}
            )

    def set(self, folder: str, record: Record) -> None:
        """Remember a folder."""
        self.folders[folder] = record
        self._new.append(_line(folder, record))

    def drop(self, folder: str) -> None:
        """Forget a folder."""
        del self.folders[folder]
        self._new.append(_line(folder, None))

    def save(self) -> None:
        """Write what is new; raises OSError."""
        new, self._new = self._new, []
        if not new:
            return
        if self._lines + len(new) > 2 * len(self.folders) + _SLACK_LINES:
            self._rewrite()
            return
        # A line break first: the last writer may have died within a line.
        text = ("\n" + "\n".join(new) + "\n").encode("utf-8")
        with self._path.open("ab") as file:
            file.write(text)
            self._offset, self._inode = file.tell(), os.fstat(file.fileno()).st_ino
        self._lines += len(new)

    def _rewrite(self) -> None:
        temporary = self._path.with_suffix(".new")
        lines = [_line(folder, record) for folder, record in self.folders.items()]
        temporary.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
        temporary.replace(self._path)
        found = self._path.stat()
        self._inode, self._offset, self._lines = found.st_ino, found.st_size, len(lines)


def _line(folder: str, record: Record | None) -> str:
    if record is None:
        return json.dumps([folder, None, None])
    return json.dumps([folder, record.tree, record.names], separators=(",", ":"))
