"""`orc runs`: what was asked here, and what was done about it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

    from orchestrator.runs import Runs

_COLORS = {"done": "green", "running": "cyan", "waiting": "yellow", "failed": "red"}


@click.group(epilog="\b\nExamples:\n  orc runs list\n  orc runs list --json -n 5\n  orc runs show r-7f3a\n")
@click.pass_context
def runs(ctx: click.Context) -> None:
    """List runs and show what they did."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def _open() -> tuple[Runs, sqlite3.Connection] | None:
    """The runs of this workspace; None when it has no state yet."""
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.storage import open_state, state_path  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    if not state_path(root).exists():
        return None
    connection = open_state(root)
    return Runs(connection, root), connection


@runs.command("list")
@click.option("-n", "--number", default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def list_runs(number: int, as_json: bool) -> None:
    """List the newest runs of this workspace."""
    opened = _open()
    found = opened[0].list(number) if opened else []
    if as_json:
        for run in found:
            click.echo(json.dumps(asdict(run)))
        return
    if not found:
        click.echo('no runs here yet; start one with orc run "…"', err=True)
    for run in found:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.updated))
        status = click.style(f"{run.status:8}", fg=_COLORS.get(run.status))
        click.echo(f"{run.id:8} {status} {moment}  {run.turns:2} turns  {run.agent or '-':12} {run.title}")


@runs.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Every event as a JSON line.")
def show(run_id: str, as_json: bool) -> None:
    """Show what happened in a RUN, event by event; nothing is run."""
    from orchestrator.events import read_events  # noqa: PLC0415

    opened = _open()
    if opened is None:
        raise UsageError(f"no run {run_id!r}: this workspace has no runs yet")
    index, connection = opened
    run = index.get(run_id)
    events = read_events(connection, run.id)
    if as_json:
        for event in events:
            click.echo(event.model_dump_json())
        return
    from rich.console import Console  # noqa: PLC0415

    from orchestrator.cli.view import TerminalView, when  # noqa: PLC0415

    click.echo(f"{run.id} · {run.status} · {run.turns} turns · started {when(run.created)} · {run.title}")
    if run.reason:
        click.echo(f"stopped because: {run.reason}")
    view = TerminalView(Console(highlight=False), is_live=False)
    for event in events:
        view(event)
