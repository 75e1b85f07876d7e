"""Find a repair by trying: one small change at a time, until the check passes.

Mutation-based repair as in Debroy and Wong, "Using Mutation to Automatically Suggest Fixes for Faulty
Programs" (2010): small mistakes are one operator, bound, method or name away from what was meant, and a
machine tries hundreds of those in the time in which a small model writes one. This file also runs as a
program of its own, in the sandbox and on a copy of the files, so it imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SECONDS = 25
"""Time limit of a search."""
EACH = 3
"""Seconds after which one try is given up: a small change easily makes a loop endless."""
MOST_COPIED = 2_000_000
"""Bytes of a workspace file above which it is not copied."""

Change = tuple[int, str]
"""The number of a line, from 1, and the text that takes its place."""
Maker = Callable[[ast.AST, list[bytes]], Iterator[Change]]

_OPERATORS: dict[str, list[str]] = {
    "<": ["<=", ">", ">="], "<=": ["<", ">=", ">"], ">": [">=", "<", "<="], ">=": [">", "<=", "<"],
    "==": ["!=", ">=", "<="], "!=": ["=="], "in": ["not in"], "not in": ["in"], "is": ["is not", "=="],
    "is not": ["is", "!="], "and": ["or"], "or": ["and"], "+": ["-", "*"], "-": ["+"], "*": ["**", "+", "/"],
    "/": ["//", "*", "%"], "//": ["/", "%"], "%": ["//", "/"], "**": ["*"], "+=": ["-=", "*=", "="],
    "-=": ["+="], "*=": ["+=", "**="], "/=": ["//=", "*="], "//=": ["/="],
}  # fmt: skip
_NAMES: dict[str, list[str]] = {
    "min": ["max"], "max": ["min"], "any": ["all"], "all": ["any"], "int": ["round", "float"],
    "float": ["int"], "round": ["int"], "append": ["extend"], "extend": ["append"], "lower": ["upper"],
    "upper": ["lower"], "title": ["capitalize"], "capitalize": ["title"], "startswith": ["endswith"],
    "endswith": ["startswith"], "lstrip": ["rstrip", "strip"], "rstrip": ["lstrip", "strip"],
    "find": ["rfind"], "rfind": ["find"], "keys": ["values", "items"], "values": ["keys", "items"],
    "add": ["discard"], "isdigit": ["isalpha", "isalnum"], "isalpha": ["isalnum", "isdigit"],
    "floor": ["ceil"], "ceil": ["floor"],
}  # fmt: skip
_WRAPPED = (
    "{}.lower()", "{}.strip()", "{}.copy()", "list({})", "sorted({})", "set({})", "int({})", "float({})",
    "str({})", "abs({})", "{}[::-1]", "round({}, 2)", "-{}", "{} - 1", "{} + 1", "len({})",
)  # fmt: skip
_ABSENT = ("0", "None", "[]", "''", "False", "True", "{{}}")


def found(output: str) -> tuple[str, int, str] | None:
    """Path, number and text of the new line that a search printed; None where there is none."""
    for line in output.splitlines():
        if line.startswith('["'):
            path, number, text = json.loads(line)
            return str(path), int(number), str(text)
    return None


def changes(source: str) -> list[Change]:
    """The small changes of a program, those first that are rarely right by accident."""
    tree = ast.parse(source)
    rows = [row.encode() for row in source.splitlines()]
    wraps = [partial(_wraps, form=form) for form in _WRAPPED]
    makers: list[Maker] = [
        _operators,
        _words,
        _conditions,
        _places,
        _locals,
        _bounds,
        *wraps,
        _guards,
        _constants,
    ]
    made = [change for maker in makers for node in ast.walk(tree) for change in maker(node, rows)]
    return [(line, row) for line, row in dict.fromkeys(made) if row.encode() != rows[line - 1]]


def _replaced(rows: list[bytes], line: int, start: int, end: int, text: str) -> Change:
    row = rows[line - 1]
    return line, (row[:start] + text.encode() + row[end:]).decode()


def _around(node: ast.expr, rows: list[bytes], form: str) -> Iterator[Change]:
    """An expression of one line put into a form with `{}` in it."""
    if node.end_lineno == node.lineno and node.end_col_offset is not None:
        text = rows[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp)):
            text = f"({text})"
        yield _replaced(rows, node.lineno, node.col_offset, node.end_col_offset, form.format(text))


def _operators(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    pairs: list[tuple[ast.expr, ast.expr]] = []
    if isinstance(node, ast.Compare):
        pairs = list(zip([node.left, *node.comparators], node.comparators, strict=False))
    elif isinstance(node, ast.BinOp):
        pairs = [(node.left, node.right)]
    elif isinstance(node, ast.BoolOp):
        pairs = list(zip(node.values, node.values[1:], strict=False))
    elif isinstance(node, ast.AugAssign):
        pairs = [(node.target, node.value)]
    for left, right in pairs:
        if left.end_lineno != right.lineno or left.end_col_offset is None:
            continue
        start, end = left.end_col_offset, right.col_offset
        between = rows[right.lineno - 1][start:end].decode()
        operator = between.strip(" ()")
        for other in _OPERATORS.get(operator, ()):
            text = between.replace(operator, other, 1)
            yield _replaced(rows, right.lineno, start, end, text)


def _constants(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    others: list[str] = []
    if isinstance(value, bool):
        others = [str(not value)]
    elif isinstance(value, int):
        others = [str(value + 1), str(value - 1), *(["0"] if value else ["1"])]
    elif value == " ":
        others = ["''"]
    elif value == "":
        others = ["' '"]
    for other in others:
        yield from _around(node, rows, other)


def _words(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    """Functions and methods for their counterparts."""
    if isinstance(node, ast.Name):
        for other in _NAMES.get(node.id, ()):
            yield from _around(node, rows, other)
    if isinstance(node, ast.Attribute) and node.end_lineno == node.lineno and node.end_col_offset:
        for other in _NAMES.get(node.attr, ()):
            end = node.end_col_offset
            yield _replaced(rows, node.lineno, end - len(node.attr.encode()), end, other)
    if isinstance(node, ast.Call) and _calls(node, "sorted") and node.args and not node.keywords:
        yield from _around(node.args[-1], rows, "{}, reverse=True")


def _calls(node: ast.Call, name: str) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == name


def _conditions(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield from _around(node.test, rows, "not ({})")
    if isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield from _around(test, rows, "not ({})")
    if isinstance(node, ast.UnaryOp) and node.end_lineno == node.lineno and node.end_col_offset:
        start, end = node.operand.col_offset, node.operand.end_col_offset
        text = rows[node.lineno - 1][start:end].decode()
        yield _replaced(rows, node.lineno, node.col_offset, node.end_col_offset, text)


def _bounds(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    """Ranges and slices that end one too early or too late."""
    if isinstance(node, ast.Call) and _calls(node, "range"):
        for argument in node.args:
            yield from _around(argument, rows, "{} + 1")
            yield from _around(argument, rows, "{} - 1")
        if len(node.args) == 1:
            yield from _around(node.args[0], rows, "1, {}")
            yield from _around(node.args[0], rows, "1, {} + 1")
    if isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound is not None:
                yield from _around(bound, rows, "")
                yield from _around(bound, rows, "{} + 1")
                yield from _around(bound, rows, "{} - 1")
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        yield from _around(node.slice, rows, "{} + 1")
        yield from _around(node.slice, rows, "{} - 1")
        yield from _around(node.slice, rows, "-{}")


def _places(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    """A statement that stands one level too deep, or not deep enough."""
    if isinstance(node, (ast.Return, ast.Assign, ast.AugAssign, ast.Expr)) and node.lineno == node.end_lineno:
        row = rows[node.lineno - 1].decode()
        for depth in range(4, node.col_offset - 3, 4):
            yield node.lineno, row[depth:]
        yield node.lineno, f"    {row}"


def _wraps(node: ast.AST, rows: list[bytes], form: str) -> Iterator[Change]:
    """A value that has to be made another one first: lower case, a number, one more."""
    for value in _values(node):
        if isinstance(value, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.BinOp)):
            yield from _around(value, rows, form)


def _values(node: ast.AST) -> list[ast.expr]:
    """Where values are used: returned, gone through, compared or handed over."""
    if isinstance(node, ast.Return) and node.value is not None:
        return [node.value]
    if isinstance(node, (ast.For, ast.comprehension)):
        return [node.iter]
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call):
        return list(node.args)
    return [node.value] if isinstance(node, (ast.Assign, ast.AugAssign)) else []


def _locals(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    """One name of a function for another one of it."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    used = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
    names = [argument.arg for argument in node.args.args]
    names += [name.id for name in used if isinstance(name.ctx, ast.Store)]
    for name in used:
        if isinstance(name.ctx, ast.Load) and name.id in names:
            for other in dict.fromkeys(names):
                yield from _around(name, rows, other)


