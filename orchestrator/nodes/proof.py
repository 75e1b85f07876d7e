"""The command that shows whether a step's work is right, as far as code can tell it.

It is taken from the user's words, from the tests that they name, or from the tests that are there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"(?<![\w/.@-])[\w-][\w./-]*\.[A-Za-z]\w{0,4}\b(?!\.\w)")
_NO_FILE = re.compile(
    r"\.(?:com|org|net|edu|gov|io|de|fr|es|eu|uk)\Z|\A\w\.\w\Z|\A(?:node|vue|next)\.js\Z", re.I
)
"""Host names, abbreviations and products, which look like files."""
_MODULE = re.compile(r"\bpython3? -m (unittest|pytest)\b(?: ([\w./:-]+))?")
_SCRIPT = re.compile(r"\b(?:python3?|bash|sh) ([\w./-]+\.(?:py|sh))\b")
_TEST = re.compile(r"(?:\A|/)(?:test_|check)[\w-]*\.py\Z|_test\.py\Z")
_IMPORT = re.compile(r"(?m)^\s*(?:from ([\w.]+) import|import ([\w.]+))")
MOST_BYTES = 6_000


def proof_of(goal: str, root: Path) -> str:
    """The command whose success shows that the step is done; empty when there is none to be seen."""
    for found in _MODULE.finditer(goal):
        what = found[2] if found[2] and _module_file(found[2], root) else ""
        return f"python3 -m {found[1]} {what}".strip()
    for found in _SCRIPT.finditer(goal):
        if _TEST.search(found[1]) and is_small_file(root / found[1]):
            return f"python3 {shlex.quote(found[1])}"
    named = [name for name in named_in(goal) if is_test(name) and is_small_file(root / name)]
    tests = named or [path.relative_to(root).as_posix() for path in _tests_in(root)]
    return _run_of(tests[0], root) if len(tests) == 1 else ""


def named_in(words: str) -> list[str]:
    """The file names in a user's words, in their order."""
    return [str(name) for name in _NAME.findall(words) if not _NO_FILE.search(name)]


def is_test(name: str) -> bool:
    """Whether a file is a test by its name."""
    return _TEST.search(name) is not None


def sources_of(command: str, root: Path) -> list[str]:
    """The files that a check is about: the test itself and the workspace's modules that it imports."""
    if not command:
        return []
    tests = [word for word in shlex.split(command) if is_small_file(root / word)]
    tests += [file for word in command.split()[3:] if (file := _module_file(word, root))]
    found = list(tests)
    for test in tests:
        for first, second in _IMPORT.findall((root / test).read_text(encoding="utf-8", errors="replace")):
            file = f"{(first or second).replace('.', '/')}.py"
            found += [file] if is_small_file(root / file) else []
    return list(dict.fromkeys(found))


def _run_of(test: str, root: Path) -> str:
    """How a test file is run: by the framework that it is written for."""
    text = (root / test).read_text(encoding="utf-8", errors="replace")
    if "unittest" in text:
        return f"python3 -m unittest {test.removesuffix('.py').replace('/', '.')}"
    if re.search(r"(?m)^def test_", text) and "__main__" not in text:
        return f"python3 -m pytest -q {shlex.quote(test)}"
    return f"python3 {shlex.quote(test)}"


def _tests_in(root: Path) -> Iterator[Path]:
    for pattern in ("*.py", "tests/*.py", "test/*.py"):
        yield from (path for path in sorted(root.glob(pattern)) if is_test(path.name) and is_small_file(path))


def _module_file(name: str, root: Path) -> str:
    """The file that `python3 -m unittest NAME` would load, empty when it is not there."""
    for file in (name, f"{name.replace('.', '/')}.py"):
        if is_small_file(root / file):
            return file
    return ""


def is_text(path: Path) -> bool:
    """Whether a file begins as text does."""
    try:
        if not path.is_file() or path.is_symlink():
            return False
        with path.open("rb") as file:
            start = file.read(1_000)
    except (OSError, ValueError):
        return False
    return b"\0" not in start and bool(start)


def is_small_file(path: Path) -> bool:
    """Whether a small model can be shown the whole of a file."""
    try:
        return path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= MOST_BYTES
    except (OSError, ValueError):
        return False
