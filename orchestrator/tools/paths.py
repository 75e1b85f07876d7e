"""Turn the paths that a model writes into open descriptors that lie inside the workspace.

A path is judged by where the kernel ends up, not by how it reads: `openat2` resolves it beneath the root,
and everything after works on the descriptor, so that a link swapped in between changes nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from orchestrator.errors import ToolError

HIDDEN = frozenset({".orc", "orc~1"})
"""Our own state: no tool reads or writes it."""
READ_ONLY = frozenset({
    ".git", "git~1", ".vscode", ".idea", ".husky", ".devcontainer", ".gitmodules", ".gitconfig", ".envrc",
    ".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshrc", ".zprofile", ".zshenv", ".mcp.json",
    ".ssh", ".gnupg",
})  # fmt: skip
"""Names that hold history, or that other programs run when the folder is opened: read, never written."""

_PATH = getattr(os, "O_PATH", os.O_RDONLY)
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_OPENAT2 = 437
_NO_MAGICLINKS, _BENEATH = 0x02, 0x08
_MOST_LINKS = 40
_SHORT_NAME = re.compile(r"\w{1,6}~[0-9](\.\w{1,3})?")
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class _How(ctypes.Structure):
    """The kernel's `struct open_how`, see openat2(2)."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@dataclass(frozen=True)
class Opened:
    """A file or folder that is open for reading."""

    fd: int
    relative: str
    """Its real place below the root; `.` is the root."""
    stat: os.stat_result


@dataclass(frozen=True)
class Spot:
    """A name in an open folder: where something is written, moved or deleted."""

    folder: int
    name: str
    relative: str
    stat: os.stat_result | None
    """What is there now, links not followed; None when nothing is."""

    @property
    def is_folder(self) -> bool:
        """Whether a real folder is there, not a link to one."""
        return self.stat is not None and stat.S_ISDIR(self.stat.st_mode)


def screen(root: Path, path: str, *, writing: bool = False) -> str:
    """Refuse what no honest path looks like; return the path relative to the root. Raises ToolError."""
    relative = _relative(root, path)
    decoded = unquote(relative)
    if decoded != relative and ("\0" in decoded or _shape(decoded) != _shape(relative)):
        raise ToolError(f"{path!r} hides a path in percent codes; write the plain path")
    plain = unicodedata.normalize("NFKC", relative)
    if _shape(plain) != _shape(relative):
        raise ToolError(f"{path!r} holds look-alikes of dots or slashes; write them as plain characters")
    if writing:
        for part in relative.split("/"):
            _refuse_unportable(part, path)
    return relative


def _relative(root: Path, path: str) -> str:
    if not path.strip():
        raise ToolError("the path is empty; give a path relative to the workspace, such as notes.txt")
    if any(unicodedata.category(sign) in {"Cc", "Cs"} or sign in "\u2028\u2029" for sign in path):
        raise ToolError(
            f"{path!r} holds a control character, such as a line break; a path is one line of text"
        )
    if any("\u202a" <= sign <= "\u202e" or "\u2066" <= sign <= "\u2069" for sign in path):
        raise ToolError(f"{path!r} holds characters that turn the direction of text; leave them out")
    if path.startswith("~") or re.match(r"\$[\w{(]", path):
        raise ToolError(f"{path!r}: ~ and $NAME are not expanded; use a path relative to the workspace")
    if re.match(r"(?i)[a-z][a-z0-9+.-]*://|file:|[a-z]:([\\/]|$)", path) or "\\" in path:
        raise ToolError(f"{path!r} is no path of this machine; use one with / relative to the workspace")
    if len(os.fsencode(path)) > 4000:
        raise ToolError("the path is longer than 4,000 bytes")
    if not path.startswith("/"):
        return path
    for base in (str(root), os.path.realpath(root)):
        if path == base or path.startswith(base.rstrip("/") + "/"):
            return path[len(base) :].lstrip("/") or "."
    raise ToolError(
        f"{path!r} is outside the workspace; use a path relative to the workspace, such as notes.txt"
    )


def _shape(path: str) -> list[str]:
    """How a path climbs and descends, whatever the names are."""
    return [part if part in {"", ".", ".."} else "x" for part in path.replace("\\", "/").split("/")]


