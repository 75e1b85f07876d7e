"""The folder that a case starts from, and what became of its files."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.evaluate.suite import Case, StartFile
from orchestrator.storage import FOLDER

DAY = 86_400
MOST_BYTES = 16_000_000


def lay_out(case: Case, root: Path) -> None:
    """Write the files of a case."""
    for name, given in case.files.items():
        file = given if isinstance(given, StartFile) else StartFile(text=given)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(file.base64) if file.base64 else (file.text or "").encode())
        path.chmod(int(file.mode, 8))
        if file.days_old:
            then = time.time() - file.days_old * DAY
            os.utime(path, (then, then))


def files_below(root: Path) -> Iterator[Path]:
    """Every file and link below a workspace, our own records left out."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        if here == root and FOLDER in folders:
            folders.remove(FOLDER)
        yield from (here / name for name in names)


def contents(root: Path) -> Mapping[str, bytes]:
    """The content of each file by its path, up to 16 MB."""
    return {path.relative_to(root).as_posix(): _content(path) for path in files_below(root)}


def _content(path: Path) -> bytes:
    """Nothing for what cannot be read: a link that leads nowhere, a pipe, a file without permission."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""
