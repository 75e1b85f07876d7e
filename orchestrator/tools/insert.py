"""Put lines into a file without naming what stands there already."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.match import context_diff
from orchestrator.tools.paths import opened, spot
from orchestrator.tools.walk import missing
from orchestrator.tools.writing import LARGEST, replace, syntax


class AddLinesArguments(Arguments):
    """Arguments of add_lines."""

    path: str = Field(description="file, relative to the workspace")
    place: Literal["top", "end"] | Annotated[int, Field(ge=0)] = Field(
        description="`top`, `end`, or the number of the line after which they go"
    )
    text: str = Field(min_length=1, description="the new lines")


async def add_lines(arguments: AddLinesArguments, context: ToolContext) -> str:
    """Insert lines; every line that was there stays."""
    return await asyncio.to_thread(_add, context.root, arguments)


def _add(root: Path, wanted: AddLinesArguments) -> str:
    try:
        with opened(root, wanted.path) as file:
            if not stat.S_ISREG(file.stat.st_mode):
                raise ToolError(f"{wanted.path!r} is not a file; name one")
            if file.stat.st_size > LARGEST:
                raise ToolError(f"{wanted.path!r} is too big to change here; use run_command")
            with os.fdopen(file.fd, "rb", closefd=False) as stream:
                # surrogateescape: bytes that are no UTF-8 come back out as they were.
                before = stream.read().decode("utf-8", "surrogateescape")
        after = inserted(before, wanted.place, wanted.text)
        with spot(root, wanted.path, follow=True) as place:
            replace(place, after.encode("utf-8", "surrogateescape"), wanted.path)
    except FileNotFoundError:
        raise missing(root, wanted.path) from None
    return f"added to {place.relative}\n{context_diff(before, after)}{syntax(place.name, after)}"


def inserted(before: str, place: Literal["top", "end"] | int, text: str) -> str:
    """A text with lines put at a place of it; raises ToolError past its end."""
    end = "\r\n" if "\r\n" in before else "\n"
    lines = before.splitlines(keepends=True)
    number = {"top": 0, "end": len(lines)}.get(str(place), place)
    if not isinstance(number, int) or number > len(lines):
        raise ToolError(f"there is no line {place}; give a number up to {len(lines)}, `top` or `end`")
    if number and not lines[number - 1].endswith(("\n", "\r")):
        lines[number - 1] += end
    new = [f"{line}{end}" for line in text.splitlines()]
    return "".join([*lines[:number], *new, *lines[number:]])


ADD_LINES = Tool(
    name="add_lines",
    description="Insert lines into a file at the place `top`, `end`, or after a line number.",
    arguments=AddLinesArguments,
    run=add_lines,
    effects=Effects(executes=False, network=False, reversible=True, paths=("path",), output=Trust.WORKSPACE),
)
