"""Talks until its disk fails, then makes room and talks on; prints what happened as JSON.

Run as a program: `cramped.py FOLDER full` on a small file system, `cramped.py FOLDER limit` anywhere.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from neighbours import said, say

from orchestrator.checkpoints import Checkpointer
from orchestrator.errors import StorageError

ROOM = 100_000
"""Bytes that are left when the disk becomes tight."""


def ballast(folder: Path) -> Callable[[], object]:
    """Fill the file system but for a little; returns what makes room again."""
    heavy = folder / "ballast"
    with heavy.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass
    with heavy.open("r+b") as file:
        file.truncate(heavy.stat().st_size - ROOM)
    return heavy.unlink


def limit(folder: Path) -> Callable[[], object]:
    """Let writes beyond a little more fail, as on a broken disk; returns what lifts that."""
    largest = max(path.stat().st_size for path in folder.iterdir())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + ROOM, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def talk_through(folder: Path, tighten: Callable[[Path], Callable[[], object]]) -> dict[str, Any]:
    """What was said with success, what the failures said, and what the file holds before and after."""
    path, heard, failures = folder / "cramped.db", list[str](), list[str]()
    with Checkpointer.from_conn_string(path) as saver:

        def speak(number: int) -> None:
            text = f"{number} " * 500
            try:
                say(saver, "talk", text)
            except StorageError as error:
                failures.append(str(error))
            else:
                heard.append(text)

        speak(0)
        relieve = tighten(folder)
        while len(failures) < 3:
            speak(len(heard) + len(failures))
        kept_when_full = said(saver, "talk")
        relieve()
        speak(1_000)
        problems, kept = saver.verify(), said(saver, "talk")
    with Checkpointer.from_conn_string(path) as saver:
        again = said(saver, "talk")
    return {
        "failures": failures,
        "lost when full": [text for text in heard[:-1] if text not in kept_when_full],
        "lost": [text for text in heard if text not in kept],
        "spoke again": heard[-1].startswith("1000"),
        "same after opening": again == kept,
        "problems": problems,
    }


if __name__ == "__main__":
    ways = {"full": ballast, "limit": limit}
    sys.stdout.write(json.dumps(talk_through(Path(sys.argv[1]), ways[sys.argv[2]])))
