"""`orc run` and `orc resume`: work on a request, and go on with one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import Interrupted, OrcError, UsageError
from orchestrator.quiet import SIGNALS

if TYPE_CHECKING:
    from orchestrator.settings import Retention

REFUSED = 4
"""Exit code of a turn that ended because what it tried may not be done."""
HURRY_SECONDS = 0.2
"""How long a collector of telemetry gets when a person wants the prompt back."""

RUN_EXAMPLES = """\b
Examples:
  orc run "how many lines of Python are in src/?"
  orc run --yes "fix the failing test in calc/ and run the tests"
  orc run "@sysadmin what fills the disk?"
  orc run -c r-7f3a "now do the same for the other file"
  git diff | orc run "write a commit message for this diff" -
"""


THREADS = 32
"""Calls wait for disks and not for processors."""


class Threads(ThreadPoolExecutor):
    """Threads that nobody waits for at the end: what is still read then is not needed any more."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take no more work, and leave at once."""
        super().shutdown(wait=False, cancel_futures=True)


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of both commands."""
    for option in (
        click.option("-y", "--yes", is_flag=True, help="Approve what would be asked inside the workspace."),
        click.option(
            "--model", metavar="NAME", help="Use this model for all: a name at the endpoint, or `embedded`."
        ),
        click.option("--json", "as_json", is_flag=True, help="Write every event as a JSON line on stdout."),
        click.option(
            "--time-limit",
            metavar="TIME",
            help="End after this time, saved, with exit 124: 90s, 10m, 1h30m.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Show the answer and errors only."),
        click.option(
            "-C",
            "--workspace",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Work in this folder.",
        ),
    ):
        command = option(command)
    return command


@click.command(epilog=RUN_EXAMPLES)
@click.argument("request", nargs=-1)
@click.option("-c", "--continue", "run_id", metavar="RUN", help="Go on with this conversation.")
@shared
def run(request: tuple[str, ...], run_id: str | None, workspace: Path | None, **options: Any) -> None:
    """Work on a REQUEST in this folder; `-` or a pipe adds text from standard input."""
    text = _request(request)
    go({**options, "workspace": workspace}, text, run_id)


RESUME_EXAMPLES = """\b
Examples:
  orc resume
  orc resume r-7f3a --yes
  orc resume r-7f3a --raise usd=0.05
"""


@click.command(epilog=RESUME_EXAMPLES)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--raise",
    "raised",
    multiple=True,
    metavar="NAME=VALUE",
    help="Raise a limit for this turn: usd=0.05, usd=+0.05.",
)
@click.option(
    "--despite-loss", is_flag=True, help="Go on although calls that were made are lost from the state file."
)
@shared
def resume(run_id: str | None, raised: tuple[str, ...], workspace: Path | None, **options: Any) -> None:
    """Go on with a RUN that stopped, waits for approval or was cut off; the newest one by default."""
    if raised:
        run_id = _raise(workspace, run_id, raised)
    go({**options, "workspace": workspace}, None, run_id)


def _raise(workspace: Path | None, run_id: str | None, raised: tuple[str, ...]) -> str:
    """Give a run more to go on with; returns its id."""
    from orchestrator.limits.raising import raise_of_run  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    root = nearest_workspace(workspace or Path.cwd())
    return raise_of_run(root, load_settings(root).limits, run_id, raised)


def seconds_of(text: str) -> float:
    """Seconds that `90`, `90s`, `10m` or `1h30m` mean; raises UsageError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= 10**7:
        raise UsageError(f"--time-limit: {text!r} is no time above zero; write 90s, 10m or 1h30m")
    return total


