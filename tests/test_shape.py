"""The shape that docs and style promise: short modules, short functions, a main path read in one go."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULE_LINES, FUNCTION_LINES, PARAMETERS, MAIN_PATH_LINES = 400, 50, 6, 1_000
MAIN_PATH = (
    "orchestrator/session.py",
    "graphs/main.py",
    "orchestrator/nodes/router.py",
    "orchestrator/nodes/planner.py",
    "graphs/specialist.py",
    "orchestrator/nodes/think.py",
    "orchestrator/nodes/guardian.py",
    "orchestrator/nodes/tools.py",
    "orchestrator/checkpoints/__init__.py",
)
EXCEPTIONS = {
    "orchestrator/cli/evals.py:run_suite_command": "click hands every option over as a parameter",
}
"""`path:function` or `path`, each with its reason."""
_NAMES = ("py{}pi.org", "python{}hosted.org", "npm{}js.org", "cra{}tes.io", "dock{}er.io", "gh{}cr.io")
HOSTS = re.compile("|".join(rf"\b{re.escape(name.format(''))}\b" for name in _NAMES))


def modules() -> list[Path]:
    return sorted([*(ROOT / "orchestrator").rglob("*.py"), *(ROOT / "graphs").glob("*.py")])


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def over(found: Iterator[tuple[str, int]], limit: int) -> list[str]:
    return [f"{name}: {size}" for name, size in found if size > limit and name not in EXCEPTIONS]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_module_is_longer_than_400_lines() -> None:
    assert over(((named(path), len(lines(path))) for path in modules()), MODULE_LINES) == []


def test_no_function_is_longer_than_50_lines() -> None:
    sizes = (
        (f"{named(path)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in modules()
        for node in functions(path)
    )
    assert over(sizes, FUNCTION_LINES) == []


def test_no_function_takes_more_than_6_parameters() -> None:
    counts = (
        (f"{named(path)}:{node.name}", len([a for a in every(node.args) if a not in {"self", "cls"}]))
        for path in modules()
        for node in functions(path)
    )
    assert over(counts, PARAMETERS) == []


def every(arguments: ast.arguments) -> list[str]:
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def test_the_main_path_is_read_in_one_go() -> None:
    assert sum(len(lines(ROOT / name)) for name in MAIN_PATH) < MAIN_PATH_LINES


def test_no_file_names_a_package_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    guilty = []
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            text = path.read_bytes().decode("utf-8", "ignore")
            guilty += [f"{name}: {found[0]}" for found in HOSTS.finditer(text)]
    assert guilty == []
