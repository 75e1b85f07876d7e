"""The first move for a small model: read the files that the task names, without asking it.

A small model often searches for what it was told, or edits what it has not seen. The calls are
ordinary ones: judged, journalled and shown like any other.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection
from pathlib import Path

from langchain_core.messages import AIMessage

from orchestrator.state import Brief

MOST_FILES = 3
MOST_BYTES = 6_000
_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.[A-Za-z]\w{0,5}\b")


def opening(brief: Brief, root: Path, tools: Collection[str], identifier: str) -> AIMessage | None:
    """Calls of read_file for the small text files that the step names; None when there is none."""
    if "read_file" not in tools:
        return None
    names = list(dict.fromkeys(_NAME.findall(brief["step"]["goal"])))
    found = [name for name in names if _is_small_file(root / name)][:MOST_FILES]
    calls = [
        {"name": "read_file", "args": {"path": name}, "id": f"{identifier}.{number}", "type": "tool_call"}
        for number, name in enumerate(found)
    ]
    return AIMessage("look at the file first", id=identifier, tool_calls=calls) if calls else None


def _is_small_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and 0 < found.st_size <= MOST_BYTES
