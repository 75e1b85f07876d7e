"""Look for the repair of a program among all its small changes, in the sandbox and on a copy.

No model is shown this tool: code calls it for a small model whose own idea did not help.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.sandbox import Confinement, needs_keeper
from orchestrator.tools import mutants
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.command import python_here, report
from orchestrator.tools.process import Job, run

SECONDS = mutants.SECONDS + 20.0


class TryChangesArguments(Arguments):
    """Arguments of try_changes."""

    command: str = Field(min_length=1, description="the check, as `python3 FILE` or `python3 -m MODULE …`")
    paths: list[str] = Field(min_length=1, description="the files that may change")


def _program() -> str:
    return Path(mutants.__file__).read_text(encoding="utf-8")


async def try_changes(arguments: TryChangesArguments, context: ToolContext) -> str:
    """Return path, number and text of the line whose change lets the check pass, as JSON; change nothing."""
    python = python_here()
    if python is None:
        raise ToolError("there is no Python on this machine")
    first, *words = shlex.split(arguments.command)
    if first not in {"python", "python3"} or not words:
        raise ToolError(f"{arguments.command!r} is no run of a Python file or module")
    program = f"{_program()}\n\nmain({words!r}, {arguments.paths!r})\n"
    job = Job([python, "-c", program], context.root, SECONDS)
    confinement = Confinement(root=context.root, cwd=context.root, view="inspect")
    argv = context.sandbox.wrap(job.argv, confinement)
    ended = await run(replace(job, argv=argv, is_kept=needs_keeper(context.sandbox)), context.cancel)
    return report(ended, context, TRY_CHANGES.name)


TRY_CHANGES = Tool(
    name="try_changes",
    description="Look among all small changes of some files for one that lets a check pass.",
    arguments=TryChangesArguments,
    run=try_changes,
    effects=Effects(writes=False, network=False, repeatable=True, output=Trust.WORKSPACE),
    seconds=SECONDS + 10,
)
