"""What a name in Python code stands for, however it is reached: by `getattr`, an alias, a module's table."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from orchestrator.safety.expressions import Texts, text_of
from orchestrator.safety.words import UNKNOWN

_GRAVE = frozenset([
    "os",
    "posix",
    "shutil",
    "subprocess",
    "pathlib",
    "pty",
    "ctypes",
    "importlib",
    "sys",
    "builtins",
])
"""Modules of which a part that is not known before it runs may be any part."""
_TABLES = frozenset(["globals", "locals"])
_LOOKERS = frozenset([
    "help",
    "print",
    "id",
    "type",
    "callable",
    "repr",
    "str",
    "isinstance",
    "hasattr",
    "len",
])
"""Functions that only look at a function that they are given."""


class References:
    """Names of one piece of code: what was imported, and what stands for something else."""

    def __init__(self, tree: ast.AST, texts: Texts) -> None:
        self.texts = texts
        self.known: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.known |= {alias.asname: alias.name for alias in node.names if alias.asname}
            elif isinstance(node, ast.ImportFrom):
                self.known |= {
                    alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names
                }
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._alias(node.targets[0].id, node.value)

    def _alias(self, name: str, value: ast.expr) -> None:
        stands_for = self.dotted(value)
        if stands_for.partition(".")[0] in _GRAVE and not stands_for.endswith("()"):
            self.known[name] = stands_for

    def dotted(self, node: ast.expr) -> str:
        """The dotted name that an expression stands for; UNKNOWN in it where it is computed."""
        name = self._dotted(node)
        for prefix in ("builtins.", "__builtins__."):
            name = name.removeprefix(prefix)
        return name.removesuffix(".__call__")

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        if isinstance(node, ast.Subscript):
            return self._from_table(node)
        return self._called(node) if isinstance(node, ast.Call) else "?"

    def _from_table(self, node: ast.Subscript) -> str:
        """`vars(os)["remove"]`, `os.__dict__["remove"]`, `sys.modules["os"]`, `globals()["os"]`."""
        table, key = self._dotted(node.value), text_of(node.slice, self.texts)
        if table in {"sys.modules", "__builtins__"} or table.removesuffix("()") in _TABLES:
            return key
        if table.endswith(".__dict__"):
            return f"{table.removesuffix('.__dict__')}.{key}"
        is_vars = isinstance(node.value, ast.Call) and table == "vars()" and node.value.args
        return f"{self._dotted(node.value.args[0])}.{key}" if is_vars else "?"  # type: ignore[attr-defined]

    def _called(self, node: ast.Call) -> str:
        """`getattr(os, "remove")`, `import_module("os")`, `attrgetter("remove")(os)`."""
        called = self._dotted(node.func)
        if called.removeprefix("builtins.") == "getattr" and len(node.args) > 1:
            return f"{self._dotted(node.args[0])}.{text_of(node.args[1], self.texts)}"
        if called in {"__import__", "importlib.import_module", "importlib.__import__"} and node.args:
            return text_of(node.args[0], self.texts)
        if (
            called == "operator.attrgetter()"
            and node.args
            and isinstance(node.func, ast.Call)
            and node.func.args
        ):
            return f"{self._dotted(node.args[0])}.{text_of(node.func.args[0], self.texts)}"
        return called + "()"

    def is_dynamic(self, name: str) -> bool:
        """Whether a name is any part of a module that can do harm, as far as is known before it runs."""
        return UNKNOWN in name and (name.startswith(UNKNOWN) or name.partition(".")[0] in _GRAVE)

    def handed(self, tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
        """Functions that are handed on instead of called, as in `map(os.remove, x)`, with what gets them."""
        above = {below: node for node in ast.walk(tree) for below in ast.iter_child_nodes(node)}
        for node in above:
            if not isinstance(node, ast.Attribute | ast.Name | ast.Subscript):
                continue
            holder = above[node]
            while isinstance(holder, ast.keyword | ast.List | ast.Tuple | ast.Dict):
                holder = above[holder]
            if isinstance(holder, ast.Call):
                is_looked_at = self.dotted(holder.func).partition(".")[0] in _LOOKERS
            else:
                is_alias = isinstance(holder, ast.Assign) and isinstance(holder.targets[0], ast.Name)
                is_looked_at = isinstance(holder, ast.Attribute) or (is_alias and above[node] is holder)
            if not is_looked_at and getattr(holder, "func", None) is not node:
                yield self.dotted(node), holder
