"""`orc undo` and `orc redo`: take back what a run did, and bring it back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError
from orchestrator.safety.visible import escaped

if TYPE_CHECKING:
    from orchestrator.history.undoing import Undone, What
    from orchestrator.runs import Run, Runs
    from orchestrator.snapshots import Action

_VERBS = {"create": "+", "write": "~", "delete": "-", "mode": "~"}
_COLORS = {"+": "green", "-": "red", "~": "yellow"}


@click.command(
    epilog="\b\nExamples:\n  orc undo --dry-run\n  orc undo\n  orc undo --to r-7f3a@12 --files\n"
    "  orc undo r-7f3a --chat\n"
)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--to", "point", metavar="POINT", help="Where to go back to; by default before the last turn.")
@click.option("--files", "files", is_flag=True, help="Files only; the conversation stays.")
@click.option("--chat", is_flag=True, help="Conversation only; the files stay.")
@click.option("--force", is_flag=True, help="Restore files too that were changed by others since.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def undo(run_id: str | None, point: str | None, files: bool, chat: bool, **options: bool) -> None:
    """Take back the last turn of a RUN, or everything since a POINT: its conversation and its files.

    A file that somebody else changed since is left as it is and named. `orc redo` brings everything back.
    """
    from orchestrator.history import undoing  # noqa: PLC0415
    from orchestrator.history.points import held  # noqa: PLC0415

    if files and chat:
        raise UsageError("--files and --chat exclude each other; without both, both are undone")
    if point is None and run_id is not None and "@" in run_id:
        raise UsageError(f"{run_id} names a step: `orc undo --to {run_id}` goes back there")
    what: What = "files" if files else "chat" if chat else "both"
    with opened_runs(run_id) as (root, runs), held(runs, _named(runs, run_id, point)) as end:
        if point is None:
            end = undoing.target(runs, _current(runs, run_id, end.run))
        elif run_id is not None and end.run.id != runs.get(run_id).id:
            raise UsageError(f"{point} is no point of {run_id}")
        if options["dry_run"]:
            found = undoing.plan_undo(root, runs, end, what)
        else:
            found = undoing.undo(root, runs, end, what, force=options["force"])
    verb = "would go back to" if options["dry_run"] else "went back to"
    _show(found, verb, as_json=options["as_json"])


@click.command(epilog="\b\nExamples:\n  orc redo\n  orc redo r-7f3a\n")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--force", is_flag=True, help="Restore files too that were changed by others since.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def redo(run_id: str | None, force: bool, dry_run: bool, as_json: bool) -> None:
    """Bring back what the last undo of a RUN took."""
    from orchestrator.history import undoing  # noqa: PLC0415

    with opened_runs(run_id) as (root, runs), runs.held(_named(runs, run_id)) as run:
        found = undoing.redo(root, runs, _current(runs, run_id, run), force=force, dry_run=dry_run)
    verb = "would bring back what was undone to" if dry_run else "brought back what was undone to"
    _show(found, verb, as_json=as_json)


def _named(runs: Runs, run: str | None, point: str | None = None) -> str:
    """What was named, else the newest run; an empty name is one too, and is refused as unknown."""
    given = run if point is None else point
    return runs.newest().id if given is None else given


def _current(runs: Runs, named: str | None, run: Run) -> Run:
    """The run on its current branch; raises UsageError when another branch was named."""
    found = runs.get(run.id)
    if named is not None and "/" in named and run.branch != found.branch:
        raise UsageError(
            f"{found.id} is on {found.branch_name}; go to the other one first: `orc switch {named}`"
        )
    return found


def _show(found: Undone, verb: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False))
        return
    parts = {"both": "conversation and files", "files": "files", "chat": "conversation"}
    click.echo(f"{verb} {found.point} ({parts[found.what]})", err=True)
    for action in found.actions:
        sign = _VERBS[action.verb]
        click.secho(f"  {sign} {escaped(action.path, keep='')}{_how(action)}", fg=_COLORS[sign], err=True)
    if found.what != "chat" and not found.actions:
        click.echo("  no file differs", err=True)
    for conflict in found.conflicts:
        click.secho(
            f"  ! {escaped(conflict.path, keep='')}: {conflict.reason}", fg="yellow", bold=True, err=True
        )
    if found.conflicts:
        is_forceable = any(conflict.is_forceable for conflict in found.conflicts)
        hint = "; --force overwrites it" if is_forceable else ""
        click.echo(f"  what is marked with ! stays as it is{hint}", err=True)
    for note in found.notes:
        click.echo(f"  note: {escaped(note)}", err=True)
    for call in found.outside:
        click.secho(
            f"  cannot be undone, it may have reached outside: {escaped(call)}", fg="yellow", err=True
        )
    if found.branch:
        click.echo(f"the conversation is on {found.branch}", err=True)


def _how(action: Action) -> str:
    """What becomes of a path that is there before and afterwards."""
    now, then = action.seen, action.target
    kinds = f"{now.kind} → {then.kind}" if now.kind != then.kind else ""
    modes = f"mode {now.mode:04o} → {then.mode:04o}" if not kinds and now.mode != then.mode else ""
    sizes = f"{action.bytes_now:,} → {action.bytes_then:,} bytes" if not kinds and now.id != then.id else ""
    parts = [kinds, sizes, modes] if action.verb in {"write", "mode"} else []
    told = ", ".join(filter(None, parts))
    return f" ({told})" if told else ""


def _as_json(found: Undone) -> dict[str, object]:
    return {
        "point": found.point,
        "what": found.what,
        "actions": [
            {
                "path": action.path,
                "verb": action.verb,
                "bytes_now": action.bytes_now,
                "bytes_then": action.bytes_then,
            }
            for action in found.actions
        ],
        "conflicts": [{"path": each.path, "reason": each.reason} for each in found.conflicts],
        "notes": list(found.notes),
        "outside": list(found.outside),
        "branch": found.branch,
    }
