"""The expectations of a new test, held against what the code under test gives.

Small models do sums in their head when they write a test. Where the code was there before the test, a failing
comparison of a fresh test gets the value that the code really gives.
"""

from __future__ import annotations

import ast
import re

_FRAME = re.compile(r'^ *File "[^"\n]*?([^/"\n]+\.py)", line (\d+)', re.M)
_UNEQUAL = re.compile(r"^AssertionError: (.+?) != (.+?)(?: within .*)?$", re.M)
_BOOLEAN = re.compile(r"^AssertionError: .* is not (true|false)$", re.M)
_SWAPPED = {"assertTrue": "assertFalse", "assertFalse": "assertTrue"}
_EQUAL = {"assertEqual", "assertEquals", "assertAlmostEqual"}


def corrected(source: str, name: str, output: str) -> str | None:
    """A test file whose failing comparisons expect what was found; None where there is none to correct.

    `output` is what unittest printed. Only comparisons of one line with a literal are corrected.
    """
    rows = source.splitlines()
    for failure in output.split("=" * 70)[1:]:
        lines = [int(number) for file, number in _FRAME.findall(failure) if file == name.rpartition("/")[2]]
        if not lines or not 0 < lines[-1] <= len(rows):
            continue
        row = _row(rows[lines[-1] - 1], failure)
        rows[lines[-1] - 1] = row if row is not None else rows[lines[-1] - 1]
    text = "\n".join(rows) + "\n"
    return text if text.split() != source.split() else None


def _row(row: str, failure: str) -> str | None:
    """A line with the found value in place of the expected one."""
    call = _call(row)
    if call is None or not isinstance(call.func, ast.Attribute):
        return None
    if call.func.attr in _SWAPPED and _BOOLEAN.search(failure):
        return row.replace(call.func.attr, _SWAPPED[call.func.attr], 1)
    unequal = _UNEQUAL.search(failure)
    if call.func.attr not in _EQUAL or not unequal or len(call.args) < 2:
        return None
    for side, other in ((1, 0), (0, 1)):
        found = unequal[other + 1]
        if _is_literal(call.args[side]) and not _is_literal(call.args[other]) and _parses(found):
            start, end = call.args[side].col_offset, call.args[side].end_col_offset
            text = row.lstrip().encode()
            indent = row[: len(row) - len(row.lstrip())]
            return indent + (text[:start] + found.encode() + text[end:]).decode()
    return None


def _call(row: str) -> ast.Call | None:
    try:
        body = ast.parse(row.lstrip()).body
    except (SyntaxError, ValueError):
        return None
    value = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return value if isinstance(value, ast.Call) else None


def _is_literal(node: ast.expr) -> bool:
    return _parses(ast.unparse(node))


def _parses(text: str) -> bool:
    """Whether a text is a plain value of Python."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True
