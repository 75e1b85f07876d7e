"""Do what a plan says, so that a kill at any moment loses nothing and a second try finishes the work.

Everything that is to be put back is written and synced beside the snapshots before the first change.
Then each path is swapped in one step, and what the swap brought out is looked at: if it is not what the
plan saw, it is swapped back. Folders that had to be opened up are listed in a file until they are closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat

from orchestrator.errors import StorageError
from orchestrator.snapshots.doors import OPENED_UP
from orchestrator.snapshots.model import SNAPSHOTS, Action, Conflict, Entry, is_same
from orchestrator.snapshots.objects import Objects
from orchestrator.snapshots.places import Place, exchange, move, place, set_mode, sync_disk
from orchestrator.snapshots.scan import Opened, Scan, shown
from orchestrator.storage import FOLDER

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


_STAGED = "staged"
_MANY = 32
"""Files; above, one sync of the whole disk is cheaper than one of each."""


class _Changed(Exception):
    """The path is not what the plan saw."""


class Restoration:
    """One undo on an open workspace; the caller holds the snapshots' lock."""

    def __init__(self, at: Opened, objects: Objects, scan: Scan) -> None:
        self._root, self._doors, self._objects, self._scan = at.root, at.doors, objects, scan
        self._staging = objects.folder / _STAGED
        self._staged: dict[str, str] = {}
        self.done: list[Action] = []
        self.conflicts: list[Conflict] = []

    def run(self, actions: tuple[Action, ...]) -> None:
        """Raises StorageError when the disk is full or broken; everything can be tried again."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()
        staging = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._stage_all(staging, actions)
            try:
                self._doors.open(actions)
                for action in actions:
                    self._attempt(staging, action)
            finally:
                for path in self._doors.close({conflict.path for conflict in self.conflicts}):
                    self.done = [action for action in self.done if action.path != path]
                    self.conflicts.append(Conflict(path, "its permissions could not be restored"))
        finally:
            os.close(staging)
            shutil.rmtree(self._staging, ignore_errors=True)

    def _stage_all(self, staging: int, actions: tuple[Action, ...]) -> None:
        try:
            made = [action for action in actions if action.verb in {"create", "write"}]
            is_many = len(made) > _MANY
            for action in made:
                self._staged[action.path] = self._stage(staging, action.target, is_synced=not is_many)
            if is_many:
                sync_disk(staging)
        except OSError as error:
            raise StorageError(
                f"cannot write what is to be restored: {error.strerror}; nothing was changed, "
                "free some disk space and try again"
            ) from None

    def _stage(self, folder: int, target: Entry, *, is_synced: bool = True) -> str:
        """Make the thing under a name of its own; returns the name."""
        name = f".orc-undo-{secrets.token_hex(8)}"
        if target.kind == "folder":
            os.mkdir(name, OPENED_UP, dir_fd=folder)
            return name
        content = self._objects.read(target.id)
        if target.kind == "link":
            os.symlink(content, os.fsencode(name), dir_fd=folder)
            return name
        fd = os.open(name, _WRITE, 0o600, dir_fd=folder)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, target.mode)
            if is_synced:
                os.fsync(fd)
        finally:
            os.close(fd)
        return name

    def _attempt(self, staging: int, action: Action) -> None:
        try:
            with place(self._root, action.path) as at:
                self._act(staging, at, action)
            self.done.append(action)
        except _Changed:
            self._conflict(action, "you changed it just now")
        except FileExistsError:
            self._conflict(action, "you made it just now")
        except OSError as error:
            if error.errno in _FULL or error.errno in {errno.EIO, errno.EROFS}:
                raise StorageError(
                    f"{shown(action.path)} could not be restored: {error.strerror}; nothing is lost, "
                    "see to the disk and undo again"
                ) from None
            self._conflict(action, _why(error))

    def _conflict(self, action: Action, reason: str) -> None:
        self.conflicts.append(Conflict(action.path, reason))

    def _act(self, staging: int, at: Place, action: Action) -> None:
        found = self._scan.look(*at, action.path)
        if found.kind == "folder":
            found = found._replace(mode=self._doors.mode_found(action.path, found.mode))
        if is_same(found, action.target):
            return
        if not is_same(found, action.seen):
            raise _Changed
        if action.verb == "mode":
            # A folder gets its mode when all that is in it is done.
            if action.target.kind == "file":
                self._set_mode(staging, at, action)
        elif action.verb == "delete":
            self._take_out(staging, at, action)
        else:
            self._put_in(staging, at, action)

    def _set_mode(self, staging: int, at: Place, action: Action) -> None:
        if os.stat(at[1], dir_fd=at[0], follow_symlinks=False).st_nlink == 1:
            set_mode(at, action.target.mode)
            return
        # A file with several names may have one that is not part of this: that one keeps its mode.
        self._staged[action.path] = self._stage(staging, action.target)
        self._put_in(staging, at, action)

    def _came_out(self, staged: Place, action: Action) -> bool:
        """Whether what was swapped out is what the plan saw."""
        found = self._scan.look(*staged, f"{FOLDER}/{SNAPSHOTS}/{_STAGED}/{staged[1]}")
        if found.kind == "folder":
            found = found._replace(mode=self._doors.mode_found(action.path, found.mode))
        return is_same(found, action.seen)

    def _take_out(self, staging: int, at: Place, action: Action) -> None:
        if action.seen.kind == "folder":
            os.rmdir(at[1], dir_fd=at[0])
            return
        out = (staging, f"out-{secrets.token_hex(8)}")
        try:
            move(at, out)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            os.unlink(at[1], dir_fd=at[0])
            return
        if not self._came_out(out, action):
            move(out, at)
            raise _Changed
        os.unlink(out[1], dir_fd=out[0])

    def _put_in(self, staging: int, at: Place, action: Action) -> None:
        made = (staging, self._staged[action.path])
        try:
            self._swap(made, at, action)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another disk is mounted inside the workspace: the new thing has to be made on it.
            made = (at[0], self._stage(at[0], action.target))
            try:
                self._swap(made, at, action)
            finally:
                _discard(made)

    def _swap(self, made: Place, at: Place, action: Action) -> None:
        if not action.seen.is_there:
            move(made, at)
            return
        self._keep_owner(made, at)
        if exchange(made, at):
            if not self._came_out(made, action) or not _discard(made):
                exchange(made, at)
                raise _Changed
            return
        if "folder" in {action.seen.kind, action.target.kind} and not _discard(at):
            raise _Changed
        os.rename(made[1], at[1], src_dir_fd=made[0], dst_dir_fd=at[0])

    def _keep_owner(self, made: Place, at: Place) -> None:
        """What root replaces stays its owner's."""
        found = os.stat(at[1], dir_fd=at[0], follow_symlinks=False)
        new = os.stat(made[1], dir_fd=made[0], follow_symlinks=False)
        if (found.st_uid, found.st_gid) == (new.st_uid, new.st_gid):
            return
        with contextlib.suppress(PermissionError):
            os.chown(made[1], found.st_uid, found.st_gid, dir_fd=made[0], follow_symlinks=False)
            if stat.S_ISREG(new.st_mode):
                # A change of owner clears the set-user bit.
                set_mode(made, new.st_mode & 0o7777)


def _discard(made: Place) -> bool:
    """Remove a file, a link or an empty folder; False when the folder is not empty."""
    try:
        found = os.stat(made[1], dir_fd=made[0], follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(made[1], dir_fd=made[0])
        else:
            os.unlink(made[1], dir_fd=made[0])
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True


def _why(error: OSError) -> str:
    reasons = {
        errno.ENOTEMPTY: "the folder is not empty any more",
        errno.ENOENT: "its folder is not there any more",
        errno.ENOTDIR: "its folder is something else now",
        errno.ELOOP: "its folder is a link now",
    }
    return reasons.get(error.errno or 0, f"{error.strerror or error}")
