"""The import that a program forgot: small models use `json` without importing it, and what they test as well.

Only what Python brings along or a module beside the program defines is added, and only where the error says
that the name is missing.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from orchestrator.nodes.proof import is_small_file

_MISSING = re.compile(r"^NameError: name '(\w+)' is not defined", re.M)
_FRAME = re.compile(r'^ *File "([^"\n]+\.py)", line \d+', re.M)
MOST_MODULES = 50
"""Modules of a folder that are looked into."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
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


def forgotten(output: str, code: str, folder: Path) -> str:
    """The import line whose absence ended a program, by what it printed; empty when that was not it.

    `folder` is where the program stands, with the modules that it can import.
    """
    missing = _MISSING.findall(output)
    if not missing:
        return ""
    line = _import_of(missing[-1], code)
    if not line and missing[-1] not in _defined(code):
        line = _import_beside(missing[-1], folder)
    return "" if line in code.splitlines() else line


def _import_of(name: str, code: str) -> str:
    if name in {"datetime", "date"} and not re.search(rf"\b{name}\.{name}\b", code):
        return f"from datetime import {name}"
    if name in sys.stdlib_module_names and re.search(rf"\b{name}\.\w", code):
        return f"import {name}"
    return f"from {_MEMBERS[name]} import {name}" if name in _MEMBERS else ""


def _import_beside(name: str, folder: Path) -> str:
    """The import of a name from the one module in a folder that defines it, or of that module itself."""
    modules = [path for path in sorted(folder.glob("*.py"))[:MOST_MODULES] if path.stem.isidentifier()]
    if any(path.stem == name for path in modules):
        return f"import {name}"
    homes = [path.stem for path in modules if is_small_file(path) and name in _defined(_text(path))]
    return f"from {homes[0]} import {name}" if len(homes) == 1 else ""


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _defined(code: str) -> set[str]:
    """The functions and classes at the top of a module."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError):
        return set()
    return {node.name for node in body if isinstance(node, (*FUNCTIONS, ast.ClassDef))}


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
