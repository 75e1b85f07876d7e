"""Run shell commands and Python code in the sandbox; what they print is the result, whatever the code."""

from __future__ import annotations

import re
import shutil
import signal
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.sandbox import Confinement, View, needs_keeper
from orchestrator.sandbox.records import Kept
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.paths import opened
from orchestrator.tools.process import BY_USER, DISK, Ended, Job, environment, run, shell
from orchestrator.tools.proxy import Proxy
from orchestrator.tools.results import shaped
from orchestrator.tools.walk import missing

OUT_TOKENS, ERR_TOKENS = 2_600, 1_200
LONGEST_ARGUMENT = 120_000
"""The kernel takes at most 128 KiB in one argument."""

EXECUTES = Effects(network=False, output=Trust.WORKSPACE)

_COMMAND = re.compile(
    r"\s*(?:python3?|pip3?|pytest|ls|cat|wc|grep|sort|find|mv|cp|rm|mkdir|bash|sh|git|npm|node|make)\s+[\w./*-]+"
    r"[^\n=(]*\s*"
    r"\Z"
)
"""One line that starts like a shell command and can be no Python."""
_OWN_RECORDS = re.compile(
    r"(?m)^.*[ '\"\u2018](?:\./)?\.orc(?:/[^'\"\u2019\n]*)?['\"\u2019]?: "
    r"(?:Device or resource busy|Permission denied|Read-only file system)\n?"
)
"""What programs that go through all files say of orc's records, which are not the model's to wonder about."""
PYTHON = Path(__file__).with_name("snippet.py")


class RunCommandArguments(Arguments):
    """Arguments of run_command."""

    command: str = Field(
        min_length=1, description="command line for bash; it gets no input from the keyboard"
    )
    cwd: str = Field(default=".", description="folder to run in")
    seconds: float = Field(default=60, gt=0, description="time limit")


_PLAIN_GIT = re.compile(
    r"\s*git (config|remote|branch|checkout|switch|push|pull|fetch|submodule|clone|init|worktree)"
    r" [^;&|`$()<>\n\\]*"
)
"""One Git command alone, which the policy has read: it may change Git's own settings."""


async def run_command(arguments: RunCommandArguments, context: ToolContext) -> str:
    """Return exit code, output and error output."""
    if "\0" in arguments.command:
        raise ToolError("the command holds a NUL character; leave it out")
    if len(arguments.command.encode("utf-8", "replace")) > LONGEST_ARGUMENT:
        raise ToolError(
            "the command is longer than 120,000 bytes; write a script with write_file and run that"
        )
    cwd = _folder(context.root, arguments.cwd)
    view: View = "inspect" if context.read_only_command else "work"
    records = context.approved or _PLAIN_GIT.fullmatch(arguments.command) is not None
    confinement = Confinement(root=context.root, cwd=cwd, view=view, git_records=records)
    job = Job([shell(), "-c", arguments.command], cwd, _limit(arguments.seconds, context))
    ended, note = await _run(job, confinement, context)
    return report(ended, context, "run_command") + note


class RunPythonArguments(Arguments):
    """Arguments of run_python."""

    code: str = Field(
        min_length=1, description="Python 3 code, run in the workspace; print what you want to see"
    )
    seconds: float = Field(default=60, gt=0, description="time limit")


async def run_python(arguments: RunPythonArguments, context: ToolContext) -> str:
    """Return exit code and output; the value of a last expression is printed too."""
    if _COMMAND.match(arguments.code):
        command = arguments.code.strip()
        raise ToolError(f"that is a shell command, not Python; use run_command with command={command!r}")
    python = python_here()
    if python is None:
        raise ToolError("there is no Python on this machine; use run_command")
    argv = [python, "-c", PYTHON.read_text(encoding="utf-8")]
    with tempfile.TemporaryFile() as code:
        code.write(arguments.code.encode("utf-8", "replace"))
        code.seek(0)
        job = Job(argv, context.root, _limit(arguments.seconds, context), code)
        ended, note = await _run(job, Confinement(root=context.root, cwd=context.root), context)
    return report(ended, context, "run_python") + note


