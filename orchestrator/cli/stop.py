"""`orc stop`: end a run that another process works on."""

from __future__ import annotations

import time
from pathlib import Path

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.errors import OrcError, UsageError
from orchestrator.runs import RESUMABLE

SECONDS = 10.0
"""How long the other process gets; it needs two."""
POLL_SECONDS = 0.05


@click.command(epilog="\b\nExamples:\n  orc stop r-7f3a\n  orc stop r-7f3a && orc resume r-7f3a\n")
@click.argument("run_id", metavar="RUN")
@click.option(
    "-C",
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder that it works in.",
)
def stop(run_id: str, workspace: Path | None) -> None:
    """End a RUN that is worked on in another terminal or process; what was done is saved.

    Its model call and its commands are ended within 2 seconds. `orc resume` goes on with it.
    """
    with opened_runs(run_id, workspace) as (_, runs):
        run = runs.get(run_id)
        if not runs.is_locked(run.id):
            raise UsageError(f"nothing works on {run.name} now: it is {run.status}")
        runs.ask_to_stop(run.id)
        until = time.monotonic() + SECONDS
        while runs.is_locked(run.id) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        if runs.is_locked(run.id):
            raise OrcError(
                f"{run.name} has not stopped within {SECONDS:g} s; it may be stuck: see `orc logs`"
            )
        now = runs.get(run_id)
        advice = f"; `orc resume {now.name}` goes on" if now.status in RESUMABLE else ""
        click.echo(f"{now.name} is {now.status}{advice}")
