"""What a command did to the files of the workspace: a small model seldom looks for itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.safety.visible import escaped

MOST = 2_000
"""Files that are looked at; of a bigger workspace nothing is said."""
NAMED = 8
SHOWN_LINES = 15
SHOWN_BYTES = 1_200
UNCHANGED = "No file was changed."
DONE_SO_FAR = "\nFiles: "
"""How the line begins that says what a command changed."""

Files = Mapping[str, tuple[int, int, int]]
"""Size, time of change in nanoseconds and inode by path."""


def files(root: Path) -> Files | None:
    """The visible files of the workspace; None when there are too many to say what changed."""
    found: dict[str, tuple[int, int, int]] = {}
    for path, entry in _below(str(root), ""):
        if len(found) >= MOST:
            return None
        found[path] = entry
    return found


def _below(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{prefix}{entry.name}/")
            continue
        try:
            state = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield f"{prefix}{entry.name}", (state.st_size, state.st_mtime_ns, state.st_ino)


def told(before: Files | None, root: Path) -> str:
    """A line on what has changed since, with the new text of a short file; empty when that is not known."""
    after = None if before is None else files(root)
    if before is None or after is None:
        return ""
    made = sorted(after.keys() - before.keys())
    gone = sorted(before.keys() - after.keys())
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    parts = [f"{verb} {_list(names)}" for verb, names in _verbs(made, changed, gone) if names]
    if not parts:
        return f"\n{UNCHANGED}"
    written = [*changed, *made]
    shown = _text(root / written[0]) if len(written) == 1 else ""
    return f"{DONE_SO_FAR}{'; '.join(parts)}.{shown}"


def _verbs(made: list[str], changed: list[str], gone: list[str]) -> list[tuple[str, list[str]]]:
    return [("made", made), ("changed", changed), ("gone", gone)]


def _list(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(escaped(name, keep="") for name in names[:NAMED]) + more


def _text(path: Path) -> str:
    """The content of a short text file."""
    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size <= SHOWN_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""
    lines = text.splitlines()
    if not lines:
        return " It is empty." if not path.stat().st_size else ""
    if len(lines) > SHOWN_LINES:
        return ""
    return " It holds now:\n" + "\n".join(f"{number}| {line}" for number, line in enumerate(lines, 1))
