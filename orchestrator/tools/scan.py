"""Search the text of files under an open folder, in a process of its own.

Run by path with the standard library only: a pattern that never ends holds Python's lock, so nothing short of
killing the process stops it. Reads one JSON object on stdin; writes one array per match and a last object.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

LARGEST_FILE = 512 << 20
LONGEST_LINE = 100_000


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


def _lines(name: str, folder: int | None) -> Iterator[str]:
    """The lines of a regular text file; nothing for binaries, special files and what cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE or b"\0" in file.read(8192):
            return
        file.seek(0)
        while raw := file.readline(LONGEST_LINE):
            yield raw.decode("utf-8", "replace").rstrip("\r\n")


def _test(pattern: str, ignore_case: bool) -> tuple[Callable[[str], bool], str]:
    """A line fits when it holds the pattern as it is or as a regular expression."""
    flags = re.IGNORECASE if ignore_case else 0
    literal = re.compile(re.escape(pattern), flags)
    try:
        expression = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        return (
            lambda line: literal.search(line) is not None,
            f"not a valid regex ({error}): searched as plain text",
        )
    return lambda line: literal.search(line) is not None or expression.search(line) is not None, ""


def main() -> None:
    """Search as told on stdin; the folder or file is descriptor `fd`."""
    wanted: dict[str, Any] = json.load(sys.stdin)
    fits, note = _test(wanted["pattern"], wanted["ignore_case"])
    out, shown, matches, files, seen = sys.stdout, 0, 0, 0, 0
    top = int(wanted["fd"])
    if stat.S_ISDIR(os.fstat(top).st_mode):
        sources = _files(top, wanted["glob"], set(wanted["skipped"]))
    else:
        sources = iter([(f"/dev/fd/{top}", -1)])
    for path, folder in sources:
        lines = _lines(path.rsplit("/", 1)[-1], folder) if folder >= 0 else _own(top)
        before, seen = matches, seen + 1
        for number, line in enumerate(lines, 1):
            if not fits(line):
                continue
            matches += 1
            if shown < wanted["limit"]:
                shown += 1
                out.write(json.dumps([path if folder >= 0 else "", number, line[:300]]) + "\n")
        files += matches > before
        out.flush()
    out.write(json.dumps({"matches": matches, "files": files, "seen": seen, "note": note}) + "\n")


def _own(fd: int) -> Iterator[str]:
    with os.fdopen(os.dup(fd), "rb") as file:
        for raw in iter(lambda: file.readline(LONGEST_LINE), b""):
            yield raw.decode("utf-8", "replace").rstrip("\r\n")


if __name__ == "__main__":
    main()
