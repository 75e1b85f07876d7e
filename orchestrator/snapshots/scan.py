"""Walk the workspace into trees, reading only what its stat says has changed.

Every folder is opened beneath its parent and no link is followed, so nothing outside is ever read;
pipes, sockets and devices are never opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.errors import StorageError
from orchestrator.snapshots.cache import Cache, Key, Known, Record
from orchestrator.snapshots.doors import Doors
from orchestrator.snapshots.model import ABSENT, Entry, Folder, SnapshotLimits
from orchestrator.snapshots.objects import Objects
from orchestrator.snapshots.places import Place, ways_to
from orchestrator.snapshots.trees import MORE, encode, tree_bytes
from orchestrator.storage import FOLDER

OWN = frozenset({FOLDER, ".git"})
"""In the workspace's own folder: our state, and a history that is not ours to turn back."""
HEAVY = frozenset({
    "node_modules", "bower_components", ".venv", "venv", "target", "__pycache__", ".tox", ".nox",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache", ".gradle", ".next", ".nuxt",
    ".terraform", ".parcel-cache", ".pnpm-store", ".yarn", "_build", "Pods", ".direnv", ".eggs",
    "DerivedData", ".dart_tool",
})  # fmt: skip
_MARKS = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
SELF = "."
"""How the workspace's own folder is called among its names."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_SECOND = 1_000_000_000
_TICK = 20_000_000
"""Nanoseconds; the kernel stamps files at most this late."""
_TRIES = 3
SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Opened:
    """The workspace's folder, under the lock."""

    root: int
    now: int
    """The time in nanoseconds by the clock that stamps the files."""
    doors: Doors


