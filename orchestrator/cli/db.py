"""`orc db`: look after the workspace's state file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError

_FILE = click.Path(path_type=Path, dir_okay=False)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  orc db {line}" for line in lines)


def _told(found: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(text, err=True)


@click.group(
    epilog="\b\nExamples:\n  orc db verify\n  orc db stats\n  orc db prune --days 30 --dry-run\n  orc db gc\n"
    "  orc db backup state-copy.db\n  orc db import old-checkpoints.db\n"
)
def db() -> None:
    """Look after the state file, `.orc/state.db`."""


@db.command(epilog=_examples("verify", "verify --json"))
@_AS_JSON
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


@db.command(epilog=_examples("stats", "stats --json"))
@_AS_JSON
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


@db.command(epilog=_examples("prune --dry-run", "prune --days 30", "prune --keep 100 --json"))
@click.option("--days", type=float, help="Remove ended runs that were not worked on for so long.")
@click.option("--keep", type=click.IntRange(1, 1_000_000), help="Keep so many of the newest runs.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@_AS_JSON
def prune(days: float | None, keep: int | None, dry_run: bool, as_json: bool) -> None:
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
        gone = doomed if dry_run else care.prune(root, runs, doomed)
    for run in gone if dry_run and not as_json else ():
        click.echo(f"{run.id}  {run.title}")
    text = f"{len(gone)} runs {'would be' if dry_run else 'were'} removed"
    if gone and not dry_run:
        text += "\n`orc db gc` gives their space back"
    _told({"runs": [run.id for run in gone], "dry_run": dry_run}, text, as_json=as_json)


@db.command(epilog=_examples("gc", "gc --json"))
@_AS_JSON
def gc(as_json: bool) -> None:
    """Free what nothing stands on any more: removed branches, texts, snapshots."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, runs), runs.alone():
        freed = care.gc(root, runs)
    text = f"freed {freed['file']:,} bytes of the state file, {freed['snapshots']:,} of snapshots"
    _told({f"{part}_bytes": count for part, count in freed.items()}, text, as_json=as_json)


@db.command(epilog=_examples("backup state-copy.db"))
@click.argument("target", type=_FILE)
@_AS_JSON
def backup(target: Path, as_json: bool) -> None:
    """Write a whole copy of the state file to TARGET, while runs may go on."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (_, runs):
        size = care.backup(runs, target)
    text = f"{target}: {size:,} bytes; the files kept for undo are in .orc/snapshots"
    _told({"file": str(target), "bytes": size}, text, as_json=as_json)


@db.command("import", epilog=_examples("import old-checkpoints.db"))
@click.argument("source", type=_FILE)
@_AS_JSON
def import_command(source: Path, as_json: bool) -> None:
    """Bring the conversations of a file of LangGraph's SqliteSaver in, each as a run."""
    from orchestrator.history import care  # noqa: PLC0415
    from orchestrator.runs import Runs  # noqa: PLC0415
    from orchestrator.storage import opened_state  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    with opened_state(root) as connection:
        count = care.import_file(root, Runs(connection, root), source)
    text = f"{count} checkpoints were brought in; `orc runs list` shows them"
    _told({"file": str(source), "checkpoints": count}, text, as_json=as_json)


@db.command("export", epilog=_examples("export threads.db"))
@click.argument("target", type=_FILE)
@_AS_JSON
def export_command(target: Path, as_json: bool) -> None:
    """Write all conversations to TARGET, a new file that LangGraph's SqliteSaver reads."""
    from orchestrator.history import care  # noqa: PLC0415

    with opened_runs() as (root, _):
        count = care.export_file(root, target)
    text = f"{target}: {count} checkpoints"
    _told({"file": str(target), "checkpoints": count}, text, as_json=as_json)
