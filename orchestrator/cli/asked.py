"""A call that needs a person, as lines for the screen: what would run, what it would change, who asks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.safety.visible import escaped

LONGEST, WIDEST = 30, 4_000
"""Lines of one argument that are shown, and characters of each."""


def headline(request: Mapping[str, Any]) -> str:
    """Who wants to use what, and where."""
    where = "inside the workspace" if request.get("inside") else "reaches outside the workspace"
    return f"{request['agent']} wants to use {escaped(str(request['name']), keep='')} ({where})"


def lines(request: Mapping[str, Any]) -> Iterator[str]:
    """Everything about a call that helps to decide."""
    for name, value in request["args"].items():
        yield f"{escaped(str(name), keep='')}: {visible(value)}"
    for warning in request.get("warnings", []):
        yield f"! {warning}"
    stakes = request.get("stakes") or {}
    for change in stakes.get("changes", []):
        yield f"would {change['effect']} {change['target']}: {_counted(change)}"
    if stakes.get("more"):
        yield f"… and {stakes['more']} more paths"
    if stakes:
        yield f"can be undone: {'yes, with orc undo' if stakes['undo'] == 'yes' else 'no, ' + stakes['undo']}"
    for source in request.get("sources", []):
        yield f"! not from you: {source}"
    origin = f", {request['origin']}" if request.get("origin") else ""
    yield f"why you are asked: {request['description']} [{request['rule']}{origin}]"


def _counted(change: Mapping[str, Any]) -> str:
    """How much is at a path now."""
    if change["exists"] is None:
        return f"{change['where']}, and nobody knows what is there"
    if not change["exists"]:
        return f"{change['where']}, nothing is there now"
    more = "more than " if change["is_partial"] else ""
    files = "1 file" if change["files"] == 1 else f"{change['files']:,} files"
    tracked = {True: ", tracked by Git", False: ", not tracked by Git", None: ""}[change["tracked"]]
    return f"{change['where']}, {more}{files}, {change['bytes']:,} bytes{tracked}"


def visible(value: Any) -> str:
    """A value as text in which hidden and control characters show as escapes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = escaped(text).split("\n")
    more = f"\n    … {len(shown) - LONGEST} more lines" if len(shown) > LONGEST else ""
    return "\n    ".join(_cut(line) for line in shown[:LONGEST]) + more


def _cut(line: str) -> str:
    more = len(line) - WIDEST
    return line if more <= 0 else f"{line[:WIDEST]} … {more:,} more characters"
