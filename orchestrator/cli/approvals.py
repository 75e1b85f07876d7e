"""`orc approvals`: decide on the calls of runs that wait, and look after what was remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.agents import plain_when_asked
from orchestrator.cli.opened import opened_runs
from orchestrator.cli.run import go, shared
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.approvals import Row, Rule
    from orchestrator.runs import Run, Runs


@click.group(
    epilog="\b\nExamples:\n  orc approvals list\n  orc approvals approve a-7f3a\n"
    '  orc approvals reject a-7f3a --message "use the test database"\n  orc approvals rules\n'
)
@click.pass_context
def approvals(ctx: click.Context) -> None:
    """Decide on calls that wait for a person, and end what was remembered."""
    plain_when_asked(ctx)


@approvals.command(
    "list", epilog="\b\nExamples:\n  orc approvals list\n  orc approvals list --json | jq .id\n"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each call.")
def list_approvals(as_json: bool) -> None:
    """List the calls that wait: what would run, what it would change, and which rule asks."""
    from orchestrator.approvals import Grants  # noqa: PLC0415
    from orchestrator.cli.asked import headline, lines  # noqa: PLC0415

    try:
        with opened_runs() as (_, runs):
            rows = Grants(runs.connection).waiting()
            others = _others(runs, {row.branch for row in rows})
            names = {row.branch: _run_of(runs, row.branch).name for row in rows}
    except UsageError:
        rows, others, names = [], [], {}
    for row in rows:
        if as_json:
            click.echo(json.dumps(plain(row), ensure_ascii=False))
            continue
        if row.void:
            click.echo(f"{row.id}  {names[row.branch]}  cannot be shown: {row.void}", err=True)
            continue
        click.secho(f"{row.id}  {names[row.branch]}  {headline(row.request)}", fg="yellow", bold=True)
        for line in lines(row.request):
            click.echo(f"  {line}")
    for name in others:
        click.echo(f"{name} waits: `orc resume {name}` asks, or goes on with what was decided", err=True)
    if not rows and not others:
        click.echo("nothing waits for an approval here", err=True)


def _others(runs: Runs, known: set[str]) -> list[str]:
    """Runs that wait for no open call: all are decided, or it is the start of a dear plan."""
    waiting = (run for run in runs.list(1_000) if run.status == "waiting")
    return [run.name for run in waiting if run.branch not in known]


def plain(row: Row) -> dict[str, Any]:
    """A row as JSON: the request in LangChain's HITL shape, with its run and its state."""
    return {
        **row.request,
        "id": row.id,
        "run": row.run,
        "branch": row.branch,
        "turn": row.turn,
        "step": row.step,
        "asked": row.asked,
        "decision": dict(row.decision),
        "by": row.by,
        **({"void": row.void} if row.void else {}),
    }


@approvals.command(
    epilog="\b\nExamples:\n  orc approvals approve a-7f3a\n  orc approvals approve a-7f3a a-91c0 --later\n"
    "  orc approvals approve a-7f3a --remember\n"
)
@click.argument("identifiers", metavar="ID…", nargs=-1, required=True)
@click.option("--remember", is_flag=True, help="Allow the very same call from now on, where that is offered.")
@click.option("--later", is_flag=True, help="Only note the decision; `orc resume` goes on with the run.")
@shared
def approve(identifiers: tuple[str, ...], remember: bool, later: bool, **options: Any) -> None:
    """Approve waiting calls, once each; the run goes on as soon as none of its calls waits any more."""
    decision: dict[str, Any] = {"type": "approve"} | ({"remember": True} if remember else {})
    _decide(identifiers, decision, options, later=later)


@approvals.command(
    epilog="\b\nExamples:\n  orc approvals reject a-7f3a\n"
    '  orc approvals reject a-7f3a --message "not on main"\n'
)
@click.argument("identifiers", metavar="ID…", nargs=-1, required=True)
@click.option("-m", "--message", default="", help="What the specialist is told; such as what to do instead.")
@click.option("--later", is_flag=True, help="Only note the decision; `orc resume` goes on with the run.")
@shared
def reject(identifiers: tuple[str, ...], message: str, later: bool, **options: Any) -> None:
    """Reject waiting calls; the run goes on as soon as none of its calls waits any more."""
    _decide(identifiers, {"type": "reject", "message": message}, options, later=later)


