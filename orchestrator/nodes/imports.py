"""The import that a program forgot: small models use `json` and `csv` without importing them.

Only what Python brings along is added, and only where the error says that the name is missing.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from orchestrator.nodes.proof import is_small_file

_MISSING = re.compile(r"^NameError: name '(\w+)' is not defined", re.M)
_FRAME = re.compile(r'^ *File "([^"\n]+\.py)", line \d+', re.M)
_MEMBERS = {
    "Path": "pathlib",
    "Counter": "collections",
    "defaultdict": "collections",
    "deque": "collections",
    "namedtuple": "collections",
    "OrderedDict": "collections",
    "dataclass": "dataclasses",
    "field": "dataclasses",
    "Decimal": "decimal",
    "Fraction": "fractions",
    "timedelta": "datetime",
    "timezone": "datetime",
    "sleep": "time",
    "sqrt": "math",
    "pi": "math",
    "reduce": "functools",
    "lru_cache": "functools",
    "wraps": "functools",
    "partial": "functools",
    "chain": "itertools",
    "permutations": "itertools",
    "combinations": "itertools",
    "product": "itertools",
    "contextmanager": "contextlib",
    "Enum": "enum",
    "List": "typing",
    "Dict": "typing",
    "Optional": "typing",
    "Any": "typing",
    "patch": "unittest.mock",
    "glob": "glob",
    "randint": "random",
    "choice": "random",
}
"""Where the names stand that are commonly used without their module."""


def forgotten(output: str, code: str) -> str:
    """The import line whose absence ended a program, by what it printed; empty when that was not it."""
    missing = _MISSING.findall(output)
    if not missing:
        return ""
    line = _import_of(missing[-1], code)
    return "" if line in code.splitlines() else line


def _import_of(name: str, code: str) -> str:
    if name in {"datetime", "date"} and not re.search(rf"\b{name}\.{name}\b", code):
        return f"from datetime import {name}"
    if name in sys.stdlib_module_names and re.search(rf"\b{name}\.\w", code):
        return f"import {name}"
    return f"from {_MEMBERS[name]} import {name}" if name in _MEMBERS else ""


def failed_script(output: str, root: Path) -> str:
    """The file of the workspace in which a traceback ends; empty when it ends elsewhere."""
    frames = _FRAME.findall(output)
    path = Path(frames[-1]) if frames else Path()
    if path.is_absolute():
        path = path.relative_to(root) if path.is_relative_to(root) else Path()
    return path.as_posix() if path.name and is_small_file(root / path) else ""


def import_place(code: str) -> int | None:
    """The line after which an import goes: below the docstring; None when the code does not parse."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    heads = [node for node in body if _is_head(node)]
    if heads:
        return heads[-1].end_lineno or 0
    return 1 if code.startswith("#!") else 0


def _is_head(node: ast.stmt) -> bool:
    """Whether a statement must stay above all imports: a docstring or a future import."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.col_offset == 0
