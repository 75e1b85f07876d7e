"""Read a file line by line, and of a line that is too long a part: no line is ever held whole."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import BinaryIO

from orchestrator.errors import ToolError
from orchestrator.llm.tokens import tokens
from orchestrator.tools.results import whole

CHUNK = 1 << 20
CARRIAGE = "\r"
_AHEAD = 64
"""Characters read beyond a part, to see whether a character of several code points goes on."""


@dataclass(frozen=True)
class Line:
    """A line, or a part of it."""

    text: str
    column: int
    """Of the first character, counted from 1."""
    is_cut: bool
    """Whether the line goes on."""
    bytes: int
    """Of the whole line."""

    @property
    def next(self) -> int:
        """Column of what follows."""
        return self.column + len(self.text)

    def row(self, number: int) -> str:
        """The line with its number, as the model gets it."""
        place = f"{number}" if self.column == 1 else f"{number}:{self.column}"
        if not self.is_cut:
            return f"{place}| {self.text}"
        more = f"go on with offset={number}, column={self.next}"
        return f"{place}| {self.text} [… cut, the line has {self.bytes:,} bytes; {more}]"


def passed(stream: BinaryIO) -> bool:
    """Go past the next line; False at the end."""
    piece = stream.readline(CHUNK)
    found = bool(piece)
    while piece and not piece.endswith(b"\n"):
        piece = stream.readline(CHUNK)
    return found


def next_line(stream: BinaryIO, column: int, room: int, budget: int) -> Line | None:
    """The next line from a column on, as much as fits into `room` characters and `budget` tokens.

    None at the end of the file. Raises ToolError when the line ends before the column.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    before, length, text, is_over = column - 1, 0, "", False
    while not is_over:
        piece = stream.readline(CHUNK if length else 4 * room)
        is_over = not piece or piece.endswith(b"\n")
        length += len(piece)
        if len(text) < room + _AHEAD:
            found = decoder.decode(piece, is_over)
            skipped = min(before, len(found))
            before -= skipped
            text += found[skipped : skipped + room + _AHEAD - len(text)]
    if not length:
        return None
    text = text.removesuffix("\n").removesuffix(CARRIAGE)
    if column > 1 and not text:
        raise ToolError(f"the line ends before column {column}; leave column out to read it from its start")
    size = _fitting(text[:room], budget)
    shown = text[: whole(text, size) or size]
    return Line(shown.replace("\0", "\ufffd"), column, len(shown) < len(text), length)


def _fitting(text: str, budget: int) -> int:
    """How many characters of a text are at most `budget` tokens; at least one where there is one."""
    size = len(text)
    while size > 1 and (needed := tokens(text[:size])) > budget:
        size = max(size * budget // needed - 1, 1)
    return size