class Scan:
    """One walk; `notes` tells afterwards what it left out."""

    def __init__(
        self,
        objects: Objects,
        cache: Cache,
        limits: SnapshotLimits,
        *,
        at: Opened,
        touched: Iterable[str] = (),
    ) -> None:
        self._objects, self._cache, self._limits = objects, cache, limits
        self._root, self._now, self._doors = at.root, at.now, at.doors
        self._touched = frozenset(touched) - {""}
        self._ways = frozenset(way for path in self._touched for way in ways_to(path))
        self._visited: set[str] = set()
        self._entries = self._bytes = 0
        self.notes: list[str] = []

    def run(self) -> str:
        """The tree of the workspace. Raises OSError and StorageError."""
        try:
            tree = self._folder(self._root, "", os.fstat(self._root).st_mode & 0o7777)
        except PermissionError as error:
            raise StorageError(f"the workspace's own folder cannot be read: {error.strerror}") from None
        for folder in self._cache.folders.keys() - self._visited:
            self._cache.drop(folder)
        return tree

    def look(self, folder: int, name: str, path: str) -> Entry:
        """What is at one path right now; a folder without its tree."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return ABSENT
        if stat.S_ISDIR(found.st_mode):
            return Entry("folder", found.st_mode & 0o7777)
        above, _, _ = path.rpartition("/")
        record = self._cache.folders.get(above)
        known = record.names.get(name) if record else None
        if known is not None and known.is_settled and known.key == key_of(found):
            return known.entry
        fresh = self._leaf(folder, name, path, known)
        return fresh.entry if fresh else ABSENT

    def _folder(self, fd: int, path: str, root_mode: int | None = None) -> str:
        self._visited.add(path)
        old = self._cache.folders.get(path)
        known = old.names if old else {}
        names: dict[str, Known] = {}
        if root_mode is not None:
            names[SELF] = Known((root_mode, 0, 0, 0, 0), Entry("folder", root_mode), True)
        prefix = f"{path}/" if path else ""
        for name in os.listdir(fd):
            self._entries += 1
            if not path and name in OWN:
                continue
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            was = known.get(name)
            fresh: Known | None
            if stat.S_ISDIR(found.st_mode):
                fresh = self._subfolder(fd, prefix + name, found, was)
            elif was is not None and was.is_settled and was.key == key_of(found):
                fresh = was
            else:
                fresh = self._leaf(fd, name, prefix + name, was)
            if fresh is None:
                continue
            names[name] = was if fresh == was and was is not None else fresh
            if fresh.entry.why:
                self._note(prefix + name, fresh.entry.why)
        if old is not None and old.names == names:
            return old.tree
        entries = {name: known.entry for name, known in names.items() if name != SELF}
        tree = self._put(Folder(entries, mode=root_mode))
        self._cache.set(path, Record(tree, names))
        return tree

    def _put(self, folder: Folder) -> str:
        rows, more = encode(folder)
        if more:
            rows.append((b"100644", MORE, self._objects.put("blob", more)))
        return self._objects.put("tree", tree_bytes(rows))

    def _subfolder(self, above: int, path: str, found: os.stat_result, was: Known | None) -> Known | None:
        key = (found.st_mode, 0, found.st_mtime_ns, 0, found.st_ino)
        mode, name = found.st_mode & 0o7777, path.rpartition("/")[2]
        why = self._refusal(path, name)
        if why:
            return Known(key, Entry("left", mode, str(found.st_ino), why), True)
        at = (above, name)
        try:
            return Known(key, self._inside(at, path, mode, was), True)
        except PermissionError:
            with contextlib.suppress(PermissionError), self._doors.unlocked(at, path, found):
                return Known(key, self._inside(at, path, mode, was), True)
            self._note(path, "it may not be read")
            self._visited.discard(path)
            return Known(key, Entry("folder", mode, self._put(Folder({}, is_partial=True))), True)
        except (FileNotFoundError, NotADirectoryError):
            # It was a folder a moment ago: whoever is changing it is not done.
            return self._leaf(above, name, path, None)

    def _inside(self, at: Place, path: str, mode: int, was: Known | None) -> Entry:
        with _opened(*at) as fd:
            heavy = self._heaviness(fd, path, at[1], was)
            if not heavy or path in self._touched:
                return Entry("folder", mode, self._folder(fd, path))
            if path in self._ways:
                return Entry("folder", mode, self._partial(fd, path))
            found = os.fstat(fd)
            return Entry("left", mode, f"{found.st_mtime_ns}.{found.st_ino}", heavy)

    def _refusal(self, path: str, name: str) -> str:
        if name == FOLDER:
            return "it is the state of another workspace"
        if path.count("/") >= self._limits.depth:
            return f"it lies more than {self._limits.depth} folders deep"
        if self._entries > self._limits.entries and path not in self._cache.folders:
            return f"the workspace has more than {self._limits.entries:,} entries"
        return ""

    def _heaviness(self, fd: int, path: str, name: str, was: Known | None) -> str:
        """Why the folder is better left out; once in or out, it stays so, or an undo would see a change."""
        if path in self._cache.folders:
            return ""
        if was is not None and was.entry.kind == "left" and was.key[4] == os.fstat(fd).st_ino:
            return was.entry.why
        if name not in HEAVY and not _MARKS.intersection(os.listdir(fd)):
            return ""
        limits = self._limits
        if min(_room(fd, limits.heavy_entries, limits.heavy_bytes)) >= 0:
            return ""
        return (
            f"it is a folder that tools fill, with more than {limits.heavy_entries:,} entries "
            f"or {megabytes(limits.heavy_bytes)}"
        )

    def _partial(self, fd: int, path: str) -> str:
        """The tree of a folder in which only what was touched is looked at."""
        entries: dict[str, Entry] = {}
        start = f"{path}/"
        for name in {way[len(start) :].split("/")[0] for way in self._ways if way.startswith(start)}:
            here = start + name
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                entries[name] = ABSENT
                continue
            if not stat.S_ISDIR(found.st_mode):
                fresh = self._leaf(fd, name, here, None)
            elif here in self._touched:
                fresh = self._subfolder(fd, here, found, None)
            else:
                with _opened(fd, name) as deeper:
                    entries[name] = Entry("folder", found.st_mode & 0o7777, self._partial(deeper, here))
                continue
            entries[name] = fresh.entry if fresh else ABSENT
        return self._put(Folder(entries, is_partial=True))

    def _leaf(self, folder: int, name: str, path: str, was: Known | None) -> Known | None:
        """Anything but a folder; None when it went away meanwhile."""
        for _ in range(_TRIES):
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
            kind = stat.S_IFMT(found.st_mode)
            if kind in SPECIAL:
                return Known(
                    key_of(found), Entry("left", 0, str(found.st_ino), f"it is {SPECIAL[kind]}"), True
                )
            with contextlib.suppress(FileNotFoundError):
                if kind == stat.S_IFLNK:
                    target = os.fsencode(os.readlink(name, dir_fd=folder))
                    entry = Entry("link", 0, self._objects.put("blob", target))
                    return Known(key_of(found), entry, self._is_settled(found))
                if kind == stat.S_IFREG:
                    fresh = self._file(folder, name, path, found, was)
                    if fresh:
                        return fresh
        return _left(found, "it changes all the time")

    def _file(
        self, folder: int, name: str, path: str, found: os.stat_result, was: Known | None
    ) -> Known | None:
        """A file; None when it was no file any more, or changed as it was read."""
        size, limits = found.st_size, self._limits
        if (
            was is not None
            and was.entry.kind == "left"
            and was.key == key_of(found)
            and path not in self._touched
        ):
            return was
        if size > limits.file_bytes:
            return _left(
                found, f"it has {megabytes(size)}, more than {megabytes(limits.file_bytes)} for a file"
            )
        if self._bytes + size > limits.new_bytes:
            return _left(found, f"a snapshot takes in {megabytes(limits.new_bytes)} of new content at most")
        is_settled = self._is_settled(found)
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
        except PermissionError:
            try:
                with self._doors.unlocked((folder, name), path, found):
                    fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
            except PermissionError:
                return _left(found, "it may not be read")
            found = os.fstat(fd)
        with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor has no path
            opened = os.fstat(fd)
            if key_of(opened) != key_of(found):
                return None
            content = _read(file.fileno(), limits.file_bytes + 1)
            if key_of(os.fstat(fd)) != key_of(opened):
                return None
        self._bytes += len(content)
        entry = Entry("file", found.st_mode & 0o7777, self._objects.put("blob", content))
        return Known(key_of(found), entry, is_settled)

    def _is_settled(self, found: os.stat_result) -> bool:
        last = max(found.st_mtime_ns, found.st_ctime_ns)
        # Some file systems count in seconds, FAT in two.
        is_coarse = found.st_mtime_ns % _SECOND == 0 and found.st_ctime_ns % _SECOND == 0
        return last + (2 * _SECOND if is_coarse else _TICK) < self._now

    def _note(self, path: str, why: str) -> None:
        self.notes.append(f"{shown(path)} is left out: {why}")


def key_of(found: os.stat_result) -> Key:
    """What tells that a file is as it was."""
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def shown(path: str) -> str:
    """A path as one line of text."""
    return path if path.isprintable() else ascii(path)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / (1 << 20):,.0f} MB" if size >= 1 << 20 else f"{size:,} bytes"


def _left(found: os.stat_result, why: str) -> Known:
    mark = f"{found.st_size}.{found.st_mtime_ns}.{found.st_ino}"
    return Known(key_of(found), Entry("left", found.st_mode & 0o7777, mark, why), True)


def _read(fd: int, at_most: int) -> bytes:
    parts, left = [], at_most
    while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _opened(folder: int, name: str) -> Iterator[int]:
    fd = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _room(fd: int, entries: int, size: int, depth: int = 0) -> tuple[int, int]:
    """How many entries and bytes are left after a folder; stops at the first below 0."""
    if depth > 50:
        return -1, -1
    with os.scandir(fd) as listing:
        items = list(listing)
    entries -= len(items)
    for item in items:
        if entries < 0 or size < 0:
            break
        with contextlib.suppress(OSError):
            size -= item.stat(follow_symlinks=False).st_size
            if item.is_dir(follow_symlinks=False):
                with _opened(fd, item.name) as deeper:
                    entries, size = _room(deeper, entries, size, depth + 1)
    return entries, size
