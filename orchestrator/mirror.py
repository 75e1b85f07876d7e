"""The journal of a run as a file of JSON lines, beside the state file: for `tail`, `jq` and log collectors.

The state file is what counts; these files may be thrown away. They are rotated: a run's file that is full
becomes `RUN.1.jsonl`, that one `RUN.2.jsonl`, and so on; only so many of a run, and of all runs, are kept.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from orchestrator.settings import Logs

_NAME = re.compile(r"(?P<run>.+?)(?:\.(?P<age>\d+))?\.jsonl")


class Mirror:
    """The file of one run; raises OSError when the disk refuses."""

    def __init__(self, folder: Path, run: str, settings: Logs) -> None:
        self._folder, self._run, self._settings = folder, run, settings
        self._path = folder / f"{run}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            self._make_room()
        self._file = self._path.open("a", encoding="utf-8")
        self._bytes = self._path.stat().st_size

    def write(self, line: str) -> None:
        """Add one line, in a new file when it does not fit into this one."""
        length = len(line.encode()) + 1
        if self._bytes and self._bytes + length > self._settings.megabytes * 1_000_000:
            self._rotate()
        self._file.write(f"{line}\n")
        self._file.flush()
        self._bytes += length

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for path in sorted(files_of(self._folder, self._run), key=_age, reverse=True):
            older = _age(path) + 1
            if older >= self._settings.files:
                path.unlink(missing_ok=True)
            else:
                path.rename(self._folder / f"{self._run}.{older}.jsonl")
        self._file = self._path.open("a", encoding="utf-8")
        self._bytes = 0

    def _make_room(self) -> None:
        """Remove the files of the runs that were not worked on for longest."""
        newest: dict[str, float] = {}
        for path in self._folder.glob("*.jsonl"):
            name = _run(path)
            # Another run may be making room too.
            with suppress(FileNotFoundError):
                newest[name] = max(newest.get(name, 0.0), path.stat().st_mtime)
        too_many = len(newest) + 1 - self._settings.runs
        for run in sorted(newest, key=newest.__getitem__)[: max(0, too_many)]:
            forget(self._folder, run)


def files_of(folder: Path, run: str) -> list[Path]:
    """The files of a run."""
    return [path for path in folder.glob(f"{run}*.jsonl") if _run(path) == run]


def forget(folder: Path, run: str) -> None:
    """Remove the files of a run."""
    for path in files_of(folder, run):
        path.unlink(missing_ok=True)


def _run(path: Path) -> str:
    found = _NAME.fullmatch(path.name)
    return found["run"] if found else path.name


def _age(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found["age"] or 0) if found else 0
