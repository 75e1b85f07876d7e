"""`orc db`: look after the workspace's state file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(
    epilog="\b\nExamples:\n  orc db verify\n  orc db stats\n  orc db prune --days 30 --dry-run\n  orc db gc\n"
    "  orc db backup state-copy.db\n  orc db import old-checkpoints.db\n"
)
def db() -> None:
    """Look after the state file, `.orc/state.db`."""


@db.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(as_json: bool) -> None:
    """Read everything and check it: exit 1 when something is damaged, changed or missing."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, runs):
        problems = care.verify(root, runs)
    if as_json:
        click.echo(json.dumps({"problems": problems}, ensure_ascii=False))
    else:
        for problem in problems:
            click.secho(problem, fg="red")
        click.echo(f"{len(problems)} problems" if problems else "all sound", err=True)
    if problems:
        sys.exit(1)


@db.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(as_json: bool) -> None:
    """Show how much of everything there is."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, runs):
        found = care.stats(root, runs)
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, count in found.items():
        click.echo(f"{name.replace('_', ' '):16} {count:>14,}")


@db.command()
@click.option("--days", type=float, help="Remove ended runs that were not worked on for so long.")
@click.option("--keep", type=click.IntRange(1, 1_000_000), help="Keep so many of the newest runs.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
def prune(days: float | None, keep: int | None, dry_run: bool) -> None:
    """Remove ended runs for good; by default those that `retention:` in the settings does not keep."""
    from orchestrator.history import care  # noqa: PLC0415
    from orchestrator.settings import Retention  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    if days is not None and not 0 < days <= 36_500:
        raise UsageError(f"--days must be more than 0 and at most 36500 (got {days:g})")
    with opened_runs() as (root, runs):
        given = Retention(days=days, runs=keep)
        retention = given if days or keep else load_settings(root).retention
        if retention.days is None and retention.runs is None:
            raise UsageError("say what may go: --days or --keep, or `retention:` in orchestrator.yaml")
        doomed = care.prunable(runs, retention, time.time())
        for run in doomed if dry_run else ():
            click.echo(f"{run.id}  {run.title}")
        count = len(doomed) if dry_run else care.prune(root, runs, doomed)
    click.echo(f"{count} runs {'would be' if dry_run else 'were'} removed", err=True)
    if count and not dry_run:
        click.echo("`orc db gc` gives their space back", err=True)


@db.command()
def gc() -> None:
    """Free what nothing stands on any more: removed branches, texts, snapshots."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, runs), runs.alone():
        freed = care.gc(root, runs)
    click.echo(
        f"freed {freed['file']:,} bytes of the state file, {freed['snapshots']:,} of snapshots", err=True
    )


@db.command()
@click.argument("target", type=_FILE)
def backup(target: Path) -> None:
    """Write a whole copy of the state file to TARGET, while runs may go on."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (_, runs):
        size = care.backup(runs, target)
    click.echo(f"{target}: {size:,} bytes; the files kept for undo are in .orc/snapshots", err=True)


@db.command("import")
@click.argument("source", type=_FILE)
def import_command(source: Path) -> None:
    """Bring the conversations of a file of LangGraph's SqliteSaver in, each as a run."""
    from orchestrator.history import care  # noqa: PLC0415
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.storage import opened_state  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    with opened_state(root) as connection:
        count = care.import_file(root, Runs(connection, root), source)
    click.echo(f"{count} checkpoints were brought in; `orc runs list` shows them", err=True)


@db.command("export")
@click.argument("target", type=_FILE)
def export_command(target: Path) -> None:
    """Write all conversations to TARGET, a new file that LangGraph's SqliteSaver reads."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, _):
        count = care.export_file(root, target)
    click.echo(f"{target}: {count} checkpoints", err=True)