async def _run(job: Job, confinement: Confinement, context: ToolContext) -> tuple[Ended, str]:
    """Run a job confined; put back what it did to Git's hooks and settings unless it may, and say so."""
    guards = not confinement.git_records and confinement.view == "work"
    kept = Kept(context.root) if guards else None
    changed: list[Path] = []
    try:
        ended, note = await _reaching(job, confinement, context)
    finally:
        changed = kept.restore() if kept else []
    names = ", ".join(str(path.relative_to(context.root)) for path in changed[:5])
    return ended, note + (f"\nput back as it was: {names}; ask the user to change it" if names else "")


async def _reaching(job: Job, confinement: Confinement, context: ToolContext) -> tuple[Ended, str]:
    """Run a job confined, with a way to the hosts that are granted, and say what it was refused."""
    sandbox, gate = context.sandbox, context.gate
    job = replace(job, is_kept=needs_keeper(sandbox))
    if gate is None or confinement.view != "work" or not sandbox.has_gate:
        return await run(replace(job, argv=sandbox.wrap(job.argv, confinement)), context.cancel), ""
    proxy = Proxy(gate)
    async with proxy.listening() as number:
        argv = sandbox.wrap(job.argv, replace(confinement, gate=number))
        ended = await run(replace(job, argv=argv, inherits=(number,)), context.cancel)
    refused = [reached for reached in proxy.seen.values() if not reached.allowed]
    notes = [f"\nno way to {reached.place}: {reached.why}" for reached in refused[:5]]
    return ended, "".join(notes)


def python_here() -> str | None:
    """The Python that commands of this workspace find; None where there is none."""
    path = environment()["PATH"]
    return shutil.which("python3", path=path) or shutil.which("python", path=path)


def _limit(seconds: float, context: ToolContext) -> float:
    return min(seconds, context.settings.command_seconds)


def _folder(root: Path, path: str) -> Path:
    try:
        with opened(root, path) as folder:
            if not stat.S_ISDIR(folder.stat.st_mode):
                raise ToolError(f"cwd {path!r} is a file; give a folder")
            return root / folder.relative
    except FileNotFoundError:
        raise missing(root, path, folder=True) from None


def report(ended: Ended, context: ToolContext, name: str) -> str:
    """The result for the model: how it ended, then both streams."""
    rows = [_ending(ended)]
    share = context.settings.result_tokens.get(name, 4_000)
    out, err = ended.out.rstrip("\n"), _OWN_RECORDS.sub("", ended.err).rstrip("\n")
    if out.strip():
        rows.append(shaped(out, OUT_TOKENS * share // 4_000, context.results))
    if err.strip():
        rows.append(f"stderr:\n{shaped(err, ERR_TOKENS * share // 4_000, context.results)}")
    if len(rows) == 1:
        rows.append("(no output)")
    if ended.left_children:
        rows.append("(processes left in the background were stopped: they end with the command)")
    return "\n".join(rows)


def _ending(ended: Ended) -> str:
    took = f"({ended.seconds:.1f} s)"
    if ended.stopped:
        hint = (
            "; ask for more with seconds=, or do less at once" if ended.stopped not in {BY_USER, DISK} else ""
        )
        return f"stopped {ended.stopped}{hint}; output so far:"
    code = ended.code or 0
    if code < 0:
        return f"ended by signal {_signal_name(-code)} {took}"
    known = {126: " (found but may not be executed)", 127: " (command not found)"}
    if code > 128 and code - 128 in set(signal.Signals):
        return f"exit code {code} (ended by signal {_signal_name(code - 128)}) {took}"
    return f"exit code {code}{known.get(code, '')} {took}"


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


RUN_COMMAND = Tool(
    name="run_command",
    description="Run a shell command in the workspace; shows exit code, output and errors.",
    arguments=RunCommandArguments,
    run=run_command,
    effects=Effects(network=False, paths=("cwd",), output=Trust.WORKSPACE),
    # The limit that counts is the call's own; it returns what was printed until then.
    seconds=86_400 + 60,
)
RUN_PYTHON = Tool(
    name="run_python",
    description="Run Python code in the workspace, to compute, count or change many files.",
    arguments=RunPythonArguments,
    run=run_python,
    effects=EXECUTES,
    seconds=86_400 + 60,
)
