"""Change files of the workspace: write, edit, move, delete, each whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import shutil
import stat
import sys
from pathlib import Path

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.match import applied, context_diff
from orchestrator.tools.paths import Spot, explained, opened, spot
from orchestrator.tools.walk import counted, missing, walk
from orchestrator.tools.writing import LARGEST, replace, syntax

UNCHANGED_WRITE = "already held exactly this"
BLANK_ONLY = " (only blank space changed)"
SHOWN_LINES = 30
"""A refused edit shows a file that is no longer than this."""


def _writes(*paths: str, repeatable: bool) -> Effects:
    return Effects(
        executes=False,
        network=False,
        reversible=True,
        repeatable=repeatable,
        paths=paths,
        output=Trust.WORKSPACE,
    )


class WriteFileArguments(Arguments):
    """Arguments of write_file."""

    path: str = Field(description="file, relative to the workspace; missing folders are made")
    content: str = Field(description="the whole new content")


async def write_file(arguments: WriteFileArguments, context: ToolContext) -> str:
    """Create or replace a file."""
    return await asyncio.to_thread(_write, context.root, arguments.path, arguments.content)


def _write(root: Path, path: str, content: str) -> str:
    if path.endswith("/"):
        raise ToolError(f"{path!r} names a folder; give a file's name (missing folders are made)")
    encoded = content.encode("utf-8", "replace")
    if _holds(root, path, encoded):
        return f"{path} {UNCHANGED_WRITE}; nothing changed{syntax(path, content)}"
    with spot(root, path, follow=True, make=True) as place:
        if place.is_folder:
            raise ToolError(f"{path!r} is a folder; give a file's name in it")
        replace(place, encoded, path)
    did = "replaced" if place.stat else "wrote"
    lines = counted(len(content.splitlines()), "line")
    return f"{did} {place.relative} ({lines}, {len(encoded):,} bytes){syntax(place.name, content)}"


def _holds(root: Path, path: str, content: bytes) -> bool:
    """Whether a file has this content already; False for whatever cannot be read."""
    try:
        with opened(root, path) as file:
            if not stat.S_ISREG(file.stat.st_mode) or file.stat.st_size != len(content):
                return False
            with os.fdopen(file.fd, "rb", closefd=False) as stream:
                return stream.read() == content
    except (OSError, ToolError):
        return False


class EditFileArguments(Arguments):
    """Arguments of edit_file."""

    path: str = Field(description="file, relative to the workspace")
    old: str = Field(
        min_length=1, description="text to replace, exactly as in the file, without line numbers"
    )
    new: str = Field(description="text to put there")


async def edit_file(arguments: EditFileArguments, context: ToolContext) -> str:
    """Replace a text that occurs exactly once."""
    return await asyncio.to_thread(_edit, context.root, arguments)


def _edit(root: Path, wanted: EditFileArguments) -> str:
    try:
        with opened(root, wanted.path) as file:
            if stat.S_ISDIR(file.stat.st_mode):
                raise ToolError(f"{wanted.path!r} is a folder; name a file")
            if file.stat.st_size > LARGEST:
                raise ToolError(f"{wanted.path!r} is too big to edit here; change it with run_python")
            with os.fdopen(file.fd, "rb", closefd=False) as stream:
                # surrogateescape: bytes that are no UTF-8 come back out as they were.
                before = stream.read().decode("utf-8", "surrogateescape")
        after = applied(before, wanted.old, wanted.new, wanted.path)
        _refuse_to_break(wanted.path, before, after)
        with spot(root, wanted.path, follow=True) as place:
            replace(place, after.encode("utf-8", "surrogateescape"), wanted.path)
    except FileNotFoundError:
        raise missing(root, wanted.path) from None
    only = BLANK_ONLY if _ink(before) == _ink(after) else ""
    return f"edited {place.relative}{only}\n{context_diff(before, after)}{syntax(place.name, after)}"


def _ink(text: str) -> list[str]:
    """What of a text is more than blank lines and spaces at the ends of lines."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _refuse_to_break(path: str, before: str, after: str) -> None:
    """Refuse an edit that makes a readable file unreadable: small models get lost in half-done edits."""
    wrong = syntax(path, after).strip()
    if wrong.startswith("syntax error") and syntax(path, before).strip() == "syntax: ok":
        lines = before.splitlines()
        shown = "\n".join(f"{number}| {line}" for number, line in enumerate(lines, 1))
        still = f" It still holds:\n{shown}" if len(lines) <= SHOWN_LINES else ""
        raise ToolError(
            f"not edited: {path} would have a {wrong}. Replace whole lines, with their indentation, "
            f"or write the whole file with write_file.{still}"
        )


class MoveFileArguments(Arguments):
    """Arguments of move_file."""

    source: str = Field(description="file or folder, relative to the workspace")
    target: str = Field(description="new path, or an existing folder to move it into")