def _decide(
    identifiers: tuple[str, ...], decision: Mapping[str, Any], options: dict[str, Any], *, later: bool
) -> None:
    """Store one decision on some calls, then let the runs go on whose calls are all decided."""
    from orchestrator.approvals import Grants  # noqa: PLC0415

    with opened_runs(workspace=options["workspace"]) as (_, runs):
        grants = Grants(runs.connection)
        rows = {row.id: row for row in map(grants.get, identifiers)}
        _check(list(rows.values()), runs, decision)
        for row in rows.values():
            with runs.lock(row.run):
                decided = grants.decide(row.id, decision, "person")
            if options["as_json"]:
                click.echo(json.dumps(plain(decided), ensure_ascii=False))
            else:
                click.echo(f"{row.id}: {decision['type']}", err=True)
        ready = []
        for branch in dict.fromkeys(row.branch for row in rows.values()):
            name = _run_of(runs, branch).name
            left = grants.open_of(branch)
            for row in left:
                click.echo(
                    f"{name} waits for {row.id} too: {row.tool}; `orc approvals list` shows it", err=True
                )
            ready += [] if left else [name]
    if later or not ready:
        for name in ready:
            click.echo(f"go on: orc resume {name}", err=True)
        return
    for name in ready[1:]:
        click.echo(f"then go on: orc resume {name}", err=True)
    go({**options, "despite_loss": False}, None, ready[0])


def _check(rows: list[Row], runs: Runs, decision: Mapping[str, Any]) -> None:
    """Refuse, before anything is stored, what cannot be decided or not be remembered; raises UsageError."""
    waiting = {row.id for row in _grants(runs).waiting()}
    for row in rows:
        if row.id not in waiting and row.is_open:
            run = _run_of(runs, row.branch)
            raise UsageError(f"{row.id}: {run.name} does not wait, it is {run.status}; nothing was decided")
        if not row.is_open:
            how = row.void or f"it was decided already ({row.decision.get('type')} by {row.by})"
            raise UsageError(f"{row.id} is not open any more: {how}")
        if decision.get("remember") and not row.request.get("remember"):
            raise UsageError(
                f"{row.id} cannot be remembered: it reaches outside the workspace, is made of what is not "
                "yours, or depends on the request; approve it once"
            )


def _grants(runs: Runs) -> Any:
    from orchestrator.approvals import Grants  # noqa: PLC0415

    return Grants(runs.connection)


def _run_of(runs: Runs, branch: str) -> Run:
    found = runs.branches.get(branch)
    return runs.get(f"{found.run}/{found.name}")


@approvals.command(epilog="\b\nExamples:\n  orc approvals rules\n  orc approvals rules --json\n")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each rule.")
def rules(as_json: bool) -> None:
    """List the calls that are approved from now on in this workspace."""
    found = _remembered().list()
    for rule in found:
        click.echo(json.dumps(vars(rule)) if as_json else _line(rule))
    if not found:
        click.echo("nothing is remembered here; m at a question in the terminal does it", err=True)


@approvals.command(epilog="\b\nExamples:\n  orc approvals forget 3\n")
@click.argument("number", type=int)
def forget(number: int) -> None:
    """End a remembered approval: the call is asked again."""
    click.echo(f"forgotten: {_remembered().forget(number).scope}", err=True)


def _remembered() -> Any:
    from orchestrator.approvals import Remembered  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    return Remembered(nearest_workspace(Path.cwd()))


def _line(rule: Rule) -> str:
    from orchestrator.safety.visible import escaped  # noqa: PLC0415

    since = time.strftime("%Y-%m-%d", time.localtime(rule.since))
    return f"{rule.id:3}  since {since}  {escaped(rule.scope, keep='')}"
