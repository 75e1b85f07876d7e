"""The text that a Python expression is, as far as that can be known without running anything."""

from __future__ import annotations

import ast
import base64
import codecs
import re
from collections.abc import Callable

from orchestrator.safety.words import UNKNOWN

Texts = dict[str, str]
"""Variables that are set exactly once, to a text."""


def text_of(node: ast.expr | None, texts: Texts) -> str:
    """The text that an expression is, with UNKNOWN for what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return texts.get(node.id, UNKNOWN)
    if isinstance(node, ast.BinOp):
        return _operated(node, texts)
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        return "".join(text_of(part, texts) for part in parts)
    if isinstance(node, ast.List | ast.Tuple):
        return " ".join(quoted(text_of(item, texts)) for item in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        return _called(node, name, texts)
    if isinstance(node, ast.Subscript):
        whole = ast.unparse(node)
        return "~" if whole.endswith("environ['HOME']") else _reversed(node, texts)
    return UNKNOWN


def printed(code: str) -> str | None:
    """What Python code prints, where it imports and prints and does nothing else."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError):
        return None
    lines = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        call = node.value if isinstance(node, ast.Expr) else None
        if not isinstance(call, ast.Call) or call.keywords:
            return None
        end = {"print": "\n", "sys.stdout.write": ""}.get(ast.unparse(call.func))
        if end is None:
            return None
        lines.append(" ".join(text_of(item, {}) for item in call.args) + end)
    text = "".join(lines)
    return None if UNKNOWN in text else text or None


def quoted(text: str) -> str:
    """A text as one word of a shell."""
    return UNKNOWN if UNKNOWN in text else "'" + text.replace("'", "'\\''") + "'"


def _reversed(node: ast.Subscript, texts: Texts) -> str:
    return text_of(node.value, texts)[::-1] if ast.unparse(node.slice) == "::-1" else UNKNOWN


def _operated(node: ast.BinOp, texts: Texts) -> str:
    left = text_of(node.left, texts)
    if isinstance(node.op, ast.Add):
        return left + text_of(node.right, texts)
    given = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
    return _filled(re.split(r"%[sdr]", left), given, texts) if isinstance(node.op, ast.Mod) else UNKNOWN


def _filled(pieces: list[str], given: list[ast.expr], texts: Texts) -> str:
    """The pieces of a form with values between them."""
    values = [text_of(item, texts) for item in given]
    if len(values) < len(pieces) - 1:
        return UNKNOWN
    return "".join(piece + value for piece, value in zip(pieces, [*values, ""], strict=False))


_CLEAR: dict[str, Callable[[str], str]] = {
    "fromhex": lambda text: bytes.fromhex(text).decode(),
    "chr": lambda text: chr(int(text)),
    "home": lambda _: "~",
    "getenv": lambda text: "~" if text == "HOME" else UNKNOWN,
    **dict.fromkeys(("Path", "expanduser", "str", "PurePath", "resolve"), lambda text: text or UNKNOWN),
    **{
        name: lambda text, name=name: str(getattr(base64, name)(text.encode()).decode())  # type: ignore[misc]
        for name in ("b64decode", "b32decode", "b16decode", "a85decode", "b85decode")
    },
}
"""Calls that only hide the text that they are given first."""


def _called(node: ast.Call, name: str, texts: Texts) -> str:
    """What a call that only hides a text comes to."""
    first = text_of(node.args[0], texts) if node.args else ""
    below = text_of(node.func.value, texts) if isinstance(node.func, ast.Attribute) else UNKNOWN
    try:
        if name in _CLEAR and UNKNOWN in first and name not in {"Path", "str", "PurePath", "resolve"}:
            return UNKNOWN
        if name in _CLEAR:
            return _CLEAR[name](first)
        if name in {"join", "map"}:
            return _joined(node, name, below, texts)
        if name == "decode" and node.args and "rot" in text_of(node.args[-1], texts):
            return codecs.decode(first, "rot13")
        if name == "format":
            return _filled(re.split(r"\{\d*\}", below), list(node.args), texts)
        if name == "replace" and len(node.args) > 1 and UNKNOWN not in below:
            return below.replace(first, text_of(node.args[1], texts))
    except (ValueError, IndexError, UnicodeError):
        return UNKNOWN
    return {"decode": below, "encode": below, "lower": below.lower(), "upper": below.upper()}.get(
        name, UNKNOWN
    )


def _joined(node: ast.Call, name: str, below: str, texts: Texts) -> str:
    """`' '.join([…])`, and `map(chr, […])` within it."""
    if name == "map":
        is_plain = ast.unparse(node.args[0]) == "chr" and isinstance(node.args[1], ast.List)
        items = node.args[1].elts if is_plain and isinstance(node.args[1], ast.List) else []
        return "".join(chr(int(text_of(item, texts))) for item in items) or UNKNOWN
    if isinstance(node.args[0], ast.List | ast.Tuple) and UNKNOWN not in below:
        return below.join(text_of(item, texts) for item in node.args[0].elts)
    return text_of(node.args[0], texts) if isinstance(node.args[0], ast.Call) and not below else UNKNOWN
