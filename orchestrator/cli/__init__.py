"""The command `orc`: a group whose commands are imported when they are used.

Starting must stay under 0.2 s, so this module imports click and nothing heavy.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import threading
from typing import Any

import click

from orchestrator import quiet
from orchestrator.errors import Interrupted, OrcError, TimedOut, UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("orchestrator.cli.run:run", "Work on a request."),
    "resume": ("orchestrator.cli.run:resume", "Go on with a run that stopped."),
    "stop": ("orchestrator.cli.stop:stop", "End a run that is worked on elsewhere."),
    "runs": ("orchestrator.cli.runs:runs", "List runs and show what they did."),
    "logs": ("orchestrator.cli.logs:logs", "Show the events of a run, and follow them."),
    "fork": ("orchestrator.cli.fork:fork", "Start a new branch of a run at any of its steps."),
    "switch": ("orchestrator.cli.fork:switch", "Go on with another branch of a run."),
    "branches": ("orchestrator.cli.fork:branches", "List, rename and remove the branches of a run."),
    "diff": ("orchestrator.cli.diff:diff", "Compare two runs, branches or steps."),
    "replay": (
        "orchestrator.cli.replay:replay",
        "Show a run again, check it, or go another way.",
    ),
    "undo": ("orchestrator.cli.undo:undo", "Take back what a run did: files and conversation."),
    "redo": ("orchestrator.cli.undo:redo", "Bring back what was undone."),
    "approvals": ("orchestrator.cli.approvals:approvals", "Decide on calls that wait for a person."),
    "audit": ("orchestrator.cli.audit:audit", "Check the journal, and export what was decided."),
    "db": ("orchestrator.cli.db:db", "Look after the state file."),
    "cost": ("orchestrator.cli.cost:cost", "Show what was used, and set caps."),
    "agents": ("orchestrator.cli.agents:agents", "List, check, make and show specialists."),
    "models": ("orchestrator.cli.models:models", "List, fetch and check models."),
    "evals": ("orchestrator.cli.evals:evals", "Run a suite of tasks and count what passes."),
    "policy": ("orchestrator.cli.policy:policy", "Explain, test and re-judge what commands may do."),
    "config": ("orchestrator.cli.config:config", "Show the settings and where they come from."),
    "schema": ("orchestrator.cli.config:schema", "Print the JSON Schema of a file."),
    "trust": ("orchestrator.cli.config:trust", "Trust a folder's agent files, or stop trusting it."),
    "init": ("orchestrator.cli.init:init", "Make this folder a workspace."),
    "doctor": ("orchestrator.cli.doctor:doctor", "Check that everything works here."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is invoked; help texts come from the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends each one with the same exit code."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            raise Interrupted("stopped") from None
        finally:
            quiet.ends()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


UNWRITABLE = {errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT}
"""What a full or failing disk says of an output that goes to it."""
EXAMPLES = """\b
Examples:
  orc run "fix the failing test in calc/"
  orc run "@researcher what does docs/ say on retries?"
  orc run -c r-7f3a "and now the other one"
  orc resume
  orc -C ../shop undo
"""


@click.group(cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="orc-orchestrator", prog_name="orc")
@click.option(
    "-C",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, exists=True),
    help="Do everything as if started in this folder.",
)
def orc(folder: str | None) -> None:
    """A multi-agent orchestrator: routed, planned, guarded, checkpointed."""
    quiet.works()
    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(f"{folder}: {error.strerror}") from None


def main(argv: list[str] | None = None) -> Any:
    """Run the command; every error of ours becomes one message and its exit code."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may be no text: in JSON this is the escape that stands for its bytes.
            stream.reconfigure(errors="backslashreplace")
    try:
        orc.main(args=argv, prog_name="orc", standalone_mode=True)
    except OrcError as error:
        color = False if os.environ.get("NO_COLOR") else None
        click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True, color=color)
        if isinstance(error, Interrupted | TimedOut) and threading.active_count() > 1:
            # All is saved, and a thread that still reads a file would keep the person waiting.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        click.echo(f"error: what was to be shown cannot be written: {error.strerror}", err=True)
        sys.exit(1)


def _open_streams() -> None:
    """Open what was closed, as some daemons do: the next file would be taken for the output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
