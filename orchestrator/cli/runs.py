"""`orc runs`: what was asked here, and what was done about it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.runs import Run, Runs

_COLORS = {"done": "green", "running": "cyan", "waiting": "yellow", "failed": "red", "refused": "red"}


@click.group(
    epilog="\b\nExamples:\n  orc runs list\n  orc runs list --json -n 5\n  orc runs show r-7f3a\n"
    "  orc runs rm r-7f3a\n"
)
def runs() -> None:
    """List runs, show what they did, and remove them."""


@runs.command("list", epilog="\b\nExamples:\n  orc runs list\n  orc runs list -n 5 --json\n")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 1_000_000),
    default=20,
    show_default=True,
    help="How many, newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def list_runs(number: int, as_json: bool) -> None:
    """List the newest runs of this workspace."""
    try:
        with opened_runs() as (_, index):
            found = index.list(number)
    except UsageError:
        found = []
    if as_json:
        for run in found:
            click.echo(json.dumps(asdict(run)))
        return
    if not found:
        click.echo('no runs here yet; start one with orc run "…"', err=True)
    for run in found:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.updated))
        status = click.style(f"{run.status:8}", fg=_COLORS.get(run.status))
        branch = "" if run.branch_name == "main" else f"[{run.branch_name}] "
        click.echo(
            f"{run.id:8} {status} {moment}  {run.turns:2} turns  {run.agent or '-':12} {branch}{run.title}"
        )


@runs.command(epilog="\b\nExamples:\n  orc runs show r-7f3a\n  orc runs show r-7f3a/try-1 --json\n")
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Every event as a JSON line.")
def show(run_id: str, as_json: bool) -> None:
    """Show what happened in a RUN, or on one branch of it (RUN/BRANCH), event by event; nothing is run.

    The numbers in the margin are steps: `orc fork RUN@12` starts a new branch there.
    """
    with opened_runs(run_id) as (_, index):
        show_run(index, index.get(run_id), as_json=as_json)


@runs.command("rm", epilog="\b\nExamples:\n  orc runs rm r-7f3a\n  orc runs rm r-7f3a r-81c0\n")
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove whole RUNs for good: their branches, steps and logs. The files of the workspace stay."""
    from orchestrator.history import care  # noqa: PLC0415

    for name in names:
        if "/" in name:
            raise UsageError(f"{name} is a branch: `orc branches rm {name}` removes that alone")
    with opened_runs(names[0]) as (root, index):
        found = {run.id: run for run in map(index.get, names)}
        for run in found.values():
            care.remove(root, index, run.id)
            if as_json:
                click.echo(json.dumps({"removed": run.id, "title": run.title}, ensure_ascii=False))
            else:
                click.echo(f"removed {run.id}  {run.title}", err=True)
    if not as_json:
        click.echo("`orc db gc` gives the space back", err=True)


def show_run(index: Runs, run: Run, *, as_json: bool) -> None:
    """Show a branch with its events, and the tree of branches where there are several."""
    from orchestrator.events import seen_by  # noqa: PLC0415

    branch = index.branches.get(run.branch)
    events = seen_by(index.connection, run.id, index.branches.lineage(branch))
    if as_json:
        for event in events:
            click.echo(event.model_dump_json())
        return
    from rich.console import Console  # noqa: PLC0415

    from orchestrator.cli.tree import tree_lines  # noqa: PLC0415
    from orchestrator.cli.view import TerminalView, when  # noqa: PLC0415

    click.echo(f"{run.name} · {run.status} · {run.turns} turns · started {when(run.created)} · {run.title}")
    if run.reason:
        click.echo(f"stopped because: {run.reason}")
    tree = list(tree_lines(index, run.id))
    if len(tree) > 1:
        click.echo("\n".join(tree))
    view = TerminalView(Console(highlight=False), is_live=False)
    steps = index.branches.steps(branch)
    for event in events:
        while len(steps) > 1 and steps[1].seq < event.seq:
            steps.pop(0)
        view.step = steps[0].number if steps and steps[0].seq < event.seq else 0
        view(event)
