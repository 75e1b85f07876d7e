"""Search the text of files under an open folder, in a process of its own.

Run by path with the standard library only: a pattern that never ends holds Python's lock, so nothing short of
killing the process stops it. Reads one JSON object on stdin; writes one array per match and a last object.
"""

from __future__ import annotations

import codecs
import fnmatch
import json
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

LARGEST_FILE = 512 << 20
LONGEST_LINE = 1 << 20
"""Bytes of a line that are held at once."""
OVERLAP = 20_000
"""Characters of a long line that are searched with the next piece too: a match may lie across the cut."""
SHOWN = 300
"""Characters of a line that are shown."""
LONG = 2_000
"""From here on each match of a line counts, with what is round it: there it is more than a line."""
JOINING = "\u200d\ufe0e\ufe0f"


def _files(top: int, glob: str, skipped: set[str]) -> Iterator[tuple[str, int]]:
    for folder, folders, names, fd in os.fwalk(".", dir_fd=top, follow_symlinks=False):
        folders[:] = sorted(name for name in folders if name not in skipped)
        base = folder[2:] + "/" if folder != "." else ""
        for name in sorted(names):
            path = base + name
            if glob and not _fits(path, name, glob):
                continue
            yield path, fd


def _fits(path: str, name: str, glob: str) -> bool:
    if "/" not in glob:
        return fnmatch.fnmatchcase(name, glob)
    return fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(path, glob.replace("**/", ""))


def _opened(name: str, folder: int) -> BinaryIO | None:
    """A regular text file; None for binaries, special files and what cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    file, found = os.fdopen(fd, "rb"), os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE or b"\0" in file.read(8192):
        file.close()
        return None
    file.seek(0)
    return file


class Pattern:
    """A pattern, taken as it is and as a regular expression."""

    def __init__(self, pattern: str, *, ignore_case: bool) -> None:
        flags = re.IGNORECASE if ignore_case else 0
        self.note = ""
        self._literal = self._other = re.compile(re.escape(pattern), flags).search
        try:
            self._other = re.compile(pattern, flags).search
        except (re.error, OverflowError, RecursionError) as error:
            self.note = f"not a valid regex ({error}): searched as plain text"

    def fits(self, line: str) -> bool:
        """Whether a line holds it."""
        return self._literal(line) is not None or self._other(line) is not None

    def all(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Where it is from a place on, each time beyond what would be shown of the time before."""
        ahead: dict[Any, tuple[int, int]] = {}
        left = {self._literal, self._other}
        while start <= len(text):
            for search in [each for each in left if ahead.get(each, (-1, -1))[0] < start]:
                if found := search(text, start):
                    ahead[search] = found.span()
                else:
                    # Looking again for what is not there would take a pass through the text for each match.
                    left.discard(search)
                    ahead.pop(search, None)
            if not ahead:
                return
            span = min(ahead.values())
            yield span
            start = max(span[1], span[0] + SHOWN)


class Piece(NamedTuple):
    """A line, or a part of one that is too long to be held whole."""

    before: int
    """Characters of the line before the piece."""
    text: str
    is_last: bool


def matches(file: BinaryIO, pattern: Pattern) -> Iterator[tuple[int, int, str]]:
    """Number, column and text of each line that fits; of a long one, what is round each match."""
    number = 0
    while raw := file.readline(LONGEST_LINE):
        number += 1
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            yield from ((number, *shown) for shown in _long(_pieces(raw, file), pattern))
            continue
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not pattern.fits(line):
            continue
        if len(line) > LONG:
            yield from ((number, *shown) for shown in _long([Piece(0, line, True)], pattern))
        else:
            yield number, *_window(Piece(0, line, True), next(pattern.all(line, 0))[0])


def _pieces(raw: bytes, file: BinaryIO) -> Iterator[Piece]:
    """A long line; each piece begins with the last characters of the one before."""
    decoder, before, held = codecs.getincrementaldecoder("utf-8")("replace"), 0, ""
    while len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
        held += decoder.decode(raw)
        yield Piece(before, held, False)
        before += len(held[:-OVERLAP])
        held = held[-OVERLAP:]
        raw = file.readline(LONGEST_LINE)
    yield Piece(before, (held + decoder.decode(raw, True)).rstrip("\r\n"), True)


def _long(pieces: Iterable[Piece], pattern: Pattern) -> Iterator[tuple[int, str]]:
    """What is round each match of a long line, each outside what is shown of the one before."""
    free = 0
    for piece in pieces:
        # Where a later piece begins, no line does; what is near its end is seen whole in the next one.
        start = max(free - piece.before, min(piece.before, 1))
        last = len(piece.text) if piece.is_last else len(piece.text) - OVERLAP // 2
        for place, end in pattern.all(piece.text, start):
            if place >= last and not piece.is_last:
                break
            yield _window(piece, place)
            free = piece.before + max(end, place + SHOWN)


def _window(piece: Piece, place: int) -> tuple[int, str]:
    """The column of the first character shown, 0 for a line that is shown whole, and what is shown."""
    if len(piece.text) <= SHOWN and piece.is_last and not piece.before:
        return 0, piece.text
    first = _whole(piece.text, max(0, place - SHOWN // 4))
    last = _whole(piece.text, min(len(piece.text), first + SHOWN))
    starts, ends = piece.before + first == 0, last == len(piece.text) and piece.is_last
    shown = ("" if starts else "…") + piece.text[first:last] + ("" if ends else "…")
    return piece.before + first + 1, shown


def _whole(text: str, place: int) -> int:
    """The place, or one a little before, where no accent and no joined sign is parted from its letter."""
    while 0 < place < len(text) and (
        unicodedata.combining(text[place]) or text[place] in JOINING or text[place - 1] == "\u200d"
    ):
        place -= 1
    return place


def main() -> None:
    """Search as told on stdin; the folder or file is descriptor `fd`."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    pattern = Pattern(wanted["pattern"], ignore_case=wanted["ignore_case"])
    out, shown, total, files, seen = sys.stdout, 0, 0, 0, 0
    for path, file in _sources(int(wanted["fd"]), wanted["glob"], set(wanted["skipped"])):
        before, seen = total, seen + 1
        if file is None:
            continue
        with file:
            for number, column, text in matches(file, pattern):
                total += 1
                if shown < wanted["limit"]:
                    shown += 1
                    out.write(json.dumps([path, number, column, text]) + "\n")
        files += total > before
        out.flush()
    out.write(json.dumps({"matches": total, "files": files, "seen": seen, "note": pattern.note}) + "\n")


def _sources(top: int, glob: str, skipped: set[str]) -> Iterator[tuple[str, BinaryIO | None]]:
    """Each file with its path below the folder; for a file, that alone, without a path."""
    if not stat.S_ISDIR(os.fstat(top).st_mode):
        yield "", os.fdopen(os.dup(top), "rb")
        return
    for path, folder in _files(top, glob, skipped):
        yield path, _opened(path.rsplit("/", 1)[-1], folder)


if __name__ == "__main__":
    main()