def _guards(node: ast.AST, rows: list[bytes]) -> Iterator[Change]:
    """A result for the empty case."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    for statement in ast.walk(node):
        if isinstance(statement, ast.Return) and statement.value is not None:
            for argument in node.args.args:
                for absent in _ABSENT:
                    yield from _around(statement.value, rows, f"{{}} if {argument.arg} else {absent}")


def main(words: list[str], paths: list[str]) -> None:
    """Try the changes of some files, and print the first one after which the check passes."""
    until = time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory() as folder:
        _copy(Path.cwd(), Path(folder))
        os.chdir(folder)
        if words[:2] == ["-m", "pytest"]:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            words = _without_framework(words[-1]) or words
        for path in paths:
            source = Path(path).read_text(encoding="utf-8")
            run = _lines_run(words, path)
            for line, text in changes(source):
                if line not in run:
                    continue
                if time.monotonic() > until:
                    return
                rows = source.splitlines()
                rows[line - 1] = text
                if _parses(tried := "\n".join(rows) + "\n"):
                    Path(path).write_text(tried, encoding="utf-8")
                    if _passes(words):
                        sys.stdout.write(f"{json.dumps([path, line, text])}\n")
                        return
            Path(path).write_text(source, encoding="utf-8")


def _without_framework(path: str) -> list[str]:
    """How to run a file of plain test functions by itself, in a hundredth of pytest's time; or nothing.

    Whatever a try seems to mend is run by the check itself afterwards.
    """
    import pytest  # noqa: F401, PLC0415 - loaded once for all tries

    try:
        source = Path(path).read_text(encoding="utf-8")
        body = ast.parse(source).body
    except (OSError, SyntaxError, ValueError):
        return []
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]
    is_plain = not any(test.args.args or test.decorator_list for test in tests)
    if not tests or not is_plain or any(isinstance(node, ast.ClassDef) for node in body):
        return []
    alone = Path(path).with_name("run_by_itself.py")
    alone.write_text(source + "".join(f"\n{test.name}()" for test in tests) + "\n", encoding="utf-8")
    return [str(alone)]


def _copy(source: Path, target: Path) -> None:
    """Copy the workspace without hidden folders and large files."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name.startswith(".")
            or name in {"__pycache__", "node_modules", "venv"}
            or (Path(folder) / name).is_symlink()
            or ((Path(folder) / name).is_file() and (Path(folder) / name).stat().st_size > MOST_COPIED)
        ]

    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)


def _parses(source: str) -> bool:
    try:
        compile(source, "source", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _passes(words: list[str]) -> bool:
    child = os.fork()
    if child == 0:
        _run(words)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _lines_run(words: list[str], path: str) -> set[int]:
    """The lines of a file that the check runs: a mistake that it shows is in one of them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        lines: set[int] = set()
        file = Path(path).resolve()

        def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
            if Path(frame.f_code.co_filename).resolve() != file:
                return None
            lines.add(frame.f_lineno)
            return trace

        def tell() -> None:
            sys.settrace(None)
            os.write(writer, json.dumps(sorted(lines)).encode())

        sys.settrace(trace)
        _run(words, SECONDS, tell)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return set(json.loads(told or "[]"))


def _run(words: list[str], seconds: int = EACH, last: Callable[[], None] = lambda: None) -> NoReturn:
    """Run the check in this process, which ends with it."""
    code = 1
    try:
        signal.alarm(seconds)
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        sys.dont_write_bytecode = True
        module = words[1] if words[0] == "-m" else ""
        sys.argv = words[1:] if module else words
        sys.path.insert(0, str(Path.cwd() if module else Path(words[0]).resolve().parent))
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the check has failed
        code = 1
    finally:
        last()
        os._exit(code)
