"""Run the code on stdin as a notebook cell does: the last expression is shown, a traceback names its lines.

Handed to `python -c` as text, inside the sandbox, to any Python from 3.8 on; standard library only.
"""

import ast
import linecache
import sys
import traceback
from typing import Dict  # noqa: UP035


def _run(source: str, names: Dict[str, object]) -> None:  # noqa: UP006
    tree = ast.parse(source, "code.py")
    last = tree.body[-1] if tree.body else None
    shown = last.value if isinstance(last, ast.Expr) else None
    if shown is not None:
        tree.body.pop()
    exec(compile(tree, "code.py", "exec"), names)  # noqa: S102
    if shown is not None:
        value = eval(compile(ast.Expression(shown), "code.py", "eval"), names)  # noqa: S307
        if value is not None:
            sys.stdout.write(repr(value) + "\n")


def _explain(error: Exception) -> None:
    found = traceback.TracebackException(type(error), error, error.__traceback__)
    own = [index for index, frame in enumerate(found.stack) if frame.filename == "code.py"]
    kept = [frame for index, frame in enumerate(found.stack) if index in own or index >= len(found.stack) - 2]
    found.stack = traceback.StackSummary.from_list([frame for frame in kept if frame.filename != "<string>"])
    sys.stderr.write("".join(found.format()))


def _main() -> None:
    source = sys.stdin.buffer.read().decode("utf-8")
    linecache.cache["code.py"] = (len(source), None, source.splitlines(True), "code.py")
    try:
        _run(source, {"__name__": "__main__", "__builtins__": __builtins__})
    except Exception as error:  # noqa: BLE001
        _explain(error)
        sys.exit(1)


if __name__ == "__main__":
    _main()