async def move_file(arguments: MoveFileArguments, context: ToolContext) -> str:
    """Move or rename; never over something that exists."""
    return await asyncio.to_thread(_move, context.root, arguments.source, arguments.target)


def _move(root: Path, source: str, target: str) -> str:
    with contextlib.ExitStack() as stack:
        try:
            origin = stack.enter_context(spot(root, source, follow=False))
        except FileNotFoundError:
            raise missing(root, source) from None
        if origin.stat is None:
            raise missing(root, source)
        if target.endswith("/") or _is_folder(root, target):
            target = f"{target.rstrip('/')}/{origin.name}"
        place = stack.enter_context(spot(root, target, follow=False, make=True))
        if place.stat is not None:
            raise ToolError(f"{target!r} exists already; choose another name or delete it first")
        try:
            with explained(target):
                _rename(origin, place)
        except FileNotFoundError:
            raise missing(root, source) from None
    return f"moved {origin.relative} to {place.relative}"


def _is_folder(root: Path, path: str) -> bool:
    try:
        with opened(root, path) as found:
            return stat.S_ISDIR(found.stat.st_mode)
    except FileNotFoundError:
        return False


def _rename(origin: Spot, place: Spot) -> None:
    """Rename so that something which appeared meanwhile is not overwritten. Raises OSError, ToolError."""
    renameat2 = (
        getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    )
    code = errno.ENOSYS
    if renameat2 is not None:
        names = os.fsencode(origin.name), os.fsencode(place.name)
        if renameat2(origin.folder, names[0], place.folder, names[1], 1) == 0:
            return
        code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL} and not place.relative.startswith(f"{origin.relative}/"):
        os.rename(origin.name, place.name, src_dir_fd=origin.folder, dst_dir_fd=place.folder)
        return
    if code == errno.EEXIST:
        raise ToolError(f"{place.relative!r} exists already; choose another name or delete it first")
    if code in {errno.EINVAL, errno.ENOSYS}:
        raise ToolError(f"{origin.relative!r} cannot be moved into itself")
    raise OSError(code, os.strerror(code))


class DeleteFileArguments(Arguments):
    """Arguments of delete_file."""

    path: str = Field(description="file or folder, relative to the workspace")
    recursive: bool = Field(default=False, description="delete a folder with everything in it")


async def delete_file(arguments: DeleteFileArguments, context: ToolContext) -> str:
    """Delete a file, a link or a folder; what a link points at stays."""
    return await asyncio.to_thread(_delete, context.root, arguments.path, arguments.recursive)


def _delete(root: Path, path: str, recursive: bool) -> str:
    try:
        with spot(root, path, follow=False) as place:
            if place.stat is None:
                raise missing(root, path)
            with explained(path):
                if not place.is_folder:
                    os.unlink(place.name, dir_fd=place.folder)
                    return f"deleted {place.relative}"
                return _delete_folder(place, recursive)
    except FileNotFoundError:
        raise missing(root, path) from None


def _delete_folder(place: Spot, recursive: bool) -> str:
    fd = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.folder)
    try:
        with os.scandir(fd) as found:
            held = sum(1 for _ in found)
        entries = list(walk(fd)) if recursive else []
        protected = _protected_inside(fd)
    finally:
        os.close(fd)
    if held and not recursive:
        raise ToolError(f"{place.relative!r} is a folder with {counted(held, 'item')}; use recursive=true")
    if protected:
        raise ToolError(
            f"{place.relative!r} holds {protected!r}, which is protected; delete other parts by name"
        )
    if held:
        shutil.rmtree(place.name, dir_fd=place.folder)
    else:
        os.rmdir(place.name, dir_fd=place.folder)
    files = sum(not entry.is_folder for entry in entries)
    return f"deleted {place.relative}/ ({counted(files, 'file')})"


def _protected_inside(fd: int) -> str:
    """The first folder with history or state below an open folder; empty when there is none."""
    for _, folders, _, _ in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
        for name in folders:
            if name.casefold() in {".git", ".orc"}:
                return name
    return ""


WRITE_FILE = Tool(
    name="write_file",
    description="Create a file or replace its whole content.",
    arguments=WriteFileArguments,
    run=write_file,
    effects=_writes("path", repeatable=True),
)
EDIT_FILE = Tool(
    name="edit_file",
    description="Replace one exact piece of text in a file.",
    arguments=EditFileArguments,
    run=edit_file,
    effects=_writes("path", repeatable=False),
)
MOVE_FILE = Tool(
    name="move_file",
    description="Move or rename a file or folder; never overwrites.",
    arguments=MoveFileArguments,
    run=move_file,
    effects=_writes("source", "target", repeatable=False),
)
DELETE_FILE = Tool(
    name="delete_file",
    description="Delete a file or folder.",
    arguments=DeleteFileArguments,
    run=delete_file,
    effects=_writes("path", repeatable=False),
)
