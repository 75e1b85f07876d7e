"""Search file contents; the work is done by `scan` in a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from orchestrator.errors import ToolError
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.files import READS
from orchestrator.tools.paths import opened
from orchestrator.tools.walk import SKIPPED, counted, missing, walk

SECONDS = 15.0
SCRIPT = str(Path(__file__).with_name("scan.py"))


class SearchFilesArguments(Arguments):
    """Arguments of search_files."""

    pattern: str = Field(
        min_length=1, max_length=2000, description="text or regular expression, within one line"
    )
    path: str = Field(default=".", description="folder or file to search")
    glob: str = Field(default="", description="only files like this, such as *.py")
    ignore_case: bool = Field(default=False, description="treat a and A as the same")
    limit: int = Field(default=60, ge=1, le=500, description="most lines to show; all are counted")


@dataclass
class Hits:
    """What a search found."""

    rows: list[tuple[str, int, int, str]] = field(default_factory=list)
    """Path, number, column of what is shown (0 for a whole line), text."""
    total: dict[str, Any] | None = None
    """Counts of the whole search; None when it was stopped before its end."""


async def search_files(arguments: SearchFilesArguments, context: ToolContext) -> str:
    """Return `path:line: text` for each match, after a line with the count."""
    hits, base = await _scan(arguments, context.root)
    if hits.total and not hits.total["matches"] and not arguments.ignore_case:
        loose, _ = await _scan(arguments.model_copy(update={"ignore_case": True}), context.root)
        if loose.total and loose.total["matches"]:
            return "no match in this case of letters; with ignore_case=true: " + _text(loose, base, arguments)
    if hits.total and not hits.total["matches"]:
        return _text(hits, base, arguments) + await asyncio.to_thread(_named_so, arguments, context.root)
    return _text(hits, base, arguments)


def _named_so(wanted: SearchFilesArguments, root: Path) -> str:
    """What is named as the pattern says, for a search that meant names and looked into files."""
    plain = re.sub(r"[\\^$*?()\[\]]", "", wanted.pattern).casefold()
    with opened(root, wanted.path) as top:
        if not plain or not stat.S_ISDIR(top.stat.st_mode):
            return ""
        found = [entry.path for entry in walk(top.fd) if plain in entry.path.casefold()][:20]
    return f". But these are named so: {', '.join(found)}" if found else ""


async def _scan(wanted: SearchFilesArguments, root: Path) -> tuple[Hits, str]:
    try:
        with opened(root, wanted.path) as top:
            return await _ask(wanted, top.fd), top.relative
    except FileNotFoundError:
        raise missing(root, wanted.path) from None


async def _ask(wanted: SearchFilesArguments, fd: int) -> Hits:
    request = {**wanted.model_dump(exclude={"path"}), "fd": fd, "skipped": sorted(SKIPPED)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-ISE",
        SCRIPT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(fd,),
        limit=1 << 20,
        env={"LANG": "C.UTF-8", "PATH": os.defpath},
    )
    hits = Hits()
    try:
        async with asyncio.timeout(SECONDS):
            await _collect(process, json.dumps(request).encode(), hits)
    except TimeoutError:
        pass
    finally:
        if hits.total is None and process.returncode is None:
            # Not process.kill(): it reaps the process, and asyncio's watcher then warns that it is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    return hits


async def _collect(process: asyncio.subprocess.Process, request: bytes, hits: Hits) -> None:
    if process.stdin is None or process.stdout is None:
        raise ToolError("the search could not be started")
    process.stdin.write(request)
    process.stdin.close()
    while line := await process.stdout.readline():
        item = json.loads(line)
        if isinstance(item, dict):
            hits.total = item
        else:
            hits.rows.append((item[0], item[1], item[2], item[3]))


def _text(hits: Hits, base: str, wanted: SearchFilesArguments) -> str:
    rows = [
        f"{_joined(base, path)}:{_place(number, column)}: {line}" for path, number, column, line in hits.rows
    ]
    if hits.total is None:
        advice = "use a simpler pattern or a narrower path"
        head = f"stopped after {SECONDS:g} s; {advice}. Found so far: {len(rows)}"
        return "\n".join([head, *rows])
    note = f" ({hits.total['note']})" if hits.total["note"] else ""
    if not rows:
        like = f" like {wanted.glob}" if wanted.glob else ""
        return f"no match in {counted(hits.total['seen'], 'file')}{like}{note}"
    more = f"; the first {len(rows)} are shown" if hits.total["matches"] > len(rows) else ""
    head = f"{counted(hits.total['matches'], 'match')} in {counted(hits.total['files'], 'file')}{more}{note}"
    return "\n".join([head, *rows])


def _place(line: int, column: int) -> str:
    return f"{line} [column={column}]" if column else f"{line}"


def _joined(base: str, path: str) -> str:
    return base if not path else path if base == "." else f"{base}/{path}"


SEARCH_FILES = Tool(
    name="search_files",
    description="Find lines in files by text or regular expression.",
    arguments=SearchFilesArguments,
    run=search_files,
    effects=READS,
    seconds=2 * SECONDS + 10,
    tokens=5_000,
)