def _request(words: tuple[str, ...]) -> str:
    text = " ".join(word for word in words if word != "-")
    if "-" in words or (not words and not sys.stdin.isatty()):
        text = f"{text}\n\n{sys.stdin.buffer.read().decode(errors='replace')}".strip()
    if not text.strip():
        raise UsageError('say what is to be done: orc run "…"')
    # What the shell gave as bytes that are no text would be taken by no file and no model.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _tidy(root: Path, retention: Retention) -> None:
    """Apply what the settings say on how long runs are kept, once a day."""
    if retention.days is None and retention.runs is None:
        return
    from orchestrator.history import care  # noqa: PLC0415
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.storage import opened_state  # noqa: PLC0415

    try:
        if care.is_due(root):
            with opened_state(root) as connection:
                runs = Runs(connection, root)
                care.prune(root, runs, care.prunable(runs, retention, time.time()))
    except (OSError, OrcError) as error:
        # The turn itself has ended well.
        click.echo(f"note: old runs were not removed: {error}", err=True)


def _check_lost(root: Path, run_id: str | None, *, goes_on: bool) -> None:
    """Tell of calls that the run made and does not know of any more; unless it `goes_on`, ask or refuse."""
    from orchestrator.cli.ask import person_is_there  # noqa: PLC0415
    from orchestrator.history.auditing import lost_calls  # noqa: PLC0415
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.safety.visible import escaped  # noqa: PLC0415
    from orchestrator.storage import opened_state  # noqa: PLC0415

    with opened_state(root) as connection:
        runs = Runs(connection, root)
        run = runs.last_resumable() if run_id is None else runs.get(run_id)
        calls = lost_calls(connection, root, run.id)
    if calls:
        named = "".join(f"\n  {escaped(call, keep='')}" for call in calls)
        text = (
            f"the state file lost what {run.id} did last (a torn write, or an older copy); its log says that "
            f"it made these calls, which may now be made again:{named}"
        )
        if goes_on:
            click.secho(f"warning: {text}", fg="yellow", err=True)
        elif not person_is_there():
            raise UsageError(f"{text}\nsee what they did; `orc resume {run.id} --despite-loss` goes on")
        else:
            click.secho(text, fg="yellow", err=True)
            if not click.confirm("Go on all the same?", default=False, err=True):
                raise UsageError("nothing was done")


def _interrupt(*_: object) -> None:
    """Python's own way to take Ctrl-C, which asyncio would replace by one that waits for imports to end."""
    raise KeyboardInterrupt


def _end_on_signals() -> None:
    """Until the turn listens to them itself, which is after langgraph is loaded."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def go(options: dict[str, Any], request: str | None, run_id: str | None) -> None:
    """Run a request, or resume when there is none, and end the process as the run ended."""
    from orchestrator.cli.ask import approver, person_is_there  # noqa: PLC0415
    from orchestrator.cli.models import fetch_before_use  # noqa: PLC0415
    from orchestrator.cli.view import Attended, JsonView, QuietView, TerminalView  # noqa: PLC0415
    from orchestrator.session import Options, Session  # noqa: PLC0415
    from orchestrator.settings import chosen_model  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False
    root = nearest_workspace(options["workspace"] or Path.cwd())
    begun: set[str] = set()
    view = Attended(JsonView() if options["as_json"] else QuietView() if options["quiet"] else TerminalView())
    session = Session(
        root,
        Options(
            approves=options["yes"],
            approver=approver(view.close) if person_is_there() else None,
            model=options["model"],
            listeners=(view, lambda event: begun.add(event.run)),
            handles_signals=True,
            seconds=None if (limit := options.get("time_limit")) is None else seconds_of(limit),
        ),
    )
    session.check(request, run_id)
    if request is None or run_id is not None:
        _check_lost(root, run_id, goes_on=request is not None or options.get("despite_loss", True))
    fetch_before_use(chosen_model(load_settings(root), "default", os.environ, options["model"]))
    work = session.resume(run_id) if request is None else session.run(request, run=run_id)
    _end_on_signals()
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(Threads(max_workers=THREADS))
            outcome = runner.run(work)
    except Interrupted:
        session.close(HURRY_SECONDS)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        if not begun:
            raise Interrupted("stopped before it began") from None
        raise Interrupted(f"stopped; what was done is saved, `orc resume {max(begun)}` goes on") from None
    finally:
        view.close()
        session.close()
    _tidy(root, load_settings(root).retention)
    if outcome.status != "done":
        sys.exit(REFUSED if outcome.status == "refused" else 1)
