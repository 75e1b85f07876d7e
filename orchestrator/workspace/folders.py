"""Find folders: the workspace around a path, and what is built in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

SETTINGS_FILE = "orchestrator.yaml"
PACKAGE = Path(__file__).resolve().parents[1]


def nearest_workspace(start: Path) -> Path:
    """The nearest folder upward that has an orchestrator.yaml, else `start` itself; always absolute."""
    start = start.resolve()
    for folder in (start, *start.parents):
        # os.path.isfile says False where Path.is_file raises for a folder that may not be entered.
        if os.path.isfile(folder / SETTINGS_FILE) and (folder == start or not _is_shared(folder)):  # noqa: PTH113
            return folder
    return start


def _is_shared(folder: Path) -> bool:
    """Whether everybody may put files there, as in /tmp: such a file must not rule the folders below."""
    return bool(folder.stat().st_mode & stat.S_IWOTH)


def builtin_folder(kind: Literal["agents", "graphs", "evals"]) -> Path:
    """The built-in files of a kind: in the wheel inside the package, in a checkout beside it."""
    packaged = PACKAGE / "builtin" / kind
    return packaged if packaged.is_dir() else PACKAGE.parent / kind
