"""Stand-ins for what a snapshot does not hold: there by name, so that a listing is what it was."""

from __future__ import annotations

from pathlib import Path

from orchestrator.snapshots.model import Entry
from orchestrator.snapshots.scan import SPECIAL

CROWD = 64
"""Files in a stand-in for a folder: as many as make nobody list them one by one."""


def is_folder(entry: Entry) -> bool:
    """Whether what was left out was a folder: a file has its size, time and number as its mark."""
    is_file = entry.id.count(".") == 2
    return not is_file and entry.why not in {f"it is {what}" for what in SPECIAL.values()}


def stand_in(path: Path, *, is_folder: bool) -> None:
    """Put an empty file, or a folder of empty files, in a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_folder:
        path.touch()
        return
    path.mkdir(exist_ok=True)
    for number in range(CROWD):
        (path / f"{number}").touch()


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at a path of the workspace leads into the workspace, by its text alone."""
    parts = target.split("/")
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    return bool(parts[0]) and ups <= path.count("/") and ".." not in parts[ups:]
