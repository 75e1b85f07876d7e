"""Find the text that an edit means, and say what is near when it is not there."""

from __future__ import annotations

import difflib
import json
import re

from orchestrator.errors import ToolError

MOST_PLACES = 4
"""Places that are shown of a text that occurs more than once."""

_NUMBERED = re.compile(r"^\s*\d+\| ?", re.MULTILINE)


def applied(before: str, old: str, new: str, path: str) -> str:
    """Replace the one occurrence of `old`; raises ToolError when there is none or more than one."""
    if old == new:
        raise ToolError("old and new are the same; nothing to change")
    for wanted, put in _spellings(before, old, new):
        count = before.count(wanted)
        if count == 1:
            return before.replace(_with_line_end(before, wanted) if not put else wanted, put)
        if count > 1:
            lines = _lines_of(before, wanted)
            raise ToolError(
                f"{path}: the text occurs {count} times, at lines {lines}; add lines around it to `old` "
                f"(and to `new`) so that it fits once:{_with_line_above(before, wanted)}"
            )
    raise ToolError(_near(before, old, path))


def _with_line_above(before: str, wanted: str) -> str:
    """Each of the first places together with the line above it, as `old` could be."""
    places: list[str] = []
    at = before.find(wanted)
    while at >= 0 and len(places) < MOST_PLACES:
        start = before.rfind("\n", 0, max(before.rfind("\n", 0, at), 0)) + 1
        end = before.find("\n", at + len(wanted))
        places.append(before[start : end if end >= 0 else len(before)])
        at = before.find(wanted, at + len(wanted))
    return "".join(f"\n{json.dumps(place, ensure_ascii=False)}" for place in places)


def _with_line_end(before: str, wanted: str) -> str:
    """Whole lines that are taken out go with their line end: nobody means to leave an empty line behind."""
    start = before.index(wanted)
    for end in ("\r\n", "\n"):
        begins = start == 0 or before[start - 1] == "\n"
        if begins and not wanted.endswith("\n") and before.startswith(wanted + end, start):
            return wanted + end
    return wanted


def _spellings(before: str, old: str, new: str) -> list[tuple[str, str]]:
    """What `old` may have meant: as written, without read_file's line numbers, with the file's line ends."""
    pairs = [(old, new)]
    if all(_NUMBERED.match(line) for line in old.splitlines()):
        pairs.append((_NUMBERED.sub("", old), _NUMBERED.sub("", new)))
    if "\r\n" in before:
        pairs += [(_crlf(first), _crlf(second)) for first, second in pairs]
    return [pair for pair in pairs if pair[0]]


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _lines_of(before: str, wanted: str) -> str:
    places: list[int] = []
    start = before.find(wanted)
    while start >= 0 and len(places) < 10:
        places.append(before.count("\n", 0, start) + 1)
        start = before.find(wanted, start + len(wanted))
    return ", ".join(map(str, places)) + (", …" if start >= 0 else "")


def _near(before: str, old: str, path: str) -> str:
    """Say where something like the text is, so that the next call can copy it."""
    lines, wanted = before.splitlines()[:20_000], old.strip("\n").splitlines() or [old]
    window = len(wanted)
    squeezed = [" ".join(line.split()) for line in lines]
    aim = [" ".join(line.split()) for line in wanted]
    for start in range(len(lines) - window + 1):
        if squeezed[start : start + window] == aim:
            shown = _numbered(lines, start, start + window)
            return f"{path}: only spaces or indentation differ. The file has:\n{shown}\nCopy that into `old`"
    # The longest line says most; comparing every window in full would take minutes on a big file.
    anchor = max(range(len(aim)), key=lambda index: len(aim[index]))
    close = difflib.get_close_matches(aim[anchor], squeezed[:5000], n=1, cutoff=0.5)
    if not close:
        return f"{path}: the text in `old` is not there; read_file shows the file, copy the text from it"
    start = max(0, squeezed.index(close[0]) - anchor - 1)
    shown = _numbered(lines, start, min(len(lines), start + window + 2))
    return (
        f"{path}: the text in `old` is not there. The closest lines:\n{shown}\nCopy them into `old` exactly"
    )


def _numbered(lines: list[str], start: int, end: int) -> str:
    return "\n".join(f"{number + 1}| {lines[number][:300]}" for number in range(start, min(end, start + 30)))


def context_diff(before: str, after: str) -> str:
    """What changed, with three lines around, cut to what a reader needs; unknown bytes are shown as such."""
    old, new = before.splitlines(), after.splitlines()
    rows = list(difflib.unified_diff(_around(old, new), _around(new, old), n=3, lineterm=""))[2:]
    shift = _common_start(old, new)
    body = [row[:300] for row in rows if not row.startswith("@@")]
    head = f"from line {max(1, shift - 2)}:"
    cut = [f"[… {len(body) - 60} more lines]"] if len(body) > 60 else []
    text = "\n".join([head, *body[:60], *cut])
    return text.encode("utf-8", "replace").decode("utf-8")


def _common_start(one: list[str], other: list[str]) -> int:
    count = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        count += 1
    return count


def _around(lines: list[str], other: list[str]) -> list[str]:
    """The changed middle with three lines on each side, so that diffing stays cheap on big files."""
    start = _common_start(lines, other)
    most = min(len(lines), len(other)) - start
    end = min(_common_start(lines[::-1], other[::-1]), most)
    return lines[max(0, start - 3) : min(len(lines), len(lines) - end + 3)]
