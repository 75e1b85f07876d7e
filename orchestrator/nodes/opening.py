"""The first move for a small model: read the files that the task names, else search the documents.

A small model often searches for what it was told, edits what it has not seen, or looks for files by
guessed names. The calls are ordinary ones: judged, journalled and shown like any other.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from langchain_core.messages import AIMessage

from orchestrator.state import Brief

MOST_FILES = 3
MOST_BYTES = 6_000
_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.[A-Za-z]\w{0,5}\b")


_DOCUMENTS = re.compile(
    r"\b(?:docs?|documents?|documentation|handbook|manual|guide|readme|runbook|wiki|handbuch|anleitung|doku\w*"
    r"|manuel|documentación)\b",
    re.I,
)


def opening(brief: Brief, root: Path, tools: tuple[str, ...], identifier: str) -> AIMessage | None:
    """The calls that any sensible specialist would begin with; None when there is no such thing."""
    goal = brief["step"]["goal"]
    named = [name for name in dict.fromkeys(_NAME.findall(goal)) if _is_small_file(root / name)][:MOST_FILES]
    if "read_file" in tools and named:
        return _calls("look at the file first", "read_file", [{"path": name} for name in named], identifier)
    is_about_documents = tools[:1] == ("search_docs",) or _DOCUMENTS.search(goal)
    if "search_docs" in tools and is_about_documents and _has_documents(root):
        return _calls("see what the documents say", "search_docs", [{"query": goal[:500]}], identifier)
    return None


def _calls(why: str, tool: str, arguments: list[dict[str, str]], identifier: str) -> AIMessage:
    calls = [
        {"name": tool, "args": each, "id": f"{identifier}.{number}", "type": "tool_call"}
        for number, each in enumerate(arguments)
    ]
    return AIMessage(why, id=identifier, tool_calls=calls)


def _has_documents(root: Path) -> bool:
    """Whether there is anything at the top of the workspace that search_docs would look into."""
    return any((root / name).exists() for name in ("docs", "doc", "README.md")) or any(
        next(root.glob(f"*.{ending}"), None) for ending in ("md", "txt", "rst", "html")
    )


def _is_small_file(path: Path) -> bool:
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and 0 < found.st_size <= MOST_BYTES
