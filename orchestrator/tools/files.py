"""Read and list files of the workspace, however big, broken or binary they are."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import stat
import time
from pathlib import Path

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.llm.tokens import tokens
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.lines import CHUNK, next_line, passed
from orchestrator.tools.paths import kind, opened
from orchestrator.tools.results import SCHEME, opened_result
from orchestrator.tools.walk import Entry, counted, missing, size, walk

LINE_CHARACTERS = 1000
PAGE_SHARE = 0.85
"""Of the tool's budget, so that a page ends at a line and names the next offset."""
PAGE_TOKENS = 5_000
COUNT_SECONDS = 3.0

MAGIC = {
    b"\x7fELF": "an ELF program",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (or a document in one)",
    b"\x1f\x8b": "gzip-compressed",
    b"SQLite format 3": "an SQLite database; use run_python with sqlite3",
}

READS = Effects(
    writes=False,
    executes=False,
    network=False,
    reversible=True,
    repeatable=True,
    paths=("path",),
    output=Trust.WORKSPACE,
)


class ReadFileArguments(Arguments):
    """Arguments of read_file."""

    path: str = Field(description="file, relative to the workspace")
    offset: int = Field(default=1, ge=1, description="first line, counted from 1")
    limit: int = Field(default=400, ge=1, le=5000, description="number of lines")
    column: int = Field(default=1, ge=1, description="first character of that line, to go on in a long one")


async def read_file(arguments: ReadFileArguments, context: ToolContext) -> str:
    """Return numbered lines with a first line that says which of how many they are."""
    if arguments.path.strip().startswith(SCHEME):
        return await asyncio.to_thread(_kept, context, arguments)
    return await asyncio.to_thread(_read, context.root, arguments, _budget(context))


def _budget(context: ToolContext) -> int:
    return int(PAGE_SHARE * context.settings.result_tokens.get("read_file", PAGE_TOKENS))


def _kept(context: ToolContext, wanted: ReadFileArguments) -> str:
    """A page of a result that was too long; see `results`."""
    fd = opened_result(context.results, wanted.path)
    try:
        return _page(fd, wanted.path.strip(), os.fstat(fd).st_size, wanted, _budget(context))
    finally:
        os.close(fd)


def _read(root: Path, wanted: ReadFileArguments, budget: int) -> str:
    try:
        with opened(root, wanted.path) as file:
            if stat.S_ISDIR(file.stat.st_mode):
                raise ToolError(f"{wanted.path!r} is a folder; use list_files to see what is in it")
            start = os.pread(file.fd, 8192, 0)
            if not start:
                return f"{file.relative}: empty file (0 bytes)"
            if b"\0" in start:
                what = next((text for magic, text in MAGIC.items() if start.startswith(magic)), "binary")
                return f"{file.relative}: {size(file.stat.st_size)}, {what}; it is not text and is not shown"
            return _page(file.fd, file.relative, file.stat.st_size, wanted, budget)
    except FileNotFoundError:
        raise missing(root, wanted.path) from None


def _page(fd: int, name: str, total_bytes: int, wanted: ReadFileArguments, budget: int) -> str:
    """Read one page as a stream; the file is never held whole, even when it is one line."""
    shown: list[str] = []
    used, number, is_full, inside = 0, 0, False, ""
    with os.fdopen(fd, "rb", buffering=CHUNK, closefd=False) as stream:
        while number + 1 < wanted.offset and passed(stream):
            number += 1
        while line := next_line(stream, *_part(wanted, budget, is_first=not shown)):
            number += 1
            used += tokens(row := line.row(number))
            if len(shown) >= wanted.limit or (shown and used > budget):
                is_full = True
                break
            shown.append(row)
            if line.column > 1 and line.is_cut:
                inside, is_full = f", characters {line.column:,}–{line.next - 1:,}", True  # noqa: RUF001
                inside += f"; go on with offset={number}, column={line.next}"
                break
        rest = _count_lines(fd, stream.tell(), total_bytes) if is_full else (0, True)
    total, is_exact = number + rest[0], rest[1]
    if not shown:
        raise ToolError(f"{name} has {counted(total, 'line')}; offset {wanted.offset} is past its end")
    last = wanted.offset + len(shown) - 1
    of = f"{total:,}" if is_exact else f"about {total:,}"
    more = inside or (f"; go on with offset={last + 1}" if last < total else "")
    lines = "line" if wanted.offset == last else "lines"
    span = f"{wanted.offset}" if wanted.offset == last else f"{wanted.offset}–{last}"  # noqa: RUF001
    return f"{name}: {lines} {span} of {of}{more}\n" + "\n".join(shown)


