"""Whether a renaming reached every place: small models change the definition and forget its uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage

from orchestrator.nodes.changes import files
from orchestrator.nodes.proof import is_small_file

_EVERYWHERE = re.compile(
    r"\b(?:every|everywhere|all|each|throughout|überall|alle|jede\w*|partout|tous|toutes|todas?|todos?)\b",
    re.I,
)
_RENAME = re.compile(
    r"\b(?:renam\w*|umbenenn\w*|benenn\w*|renomm\w*|renombr\w*)\b[^.\n]*?"
    r"\b(?:function|method|class|variable|constant|parameter|argument|attribute|field|module|identifier"
    r"|funktion|methode|klasse|variable|konstante|fonction|méthode|classe|función|método|clase)\b"
    r"\s+[`'\"]?(\w+)(?:\(\))?[`'\"]?[^.\n]*?\s(?:to|into|as|in|zu|nach|en|a|by)\s+[`'\"]?(\w+)",
    re.I,
)
MOST_PLACES = 6


def renaming(goal: str) -> tuple[str, str] | None:
    """The old and the new name of what a task renames in code; None when it is about something else."""
    found = _RENAME.search(goal)
    return (found[1], found[2]) if found and found[1] != found[2] else None


def places(name: str, root: Path) -> dict[str, int]:
    """How often a name stands as a whole word in the short files of the workspace, by path."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    found = {}
    for path in sorted(files(root) or ()):
        if is_small_file(root / path) and (count := len(word.findall(_text(root / path)))):
            found[path] = count
    return found


def left_over(goal: str, messages: Sequence[AnyMessage], root: Path) -> str:
    """Where the old name or words still stand, and how to get them all; empty when nowhere."""
    if names := renaming(goal):
        old, new = names
        if not (rest := places(old, root)) or not places(new, root):
            return ""
        listed = ", ".join(f"{path} ({count})" for path, count in list(rest.items())[:MOST_PLACES])
        where = " ".join(list(rest)[:MOST_PLACES])
        return f"{old} is still in {listed}. Change it there too: sed -i 's/\\b{old}\\b/{new}/g' {where}"
    if rest_of_edit := _rest_of_edits(goal, messages, root):
        return f"{rest_of_edit}. Replace it there too, for example with sed -i."
    return ""


def _rest_of_edits(goal: str, messages: Sequence[AnyMessage], root: Path) -> str:
    """Where words that an edit replaced still stand, when the task wants all of them replaced."""
    if not _EVERYWHERE.search(goal):
        return ""
    calls = [call for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    for edit in (call["args"] for call in calls if call["name"] == "edit_file"):
        words = _replaced(str(edit.get("old", "")), str(edit.get("new", "")))
        path = root / str(edit.get("path", ""))
        text = _text(path) if is_small_file(path) else ""
        if len(words) > 2 and words in text:
            return f"{words!r} is still {text.count(words)} times in {edit['path']}"
    return ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _replaced(old: str, new: str) -> str:
    """The words in which an edit differs, without what is the same before and after them."""
    before, after = old.split(), new.split()
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return " ".join(before).strip(".,;:!?\"'()")
