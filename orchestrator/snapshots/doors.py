"""Open what its mode keeps closed to us, as its owner may, and close it when the work is done.

What is opened is noted on disk first, so that after a kill the next one closes it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from orchestrator.snapshots.model import Action
from orchestrator.snapshots.places import ROOT, Place, place, set_mode, ways_to

OPENED_UP = 0o700
_ENTER, _WRITE = 0o100, 0o300


class Doors:
    """The modes that are still to be set; one for each time that the workspace is opened."""

    def __init__(self, root: int, path: Path) -> None:
        self._root, self._path = root, path
        self._modes: dict[str, tuple[int, list[int]]] = {}
        """By path: type and mode at the end, and those that may be there until then."""
        self._found: dict[str, int] = {}
        """The modes of the folders that `open` opened up."""

    @contextlib.contextmanager
    def unlocked(self, at: Place, path: str, found: os.stat_result) -> Iterator[None]:
        """Let us read something, and close it again. Raises PermissionError when it is not ours to open."""
        mode, bits = stat.S_IMODE(found.st_mode), 0o500 if stat.S_ISDIR(found.st_mode) else 0o400
        if mode & bits == bits or not _is_ours(found):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        planned = self._modes.get(path)
        self._modes[path] = (found.st_mode, [found.st_mode | bits])
        self._save()
        set_mode(at, mode | bits)
        try:
            yield
        finally:
            set_mode(at, mode)
            del self._modes[path]
            if planned:
                self._modes[path] = planned
            self._save()

    def open(self, actions: tuple[Action, ...]) -> None:
        """Note the modes that folders shall have, and let us in everywhere the actions go. Raises OSError."""
        for action in actions:
            if action.target.kind == "folder":
                was = stat.S_IFDIR | (action.seen.mode if action.seen.kind == "folder" else OPENED_UP)
                self._modes[action.path] = (stat.S_IFDIR | action.target.mode, [was, was | OPENED_UP])
        if self._modes:
            self._save()
        if os.geteuid() == 0:
            return
        parents = {action.path.rpartition("/")[0] or ROOT for action in actions}
        # To move a folder away, the kernel wants to write in it.
        parents |= {action.path for action in actions if action.seen.kind == "folder" != action.target.kind}
        ways = {ROOT} | {way for parent in parents - {ROOT} for way in ways_to(parent)}
        for way in sorted(ways, key=_depth):
            with contextlib.suppress(OSError), place(self._root, way) as at:
                found = _look(at)
                mode, need = found.st_mode, _WRITE if way in parents else _ENTER
                if stat.S_ISDIR(mode) and mode & need != need and _is_ours(found):
                    final, allowed = self._modes.get(way, (mode, [mode]))
                    # The user may have changed it since the plan: then their mode is what stays.
                    self._modes[way] = (final if mode in allowed else mode, [mode, mode | OPENED_UP])
                    self._found[way] = mode
                    self._save()
                    set_mode(at, stat.S_IMODE(mode) | OPENED_UP)

    def mode_found(self, path: str, now: int) -> int:
        """The permission bits that a folder had before it was opened up."""
        return stat.S_IMODE(self._found.get(path, now))

    def close(self, skip: Collection[str] = ()) -> list[str]:
        """Set the modes, the innermost first; returns the paths where it could not be done.

        Those to skip are left, or go back, to the mode that they had.
        """
        failed = []
        for path in sorted(self._modes, key=_depth, reverse=True):
            mode, allowed = self._modes[path]
            if path in skip:
                if path not in self._found:
                    continue
                mode = self._found[path]
            try:
                with place(self._root, path) as at:
                    now = _look(at).st_mode
                    if now == mode or stat.S_IFMT(now) != stat.S_IFMT(mode):
                        continue
                    if now in allowed:
                        set_mode(at, stat.S_IMODE(mode))
                    else:
                        failed.append(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                failed.append(path)
        self._modes, self._found = {}, {}
        self._save()
        return failed

    def recover(self) -> None:
        """Close what a killed one left open."""
        try:
            noted = json.loads(self._path.read_text("utf-8"))
            self._modes = {path: (mode, allowed) for path, (mode, allowed) in noted.items()}
        except (FileNotFoundError, ValueError):
            return
        self.close()

    def _save(self) -> None:
        if not self._modes:
            self._path.unlink(missing_ok=True)
            return
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self._modes, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)


def _look(at: Place) -> os.stat_result:
    return os.stat(at[1], dir_fd=at[0], follow_symlinks=False)


def _is_ours(found: os.stat_result) -> bool:
    """Whether we may change its mode and change it back."""
    # The system silently drops the set-group bit of a foreign group: it could not be set again.
    is_fragile = found.st_mode & stat.S_ISGID and found.st_gid not in {os.getegid(), *os.getgroups()}
    return found.st_uid == os.geteuid() and not is_fragile


def _depth(path: str) -> int:
    return 0 if path == ROOT else path.count("/") + 1
