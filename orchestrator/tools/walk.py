"""Walk the workspace without leaving it: no link is followed, folders of caches and packages are skipped."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ToolError
from orchestrator.tools.paths import opened

SKIPPED = frozenset({
    ".git", ".orc", "node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".tox", ".hypothesis",
})  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One thing found on the walk."""

    path: str
    """Relative to where the walk began."""
    depth: int
    """1 for what lies in the first folder."""
    stat: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether it is a real folder."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.stat.st_mode)


def walk(folder: int, *, depth: int = 64, prefix: str = "", level: int = 1) -> Iterator[Entry]:
    """Yield what lies in an open folder, sorted by name, children after their folder."""
    try:
        with os.scandir(folder) as found_names:
            names = sorted(item.name for item in found_names)
    except PermissionError:
        return
    for name in names:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        entry = Entry(f"{prefix}{name}", level, found)
        if entry.is_folder and name in SKIPPED:
            continue
        yield entry
        if entry.is_folder and level < depth:
            yield from _deeper(folder, name, depth, entry)


def _deeper(folder: int, name: str, depth: int, entry: Entry) -> Iterator[Entry]:
    try:
        child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return
    try:
        yield from walk(child, depth=depth, prefix=f"{entry.path}/", level=entry.depth + 1)
    finally:
        os.close(child)


def missing(root: Path, path: str, *, folder: bool = False) -> ToolError:
    """The error for something that is not there, with the nearest names that are."""
    near = _nearest(root, path, folder=folder)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    if folder:
        return ToolError(f"no folder {path!r}{meant} list_files shows what is there")
    return ToolError(f"no file {path!r}{meant} list_files shows what is there; write_file makes a new one")


def _nearest(root: Path, path: str, *, folder: bool) -> list[str]:
    found: list[str] = []
    with opened(root, ".") as top:
        for entry in walk(top.fd, depth=8):
            if entry.is_folder == folder:
                found.append(entry.path)
            if len(found) >= 3000:
                break
    wanted = path.rstrip("/").rsplit("/", 1)[-1].casefold()
    same = [item for item in found if item.rsplit("/", 1)[-1].casefold() == wanted]
    by_name: dict[str, str] = {}
    for item in found:
        by_name.setdefault(item.rsplit("/", 1)[-1].casefold(), item)
    close = [by_name[name] for name in difflib.get_close_matches(wanted, list(by_name), n=2, cutoff=0.6)]
    return list(dict.fromkeys([*same, *close]))[:2]


def size(count: int) -> str:
    """A number of bytes, exact, and rounded as well where it is long: `58 bytes`, `5321 bytes (5.3 KB)`."""
    exact = "1 byte" if count == 1 else f"{count} bytes"
    if count < 1000:
        return exact
    value, unit = float(count), "KB"
    for step in ("KB", "MB", "GB", "TB"):
        value, unit = value / 1000, step
        if value < 1000:
            break
    return f"{exact} ({value:.1f} {unit})" if value < 10 else f"{exact} ({value:.0f} {unit})"


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 file`, `12 files`, `2 matches`."""
    plural = f"{noun}es" if noun.endswith(("ch", "s", "x")) else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
