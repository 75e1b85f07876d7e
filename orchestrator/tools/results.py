"""What of a tool's result the model gets to see: all of it, or head and tail with the rest in a file.

The file lies in `.orc/results/` of its run, which no path reaches; `results:ID` names it, and read_file
pages through it. The ID is a digest, so there is nothing in it that could climb out of the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from orchestrator.errors import ToolError
from orchestrator.llm.tokens import tokens
from orchestrator.redaction import redact, secrets_of

SCHEME = "results:"
ID = re.compile(r"results:([0-9a-f]{16})")
BARELY = 1.25
"""Up to this many times its budget a result is only cut: a file would cost the model more than it tells."""
LARGEST_FILE = 8_000_000
"""Bytes of one file; a longer text is kept up to there."""
NEAR = 160
"""Characters that a cut is moved by at most to fall between two lines."""
_CONTROLS = dict.fromkeys((*range(9), 11, *range(14, 32), *range(127, 160)), "�")
_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)")
"""Colours, moves of the cursor, links: a terminal obeys them, and a model gets nothing from them."""


def clean(text: str) -> str:
    """A text that can be shown: no terminal codes, no control characters, no halves of surrogates."""
    text = _CODES.sub("", text.encode("utf-8", "replace").decode("utf-8"))
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def shaped(text: str, budget: int, folder: Path | None) -> str:
    """About `budget` tokens of a text at most; what is longer is kept where there is a folder."""
    text = clean(text)
    if text.count("\ufffd") > 32 and text.count("\ufffd") * 10 > len(text):
        return f"[binary output, {len(text.encode()):,} bytes; not shown. Have a command describe it.]"
    needed = tokens(text)
    if needed <= budget:
        return text
    kept = ""
    if folder is not None and needed > budget * BARELY:
        # Places in the file are those in the text only when both have their secrets taken out.
        text = redact(text, secrets_of(os.environ))
        kept = _keep(text, folder)
    share = len(text) * max(budget - 40, 20) // needed
    return cut(text, share, kept)


def cut(text: str, room: int, kept: str = "") -> str:
    """Head and tail of a text, about `room` characters, with what was cut in lines and bytes between them.

    `kept` says where the whole is, and the cut then says how read_file goes on there.
    """
    if len(text) <= room:
        return text
    first = _between(text, room * 2 // 3, -1)
    last = max(_between(text, len(text) - room // 3, 1), first)
    gone = text[first:last]
    count, size = gone.count("\n") + 1, len(gone.encode("utf-8", "replace"))
    lines = "1 line" if count == 1 else f"{count:,} lines"
    where = f"; the whole result is {kept}, which read_file shows from here with {place(text, first)}"
    where = where if kept else ""
    return f"{text[:first].rstrip()}\n[… {lines}, {size:,} bytes cut{where} …]\n{text[last:]}"


def place(text: str, position: int) -> str:
    """A place in a text as arguments of read_file."""
    column = position - text.rfind("\n", 0, position)
    line = f"offset={text.count(chr(10), 0, position) + 1}"
    return line if column == 1 else f"{line}, column={column}"


def _between(text: str, position: int, step: int) -> int:
    """A place near a position where a text may be cut: between lines, else between whole characters."""
    near = (
        text.rfind("\n", max(position - NEAR, 0), position) + 1
        if step < 0
        else text.find("\n", position, position + NEAR) + 1
    )
    return near or whole(text, position, step)


def whole(text: str, position: int, step: int = -1) -> int:
    """The nearest place in a direction that breaks no character."""
    while 0 < position < len(text) and _joins(text, position):
        position += step
    return position


def _joins(text: str, position: int) -> bool:
    """Whether two code points make one character: accents, emoji of several parts, flags."""
    sign, before = text[position], text[position - 1]
    if sign in "\u200d\ufe0e\ufe0f" or before == "\u200d" or unicodedata.combining(sign):
        return True
    if "\U0001f3fb" <= sign <= "\U0001f3ff" or unicodedata.category(sign) in {"Mn", "Mc", "Me"}:
        return True
    return "\U0001f1e6" <= sign <= "\U0001f1ff" and "\U0001f1e6" <= before <= "\U0001f1ff"


def _keep(text: str, folder: Path) -> str:
    """Store a text; returns the name that read_file takes."""
    data = text.encode("utf-8", "replace")[:LARGEST_FILE].decode("utf-8", "ignore").encode()
    name = hashlib.sha256(data).hexdigest()[:16]
    path = folder / f"{name}.txt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f"{name}.{os.getpid()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        draft.replace(path)
    return f"{SCHEME}{name}"


def opened_result(folder: Path | None, name: str) -> int:
    """A descriptor of a kept result, for reading only; raises ToolError for any other name."""
    found = ID.fullmatch(name.strip())
    if found is None or folder is None:
        raise ToolError(f"{name!r} is no kept result; copy the name results:… exactly as it was given")
    try:
        return os.open(folder / f"{found[1]}.txt", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise ToolError(f"there is no result {name} in this run; make the call again") from None
