"""What makes Git run programs: hooks and settings, of the workspace's repository and of those inside it.

A command that changed them would have its own programs run outside, at the user's next `git`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

DEEPEST = 3
"""Levels of folders below the workspace in which repositories are looked for."""
MOST_FOLDERS = 400
"""Folders that are looked into: more would cost every command its milliseconds."""
_LARGEST = 1 << 20
NAMES = ("config", "config.worktree", "commondir")
_SKIPPED = {"node_modules", ".venv", "venv", "__pycache__", ".orc", "target", "dist", "build", ".git"}


def places(root: Path) -> list[Path]:
    """The folders of Git's records: the workspace's own first, then submodules and repositories below."""
    found = [folder / ".git" for folder in _folders(root)]
    modules = root / ".git" / "modules"
    with contextlib.suppress(OSError):
        found += sorted(modules.iterdir())
    return [place for place in found if not place.is_symlink() and place.is_dir()]


def pointers(root: Path) -> list[Path]:
    """The files called `.git` that say where a working tree has its records."""
    found = (folder / ".git" for folder in _folders(root))
    return [place for place in found if not place.is_symlink() and place.is_file()]


def _folders(root: Path) -> Iterator[Path]:
    level, seen = [root], 0
    for depth in range(DEEPEST + 1):
        following = []
        for folder in level:
            yield folder
            seen += 1
            if seen > MOST_FOLDERS or depth == DEEPEST:
                continue
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                following += [
                    Path(entry.path)
                    for entry in entries
                    if entry.name not in _SKIPPED and entry.is_dir(follow_symlinks=False)
                ]
        level = sorted(following)[: max(0, MOST_FOLDERS - seen)]


class Kept:
    """The records as they are now, to be put back after a command that had no right to change them.

    A mount protects what is there; this finds what is new, and serves where nothing can be mounted.
    """

    def __init__(self, root: Path) -> None:
        self._places, self._pointers = places(root), pointers(root)
        self._before = {path: _content(path) for path in self._watched()}

    def _watched(self) -> list[Path]:
        found = [place / name for place in self._places for name in NAMES] + self._pointers
        for place in self._places:
            with contextlib.suppress(OSError):
                found += sorted((place / "hooks").iterdir())
        return found

    def restore(self) -> list[Path]:
        """Put everything back; returns what had been changed."""
        changed = []
        for path in dict.fromkeys([*self._before, *self._watched()]):
            before = self._before.get(path)
            if _content(path) == before:
                continue
            changed.append(path)
            with contextlib.suppress(OSError):
                _put_back(path, before)
        return changed


def _content(path: Path) -> tuple[bytes, int] | None:
    """Content and mode of a regular file; None when there is none, or when it is too large to keep."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return None if not stat.S_ISLNK(found.st_mode) else (str(path.readlink()).encode(), 0)
        return path.read_bytes(), stat.S_IMODE(found.st_mode)
    except OSError:
        return None


def _put_back(path: Path, before: tuple[bytes, int] | None) -> None:
    if before is None or path.is_symlink():
        path.unlink(missing_ok=True)
    if before is not None and before[1]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(before[0])
        path.chmod(before[1])
    elif before is not None:
        path.symlink_to(before[0].decode())
