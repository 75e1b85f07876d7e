"""Cut a document into sections that a search can point at, each with the line where it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.tools.extract import plain_text

LONGEST = 2000
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_UNDERLINE = re.compile(r"([=\-~^\"'*+#.])\1{2,}\s*$")


@dataclass(frozen=True)
class Chunk:
    """One section or a part of a long one."""

    line: int
    """Counted from 1."""
    heading: str
    text: str


def chunks(name: str, text: str) -> list[Chunk]:
    """The sections of a document, by headings in Markdown and reStructuredText, by length besides."""
    if name.lower().endswith((".html", ".htm")):
        text = plain_text(text)
    found: list[Chunk] = []
    heading, start, held, is_code = "", 1, list[str](), False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(("```", "~~~")):
            is_code = not is_code
        fresh = "" if is_code else _heading(line, lines[number] if number < len(lines) else "")
        if fresh or sum(map(len, held)) > LONGEST:
            found.append(Chunk(start, heading, "\n".join(held)))
            start, held = number, []
            heading = fresh or heading
        held.append(line[:LONGEST])
    found.append(Chunk(start, heading, "\n".join(held)))
    return [chunk for chunk in found if chunk.text.strip()]


def _heading(line: str, following: str) -> str:
    if match := _HEADING.match(line):
        return match.group(2)
    title = line.strip()
    underlined = _UNDERLINE.match(following)
    if title and underlined and len(following.strip()) >= len(title) and not _UNDERLINE.match(line):
        return title
    return ""