def _part(wanted: ReadFileArguments, budget: int, *, is_first: bool) -> tuple[int, int, int]:
    """Which part of the next line is shown: its first character, most characters, most tokens.

    A line that is read on in has the page for itself.
    """
    if is_first and wanted.column > 1:
        return wanted.column, budget * 8, budget
    return 1, LINE_CHARACTERS, budget


def _count_lines(fd: int, offset: int, total_bytes: int) -> tuple[int, bool]:
    """Lines after a place in the file; estimated from what was seen when counting takes too long."""
    deadline, lines, place, last = time.monotonic() + COUNT_SECONDS, 0, offset, b"\n"
    while chunk := os.pread(fd, CHUNK, place):
        lines += chunk.count(b"\n")
        place += len(chunk)
        last = chunk[-1:]
        if time.monotonic() > deadline:
            return int(lines * (total_bytes - offset) / max(place - offset, 1)), False
    return lines + (last != b"\n"), True


class ListFilesArguments(Arguments):
    """Arguments of list_files."""

    path: str = Field(default=".", description="folder, relative to the workspace")
    depth: int = Field(default=2, ge=1, le=32, description="how many levels of folders to show")
    glob: str | None = Field(default=None, description="only files like this at any depth, such as *.py")
    limit: int = Field(default=200, ge=1, le=2000, description="most entries to show")


async def list_files(arguments: ListFilesArguments, context: ToolContext) -> str:
    """Return paths with sizes, folders with a slash, and the totals."""
    return await asyncio.to_thread(_list, context.root, arguments)


def _list(root: Path, wanted: ListFilesArguments) -> str:
    try:
        with opened(root, wanted.path) as folder:
            if not stat.S_ISDIR(folder.stat.st_mode):
                return f"{folder.relative}: {size(folder.stat.st_size)} (a file; read_file shows it)"
            prefix = "" if folder.relative == "." else f"{folder.relative}/"
            return _listing(folder.fd, prefix, wanted)
    except FileNotFoundError:
        raise missing(root, wanted.path, folder=True) from None


def _listing(fd: int, prefix: str, wanted: ListFilesArguments) -> str:
    rows: list[str] = []
    files = folders = hidden = 0
    for entry in walk(fd, depth=32 if wanted.glob else wanted.depth):
        if not matches(entry.path, wanted.glob):
            continue
        if entry.is_folder and wanted.glob:
            continue
        files, folders = files + (not entry.is_folder), folders + entry.is_folder
        if len(rows) < wanted.limit:
            rows.append(_row(prefix, entry, is_closed=entry.depth == wanted.depth))
        else:
            hidden += 1
    what = f" like {wanted.glob}" if wanted.glob else ""
    total = f"{counted(files, 'file')}{what}" + ("" if wanted.glob else f", {counted(folders, 'folder')}")
    if not rows:
        return f"{prefix or '.'}: {total}" if wanted.glob else f"{prefix or '.'}: empty folder"
    if hidden:
        total += f" ({hidden:,} not shown; raise limit or give a glob)"
    return "\n".join([*rows, total])


def _row(prefix: str, entry: Entry, *, is_closed: bool) -> str:
    if entry.is_folder:
        return f"{prefix}{entry.path}/{' …' if is_closed else ''}"
    if entry.is_file:
        return f"{prefix}{entry.path}  {size(entry.stat.st_size)}"
    return f"{prefix}{entry.path}  ({kind(entry.stat)})"


def matches(path: str, glob: str | None) -> bool:
    """Whether a path fits a glob; one without a slash is held against the name alone."""
    if not glob:
        return True
    glob = glob.removeprefix("./")
    if "/" not in glob:
        return fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], glob)
    return fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(path, glob.replace("**/", ""))


READ_FILE = Tool(
    name="read_file",
    description="Read a text file, with line numbers.",
    arguments=ReadFileArguments,
    run=read_file,
    effects=READS,
    tokens=PAGE_TOKENS,
)
LIST_FILES = Tool(
    name="list_files",
    description="List files and folders with sizes.",
    arguments=ListFilesArguments,
    run=list_files,
    effects=READS,
    tokens=PAGE_TOKENS,
)