def _refuse_unportable(part: str, path: str) -> None:
    if part.strip(".") and part != part.rstrip(" ."):
        raise ToolError(
            f"{path!r}: a name that ends in a dot or space is another file elsewhere; leave it out"
        )
    if ":" in part or _DEVICE_NAME.fullmatch(part) or _SHORT_NAME.fullmatch(part):
        raise ToolError(
            f"{path!r}: {part!r} is a device, a stream or a short name on other systems; use another name"
        )


def _refuse_protected(parts: tuple[str, ...], *, writing: bool) -> None:
    for part in parts:
        plain = "".join(sign for sign in part if unicodedata.category(sign) != "Cf")
        name = unicodedata.normalize("NFKC", plain).casefold().rstrip(" .")
        if name in HIDDEN:
            raise ToolError(f"{part!r} holds orc's own state; no tool reads or changes it")
        if writing and name in READ_ONLY:
            raise ToolError(
                f"{part!r} is protected: it may be read and not changed; ask the user to change it"
            )


def _openat2(folder: int, path: str) -> int:
    """Open a path beneath a folder; raises OSError, ENOSYS where the kernel has no such call."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no openat2")
    libc = ctypes.CDLL(None, use_errno=True)
    how = _How(_PATH | os.O_CLOEXEC, 0, _BENEATH | _NO_MAGICLINKS)
    for _ in range(20):
        fd = libc.syscall(_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        # EAGAIN: a rename elsewhere crossed a `..` of ours; the kernel asks to try again.
        if ctypes.get_errno() != errno.EAGAIN:
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def _real_parts(root: int, path: str) -> tuple[str, ...]:
    """Where an existing path really lies beneath the root, all links followed. Raises OSError."""
    try:
        fd = _openat2(root, path)
    except OSError as error:
        # EXDEV: it may be an absolute link that points back inside; the walk knows, and is as strict.
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EPERM}:
            raise
        return _walk(root, path)
    try:
        base, real = (str(Path(f"/proc/self/fd/{item}").readlink()) for item in (root, fd))
    except OSError:
        return _walk(root, path)
    finally:
        os.close(fd)
    if real != base and not real.startswith(base.rstrip("/") + "/"):
        raise OSError(errno.EXDEV, "outside the workspace")
    return tuple(part for part in real[len(base) :].split("/") if part)


def _walk(root: int, path: str) -> tuple[str, ...]:
    """The same by hand, one name at a time, for systems without openat2 and for absolute links."""
    pending = [part for part in reversed(path.split("/")) if part not in {"", "."}]
    folders, parts, links = [os.dup(root)], list[str](), 0
    try:
        while pending:
            part = pending.pop()
            if part == "..":
                if not parts:
                    raise OSError(errno.EXDEV, "outside the workspace")
                parts.pop()
                os.close(folders.pop())
                continue
            found = os.stat(part, dir_fd=folders[-1], follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, "too many links")
                pending += _target(root, os.readlink(part, dir_fd=folders[-1]), folders, parts)
            elif stat.S_ISDIR(found.st_mode):
                folders.append(os.open(part, _PATH | _FOLDER, dir_fd=folders[-1]))
                parts.append(part)
            elif pending:
                raise OSError(errno.ENOTDIR, "not a folder")
            else:
                parts.append(part)
        return tuple(parts)
    finally:
        for fd in folders:
            os.close(fd)


def _target(root: int, target: str, folders: list[int], parts: list[str]) -> list[str]:
    """The names that a link adds, last first; an absolute one starts again at the root."""
    if target.startswith("/"):
        base = str(Path(f"/proc/self/fd/{root}").readlink())
        if target != base and not target.startswith(base.rstrip("/") + "/"):
            raise OSError(errno.EXDEV, "outside the workspace")
        target = target[len(base) :]
        parts.clear()
        while len(folders) > 1:
            os.close(folders.pop())
    return [part for part in reversed(target.split("/")) if part not in {"", "."}]


def _descend(root: int, parts: tuple[str, ...], *, make: bool = False) -> int:
    """Open a folder by its real path, no link followed; with `make`, missing ones are made."""
    fd = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=root)
    for part in parts:
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            deeper = os.open(part, os.O_RDONLY | _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


@contextlib.contextmanager
def _root(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(root: Path, path: str) -> Iterator[Opened]:
    """Open a file or folder for reading, links inside followed. Raises ToolError; FileNotFoundError as is."""
    relative = screen(root, path)
    with _root(root) as base:
        with explained(path):
            parts = _real_parts(base, relative)
            _refuse_protected(parts, writing=False)
            fd = _open_for_reading(base, parts, path)
        try:
            yield Opened(fd, "/".join(parts) or ".", os.fstat(fd))
        finally:
            os.close(fd)


def _open_for_reading(base: int, parts: tuple[str, ...], path: str) -> int:
    if not parts:
        return os.dup(base)
    folder = _descend(base, parts[:-1])
    try:
        # Looked at before it is opened: opening a device can already do something.
        _refuse_special(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), path)
        fd = os.open(parts[-1], _READ, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _refuse_special(os.fstat(fd), path)
    except ToolError:
        os.close(fd)
        raise
    return fd


def _refuse_special(found: os.stat_result, path: str) -> None:
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise ToolError(f"{path!r} is {kind(found)}, not a file; it is left alone")


def kind(found: os.stat_result) -> str:
    """What a thing in a folder is, in words."""
    names = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(found.st_mode), "a special file")


@contextlib.contextmanager
def spot(root: Path, path: str, *, follow: bool, make: bool = False) -> Iterator[Spot]:
    """Open the folder of a path that is to be changed.

    With `follow`, a link inside the workspace stands for its target; without, for itself. With `make`,
    missing folders are made. Raises ToolError; FileNotFoundError as is when a folder is missing.
    """
    relative = screen(root, path, writing=True)
    with _root(root) as base:
        with explained(path):
            parts = _place(base, relative, follow=follow)
            if not parts:
                raise ToolError(f"{path!r} is the workspace itself; name a file or folder in it")
            _refuse_protected(parts, writing=True)
            folder = _descend(base, parts[:-1], make=make)
        try:
            with explained(path):
                found = _look(folder, parts[-1])
            if found and stat.S_ISLNK(found.st_mode) and (follow or path.endswith("/")):
                raise ToolError(f"{path!r} is a link that leads to nothing or out; delete the link first")
            yield Spot(folder, parts[-1], "/".join(parts), found)
        finally:
            os.close(folder)


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _place(base: int, relative: str, *, follow: bool) -> tuple[str, ...]:
    """The real path of something that may not exist yet."""
    names = [part for part in relative.split("/") if part not in {"", "."}]
    last_is_name = bool(names) and names[-1] != ".."
    if follow or not last_is_name:
        with contextlib.suppress(FileNotFoundError):
            return _real_parts(base, relative.rstrip("/") or ".")
    for end in range(len(names) - 1, -1, -1):
        try:
            parts = _real_parts(base, "/".join(names[:end]) or ".")
        except FileNotFoundError:
            continue
        missing = tuple(names[end:])
        if ".." in missing:
            raise OSError(errno.EXDEV, "climbs out of a folder that is not there")
        return parts + missing
    return ()


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what the system says into what the model can do about it; FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        reasons = {
            errno.EXDEV: "leads out of the workspace; use a path inside it",
            errno.ELOOP: "leads through a link that may not be followed, or links in a circle",
            errno.ENOTDIR: "goes through something that is not a folder; list_files shows what is there",
            errno.EISDIR: "is a folder; name a file",
            errno.ENAMETOOLONG: "has a name that is too long (255 bytes at most)",
            errno.ENOSPC: "could not be written: the disk is full; nothing was changed",
            errno.EDQUOT: "could not be written: the disk quota is used up; nothing was changed",
            errno.EROFS: "is on a read-only disk",
            errno.ENOTEMPTY: "is a folder that is not empty",
            errno.ENXIO: "is a socket or device, not a file; it is left alone",
        }
        denied = "may not be accessed: permission denied" if isinstance(error, PermissionError) else ""
        why = reasons.get(error.errno or 0) or denied or f"failed: {error.strerror or error}"
        raise ToolError(f"{path!r} {why}") from None
