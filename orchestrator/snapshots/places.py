"""Reach and swap things in the workspace by descriptor, so that no link leads out of it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from functools import cache

_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_FOLDER = _PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_REPLACE, _EXCHANGE = 1, 2
_UNKNOWN_HERE = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})

ROOT = "."
"""The path of the workspace's own folder, of which only the mode is compared."""
Place = tuple[int, str]
"""An open folder and a name in it."""


@contextlib.contextmanager
def place(root: int, path: str) -> Iterator[Place]:
    """Where a path is: its folder, reached without following a link, and its name. Raises OSError."""
    *parts, name = path.split("/")
    fd = os.open(".", _FOLDER, dir_fd=root)
    try:
        for part in parts:
            deeper = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd, name
    finally:
        os.close(fd)


def ways_to(path: str) -> list[str]:
    """A path and the folders above it, without the root."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def set_mode(at: Place, mode: int) -> None:
    """Change permission bits, never through a link. Raises OSError, also when the system drops a bit."""
    # chmod has no way to say `no links` on Linux; a descriptor that only names the file does it.
    fd = os.open(at[1], _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at[0])
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, "it is a link now")
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101 - a descriptor has no path
        except FileNotFoundError:
            os.fchmod(fd, mode)
        if os.fstat(fd).st_mode & 0o7777 != mode:
            raise OSError(errno.EPERM, "the system does not let you set these permissions")
    finally:
        os.close(fd)


def exchange(one: Place, other: Place) -> bool:
    """Swap two things in one step; False where the system or the disk cannot. Raises OSError."""
    try:
        return _rename(one, other, _EXCHANGE)
    except OSError as error:
        # Within one folder it is not another disk but a folder from a lower layer of an overlay.
        if error.errno == errno.EXDEV and one[0] == other[0]:
            return False
        raise


def sync_disk(folder: int) -> None:
    """Bring all that was written to the disk of a folder onto it. Raises OSError."""
    call = getattr(_libc(), "syncfs", None)
    if call is None:
        os.sync()
    elif call(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def move(source: Place, to: Place) -> None:
    """Move without replacing anything. Raises OSError, FileExistsError among them."""
    if _rename(source, to, _NO_REPLACE):
        return
    with contextlib.suppress(FileNotFoundError):
        os.stat(to[1], dir_fd=to[0], follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(source[1], to[1], src_dir_fd=source[0], dst_dir_fd=to[0])


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _rename(source: Place, to: Place, flags: int) -> bool:
    call = getattr(_libc(), "renameat2", None)
    if call is None:
        return False
    if call(source[0], os.fsencode(source[1]), to[0], os.fsencode(to[1]), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNKNOWN_HERE:
        return False
    raise OSError(code, os.strerror(code))
