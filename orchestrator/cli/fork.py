"""`orc fork`, `orc switch` and `orc branches`: the branches of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.cli.run import go, shared
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.history.travel import Moved


@click.command(
    epilog="\b\nExamples:\n"
    "  orc fork r-7f3a@12\n"
    "  orc fork r-7f3a@approval --name careful\n"
    '  orc fork r-7f3a@turn --say "do it with a generator instead"\n'
)
@click.argument("point")
@click.option("--name", default="", help="Name of the new branch; try-1, try-2, … by default.")
@click.option("--say", metavar="REQUEST", help="Go on at once with this request.")
@click.option("--files", is_flag=True, help="Bring the files back to that moment too.")
@shared
def fork(point: str, name: str, say: str | None, files: bool, **options: Any) -> None:
    """Start a new branch at a POINT and make it the current one; what was there stays as it is.

    A POINT is RUN[/BRANCH][@STEP]. STEP is a number as `orc runs show` prints it, or the name of a node,
    which means the last time that it ran. Without a STEP it is the end of the branch.
    """
    from orchestrator.history import forking, travel  # noqa: PLC0415
    from orchestrator.history.points import held  # noqa: PLC0415
    from orchestrator.session import Options, Session  # noqa: PLC0415

    with opened_runs(point, options["workspace"]) as (root, runs), held(runs, point) as found:
        if say is not None:
            Session(root, Options(model=options["model"])).check(say, found.run.id)
        begun = forking.begin(root, runs, found, name=name)
        moved = travel.to(root, runs, found) if files else None
        made = forking.go_to(root, runs, begun, found)
    click.echo(f"{made.id}/{made.branch_name} starts at {found.name}", err=True)
    for line in travel.tell(moved) if moved else []:
        click.echo(line, err=True)
    if say is not None:
        go(options, say, made.id)
    elif options["as_json"]:
        told = {"run": made.id, "branch": made.branch_name, "point": found.name}
        click.echo(json.dumps({**told, **_files(moved)}))
    elif made.status == "done":
        click.echo(f'go on: orc run -c {made.id} "…"', err=True)
    else:
        click.echo(f"go on: orc resume {made.id}", err=True)


@click.command(epilog="\b\nExamples:\n  orc switch r-7f3a/main\n  orc switch r-7f3a/try-1 --files\n")
@click.argument("branch", metavar="RUN/BRANCH")
@click.option("--files", is_flag=True, help="Bring the files to where that branch left them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def switch(branch: str, files: bool, as_json: bool) -> None:
    """Make a branch the one that its run goes on with."""
    from orchestrator.history import forking, travel  # noqa: PLC0415
    from orchestrator.history.points import held  # noqa: PLC0415

    if "@" in branch:
        raise UsageError(f"{branch} names a step: `orc fork {branch}` starts a branch there")
    with opened_runs(branch) as (root, runs), held(runs, branch) as found:
        forking.ready(root, runs, found.branch)
        moved = travel.to(root, runs, found) if files else None
        forking.switch(runs, found.run)
    click.echo(f"{found.run.id} goes on with {found.branch.name}", err=True)
    for line in travel.tell(moved) if moved else []:
        click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps({"run": found.run.id, "branch": found.branch.name, **_files(moved)}))


def _files(moved: Moved | None) -> dict[str, object]:
    """What became of the files, where they were to be moved."""
    if moved is None:
        return {}
    return {
        "actions": [{"path": action.path, "verb": action.verb} for action in moved.actions],
        "conflicts": [{"path": each.path, "reason": each.reason} for each in moved.conflicts],
        "notes": list(moved.notes),
        "outside": list(moved.outside),
    }


@click.group(
    epilog="\b\nExamples:\n  orc branches list r-7f3a\n  orc branches rename r-7f3a/try-1 careful\n"
    "  orc branches rm r-7f3a/try-1\n"
)
def branches() -> None:
    """List, rename and remove the branches of a run."""


@branches.command(
    "list", epilog="\b\nExamples:\n  orc branches list r-7f3a\n  orc branches list r-7f3a --json\n"
)
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each branch.")
def list_branches(run: str, as_json: bool) -> None:
    """List the branches of a RUN as a tree."""
    from orchestrator.cli.tree import tree_lines  # noqa: PLC0415

    with opened_runs(run) as (_, runs):
        found = runs.get(run)
        if as_json:
            for branch in runs.branches.of(found.id):
                click.echo(json.dumps({**vars(branch), "is_current": branch.id == runs.get(found.id).branch}))
            return
        for line in tree_lines(runs, found.id):
            click.echo(line)


@branches.command(epilog="\b\nExamples:\n  orc branches rename r-7f3a/try-1 careful\n")
@click.argument("branch", metavar="RUN/BRANCH")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rename(branch: str, name: str, as_json: bool) -> None:
    """Give a branch another NAME."""
    from orchestrator.history import forking  # noqa: PLC0415

    with opened_runs(branch) as (_, runs), runs.held(branch) as found:
        forking.rename(runs, found, name)
    if as_json:
        click.echo(json.dumps({"run": found.id, "branch": name, "was": found.branch_name}))
    else:
        click.echo(f"{found.id}/{found.branch_name} is {found.id}/{name} now", err=True)


@branches.command(epilog="\b\nExamples:\n  orc branches rm r-7f3a/try-1\n")
@click.argument("branch", metavar="RUN/BRANCH")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rm(branch: str, as_json: bool) -> None:
    """Take a branch out of the tree; the journal keeps what it did, `orc db gc` frees the rest."""
    from orchestrator.history import forking  # noqa: PLC0415

    with opened_runs(branch) as (_, runs), runs.held(branch) as found:
        forking.remove(runs, found)
    if as_json:
        click.echo(json.dumps({"run": found.id, "removed": found.branch_name}))
    else:
        click.echo(f"{found.id}/{found.branch_name} is removed", err=True)
