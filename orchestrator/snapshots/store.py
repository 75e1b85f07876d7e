"""Take snapshots of a workspace, tell them apart, and put the files back.

Everything blocks, and may be called from several threads and processes at once: one works, the others wait.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import StorageError
from orchestrator.snapshots.cache import Cache
from orchestrator.snapshots.compare import Trees
from orchestrator.snapshots.doors import Doors
from orchestrator.snapshots.model import (
    SNAPSHOTS,
    Applied,
    Change,
    Edge,
    Entry,
    Plan,
    Snapshot,
    SnapshotLimits,
)
from orchestrator.snapshots.objects import Objects
from orchestrator.snapshots.planning import changed_paths, looked_at, make_plan
from orchestrator.snapshots.restoring import Restoration
from orchestrator.snapshots.scan import Opened, Scan
from orchestrator.snapshots.standing_in import is_folder, stand_in, stays_inside
from orchestrator.storage import FOLDER

SPARED_SECONDS = 3_600.0
"""How long a snapshot is safe from `keep_only` without being named: its id may not be written down yet."""


def redo_edges(edges: Sequence[Edge]) -> list[Edge]:
    """The edges that undo an undo of these."""
    return [(after, before) for before, after in reversed(edges)]


class Snapshots:
    """The snapshots of one workspace, in `.orc/snapshots`, made when first used."""

    def __init__(self, root: Path, *, limits: SnapshotLimits | None = None) -> None:
        self.root, self.limits = Path(os.path.abspath(root)), limits or SnapshotLimits()  # noqa: PTH100
        self.folder = self.root / FOLDER / SNAPSHOTS
        self._objects = Objects(self.folder)
        self._cache = Cache(self.folder / "stats")
        self._trees = Trees(self._objects)

    def take(self, touched: Iterable[Path] = ()) -> Snapshot:
        """Keep the workspace as it is. Raises StorageError.

        `touched` names paths that a call goes for: they are looked at even in a folder that is else left out.
        """
        with self._open() as opened:
            return self._take(opened, self._relative(touched))

    def _take(self, opened: Opened, touched: Iterable[str]) -> Snapshot:
        scan = Scan(self._objects, self._cache, self.limits, at=opened, touched=touched)
        tree = scan.run()
        self._objects.flush()
        self._objects.name(tree)
        self._cache.save()
        return Snapshot(tree, tuple(sorted(scan.notes)))

    def changes(self, before: str, after: str) -> list[Change]:
        """What is different, by path."""
        with self._open():
            found = self._trees.differences(before, after)
            return [self._trees.change(path, was, now) for path, was, now in found]

    def changed_after(self, before: str, now: str, moment: float) -> list[str]:
        """The paths that differ between two snapshots, and whose last change came after a moment.

        `moment` is in seconds since the epoch, by the clock that stamps the files.
        """
        return [
            change.path for change in self.changes(before, now) if _stamp(self.root / change.path) > moment
        ]

    def text(self, snapshot: str, path: str) -> bytes | None:
        """The content of a file, or where a link points; None when there is neither."""
        with self._open():
            entry = self._trees.whole(snapshot, path)
            return self._objects.read(entry.id) if entry.kind in {"file", "link"} else None

    def lay_out(self, snapshot: str, into: Path) -> None:
        """Write a snapshot into another folder, which holds nothing else afterwards but its own `.orc`.

        For looking at: what was left out, and what a link outside leads to, is there by name alone.
        Raises StorageError.
        """
        with self._open():
            for old in into.iterdir():
                if old.name != FOLDER:
                    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            for path, _, entry in self._trees.differences(self._objects.put("tree", b""), snapshot):
                self._lay(entry, path, into)

    def _lay(self, entry: Entry, path: str, into: Path) -> None:
        at = into / path
        if entry.kind == "folder":
            at.mkdir(parents=True, exist_ok=True)
        elif entry.kind == "file":
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(self._objects.read(entry.id))
            at.chmod(entry.mode | stat.S_IRUSR | stat.S_IWUSR)
        elif entry.kind == "link":
            target = os.fsdecode(self._objects.read(entry.id))
            if stays_inside(path, target):
                at.symlink_to(target)
            else:
                stand_in(at, is_folder=(self.root / path).is_dir())
        elif entry.kind == "left":
            stand_in(at, is_folder=is_folder(entry))

    def plan(self, edges: Sequence[Edge], apart: Mapping[str, str] | None = None) -> Plan:
        """What undoing calls would do; changes nothing. Raises StorageError.

        Each edge has the snapshots before and after one call, the oldest call first. `apart` are paths
        that stay, with the reason, which is empty for what is not even told.
        """
        with self._open() as opened:
            now = self._take(opened, looked_at(changed_paths(self._trees, edges)))
            return make_plan(self._trees, edges, now.id, now.notes, apart or {})

    def apply(self, plan: Plan, *, force: bool = False) -> Applied:
        """Do what a plan says; what changed since the plan was made is left alone and told, even by force.

        Raises StorageError when the disk is full: then a new plan with the same edges finishes the work.
        """
        with self._open() as opened:
            limits = replace(self.limits, new_bytes=1 << 60)
            scan = Scan(self._objects, self._cache, limits, at=opened)
            work = Restoration(opened, self._objects, scan)
            work.run(plan.forced if force else plan.actions)
            known = plan.forced_conflicts if force else plan.conflicts
            return Applied(plan.now, tuple(work.done), (*known, *work.conflicts), plan.notes)

    def keep_only(self, ids: Iterable[str], *, spare_seconds: float = SPARED_SECONDS) -> int:
        """Remove all other snapshots but the youngest; returns the bytes freed."""
        with self._open():
            top = self._cache.folders.get("")
            names = {*ids, top.tree} if top else set(ids)
            self._trees.folder.cache_clear()
            return self._objects.keep(names, older_than=time.time() - spare_seconds)

    def verify(self, needed: Iterable[str] = ()) -> list[str]:
        """What is wrong with the repository, and what is needed and not in it; empty when all is well."""
        with self._open():
            lost = [f"the snapshot {name} is missing" for name in self._objects.missing(sorted(needed))]
            return [*lost, *self._objects.check()]

    def _relative(self, paths: Iterable[Path]) -> set[str]:
        found = set()
        for path in paths:
            plain = os.path.normpath(self.root / path)
            real = os.path.join(os.path.realpath(os.path.dirname(plain)), os.path.basename(plain))  # noqa: PTH118, PTH119, PTH120
            for base, name in ((self.root, plain), (self.root.resolve(), real)):
                with contextlib.suppress(ValueError):
                    found.add(Path(name).relative_to(base).as_posix())
        return found - {"."}

    @contextlib.contextmanager
    def _open(self) -> Iterator[Opened]:
        """Hold the lock, with everything in order. Raises StorageError."""
        try:
            # For its owner's eyes only: it holds copies of files that may be private.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / "lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._objects.create()
                os.utime(lock.fileno())
                now = os.fstat(lock.fileno()).st_ctime_ns
                root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    doors = Doors(root, self.folder / "undo.json")
                    doors.recover()
                    self._cache.sync()
                    yield Opened(root, now, doors)
                except BaseException:
                    self._cache.forget()
                    raise
                finally:
                    os.close(root)
                    self._objects.forget()
        except OSError as error:
            raise StorageError(f"cannot keep snapshots in {self.folder}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full; free some space and try again"
    return str(error.strerror or error)


def _stamp(path: Path) -> float:
    """When what is at a path was changed last; 0 where nothing is: to bring it back overwrites nothing."""
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0
