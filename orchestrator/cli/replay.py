"""`orc replay`: show a run again, check it against today's code, or go another way from one of its steps."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.cli.run import go, shared
from orchestrator.errors import UsageError
from orchestrator.safety.visible import escaped

if TYPE_CHECKING:
    from orchestrator.history.strict import Report

_COLORS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    epilog="\b\nExamples:\n  orc replay r-7f3a\n  orc replay r-7f3a --check\n"
    "  orc replay --from r-7f3a@think --model qwen3-32b\n"
    '  orc replay --from r-7f3a@turn --say "the same for the other file"\n'
)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--strict", is_flag=True, help="Drive today's code by what was recorded, and report.")
@click.option("--check", is_flag=True, help="The same, and exit 1 when today's code does something else.")
@click.option("--from", "start", metavar="POINT", help="Go another way from here, live, on a new branch.")
@click.option("--say", metavar="REQUEST", help="With --from: go on with this request.")
@click.option("--name", default="", help="With --from: name of the new branch.")
@shared
def replay(run_id: str | None, start: str | None, **options: Any) -> None:
    """Show a RUN again; nothing is run. With CI set it is checked strictly instead.

    --strict and --check run no tool, use no network and change no file: recorded model answers and results
    of calls drive today's code, prompts, agent files and policy. --from is live: what lies before POINT is
    kept, what comes after is done anew, with another --model or
    request, and with the agent files, policy and code of today.
    """
    if start is not None:
        if run_id is not None or options["strict"] or options["check"]:
            raise UsageError(
                "--from POINT names the run, and is live: it goes with no RUN, --strict or --check"
            )
        _what_if(start, options)
        return
    if options["say"] or options["name"] or options["model"]:
        raise UsageError("--say, --name and --model need --from POINT: where to go another way")
    if options["strict"] or options["check"] or os.environ.get("CI", "").lower() in {"1", "true"}:
        _strictly(run_id, options)
    else:
        _view(run_id, options)


def _view(run_id: str | None, options: dict[str, Any]) -> None:
    from orchestrator.cli.runs import show_run  # noqa: PLC0415

    with opened_runs(run_id, options["workspace"]) as (_, runs):
        run = runs.newest() if run_id is None else runs.get(run_id)
        show_run(runs, run, as_json=options["as_json"])


def _what_if(start: str, options: dict[str, Any]) -> None:
    from orchestrator.history import forking  # noqa: PLC0415
    from orchestrator.history.points import held  # noqa: PLC0415
    from orchestrator.session import Options, Session  # noqa: PLC0415

    with opened_runs(start, options["workspace"]) as (root, runs), held(runs, start) as point:
        said = options["say"]
        if said is not None:
            Session(root, Options(model=options["model"])).check(said, point.run.id)
        request = _request_after(runs, point) if said is None else said
        made = forking.fork(root, runs, point, name=options["name"], stem="what-if")
    click.echo(f"{made.id}/{made.branch_name} starts at {point.name}", err=True)
    go(options, request, made.id)


def _request_after(runs: Any, point: Any) -> str | None:
    """The request that a point right before a turn goes on with; None where the turn has begun."""
    if point.step is None or point.step.node != "turn":
        return None
    from orchestrator.events import seen_by  # noqa: PLC0415

    events = seen_by(runs.connection, point.run.id, runs.branches.lineage(point.branch), point.step.turn)
    return next(str(event.fields["request"]) for event in events if event.kind == "turn")


def _strictly(run_id: str | None, options: dict[str, Any]) -> None:
    from orchestrator.history.points import find_point  # noqa: PLC0415
    from orchestrator.history.strict import replay_strictly  # noqa: PLC0415

    with opened_runs(run_id, options["workspace"]) as (root, runs):
        point = find_point(runs, runs.newest().id if run_id is None else run_id)
        report = asyncio.run(replay_strictly(root, runs, point))
    _tell(report, as_json=options["as_json"])
    if report.diverged and (options["check"] or not options["strict"]):
        sys.exit(1)


def _tell(report: Report, *, as_json: bool) -> None:
    diverged = report.diverged
    if as_json:
        found = diverged and {
            "where": diverged.where,
            "what": diverged.what,
            "difference": diverged.difference,
        }
        click.echo(
            json.dumps(
                {
                    "point": report.point,
                    "turns": report.turns,
                    "checked": report.checked,
                    "diverged": found,
                    "notes": list(report.notes),
                },
                ensure_ascii=False,
            )
        )
        return
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    amount = f"{report.checked} recorded decisions, calls and answers in {report.turns} turns"
    if diverged is None:
        click.echo(f"{report.point}: today's code does the same: {amount}")
        return
    click.secho(f"{report.point}: {diverged.where}: {diverged.what}", fg="red", bold=True)
    for line in diverged.difference:
        click.secho("  " + escaped(line, keep="\t"), fg=_COLORS.get(line[:1]))
    click.echo(f"until then it was the same: {report.checked} of what was recorded")
