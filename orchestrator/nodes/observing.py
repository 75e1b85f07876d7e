"""What the calls in a failing assertion give: a bare `assert f(2) == 4` does not say, and models guess."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from orchestrator.nodes.proof import is_small_file

GIVES = " gives "


def observation(check: str, root: Path) -> str:
    """A program that goes through a test as far as it holds, then prints what the calls there give.

    Empty unless the check is a script with assertions of its own, outside of functions.
    """
    words = check.split()
    name = words[1] if len(words) == 2 and words[0] == "python3" else ""
    if not name.endswith(".py") or not is_small_file(root / name):
        return ""
    try:
        body = ast.parse((root / name).read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    if not any(isinstance(node, ast.Assert) and any(_calls(node.test)) for node in body):
        return ""
    return "\n".join(line for node in body for line in _lines(node))


def _lines(node: ast.stmt) -> Iterator[str]:
    if not isinstance(node, ast.Assert):
        yield ast.unparse(node)
        return
    yield f"if not ({ast.unparse(node.test)}):"
    for call in _calls(node.test):
        text = ast.unparse(call)
        yield f"    print({text + GIVES!r} + repr({text}))"
    yield "    raise SystemExit"


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """The outermost calls in an expression."""
    if isinstance(node, ast.Call):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls(child)
