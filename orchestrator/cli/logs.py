"""`orc logs`: the events of a run, those of the past and, with -f, those that come."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from orchestrator.branches import Lineage
from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError, near
from orchestrator.events import Event, Kind, selected
from orchestrator.runs import Run, Runs

POLL_SECONDS = 0.2
_COLORS = {"error": "red", "retry": "yellow", "budget": "yellow", "breaker": "yellow", "answer": "green"}
_SAYS = (
    "request",
    "text",
    "why",
    "reason",
    "goal",
    "decision",
    "agent",
    "status",
    "model",
    "id",
    "tier",
    "name",
)
"""Fields of which one says most about an event, the best first."""
WIDTH = 100


@dataclass(frozen=True)
class Wanted:
    """Which events are shown."""

    run: Run | None
    """None: those of all runs."""
    lineage: Lineage = ()
    kinds: tuple[Kind, ...] = ()
    agent: str = ""
    since: float = 0.0


EXAMPLES = """\b
Examples:
  orc logs                                   # the newest run
  orc logs -f r-7f3a                         # and what comes, until it ends
  orc logs --kind tool_result --agent coder
  orc logs --all --since 2h --json | jq 'select(.kind == "error")'
"""


@click.command(epilog=EXAMPLES)
@click.argument("run_id", metavar="[RUN[/BRANCH]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends, or Ctrl-C.")
@click.option("--all", "every", is_flag=True, help="The events of all runs.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only these; may be given again.")
@click.option("--agent", default="", metavar="AGENT", help="Only what this specialist did.")
@click.option("--since", metavar="TIME", help="A date such as 2026-11-01 (UTC), or a span such as 30m or 7d.")
@click.option("--json", "as_json", is_flag=True, help="Every event as a JSON line; see `orc schema events`.")
@click.option(
    "-C",
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder whose runs are meant.",
)
def logs(run_id: str | None, follow: bool, every: bool, as_json: bool, **options: object) -> None:
    """Show the events of a RUN, the newest one by default, one line each."""
    from orchestrator.limits.report import moment  # noqa: PLC0415

    if every and run_id is not None:
        raise UsageError(f"either --all or {run_id}, not both")
    since, folder = options["since"], options["workspace"]
    start = moment(since, time.time()) if isinstance(since, str) else 0.0
    with opened_runs(run_id, folder if isinstance(folder, Path) else None) as (_, runs):
        run = None if every else runs.newest() if run_id is None else runs.get(run_id)
        lineage = runs.branches.lineage(runs.branches.get(run.branch)) if run else ()
        wanted = Wanted(run, lineage, _known(options["kinds"]), str(options["agent"]), start)
        try:
            for event in _events(runs, wanted, follow=follow):
                click.echo(event.model_dump_json() if as_json else _line(event, with_run=every))
        except KeyboardInterrupt:
            return


def _known(kinds: object) -> tuple[Kind, ...]:
    """The kinds by name; raises UsageError with near matches."""
    known: tuple[Kind, ...] = get_args(Kind)
    asked = kinds if isinstance(kinds, tuple) else ()
    for name in asked:
        if name not in known:
            raise UsageError(f"there is no kind {name!r} of events{near(name, known)}")
    return asked


def _events(runs: Runs, wanted: Wanted, *, follow: bool) -> Iterator[Event]:
    last = 0
    while True:
        # Asked first: what a run wrote before it ended is read after that.
        goes_on = follow and _goes_on(runs, wanted.run)
        for event in _after(runs.connection, wanted, last):
            last = event.seq
            yield event
        if not goes_on:
            return
        time.sleep(POLL_SECONDS)


def _goes_on(runs: Runs, run: Run | None) -> bool:
    return run is None or runs.is_locked(run.id)


def _after(connection: sqlite3.Connection, wanted: Wanted, last: int) -> Iterator[Event]:
    for event in selected(connection, wanted.run.id if wanted.run else "", wanted.lineage, after=last):
        is_kind = not wanted.kinds or event.kind in wanted.kinds
        if is_kind and event.at >= wanted.since and wanted.agent in {"", event.agent}:
            yield event


def _line(event: Event, *, with_run: bool) -> str:
    """One event for a person: when, where, what."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at)) + f".{int(event.at % 1 * 1000):03}"
    where = "/".join(part for part in (event.node, event.agent) if part)
    took = f" {event.seconds:.2f}s" if event.seconds is not None else ""
    run = f"{event.run} " if with_run else ""
    kind = click.style(f"{event.kind:11}", fg=_COLORS.get(event.kind))
    return f"{click.style(at, dim=True)} {run}{kind} {where:18} {_said(event)}{took}".rstrip()


def _said(event: Event) -> str:
    fields = event.fields
    tool = str(fields.get("tool", ""))
    says = next((str(fields[name]) for name in _SAYS if fields.get(name)), "")
    if event.kind == "tool_intent":
        says = ", ".join(f"{name}={value}" for name, value in fields["arguments"].items())
    elif event.kind == "model_call":
        says = f"{fields['model']} {fields['input_tokens']} in, {fields['output_tokens']} out"
    elif event.kind == "budget":
        says = _budget(fields)
    shown = "".join(c if c.isprintable() else " " for c in f"{tool} {says}".strip())
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 1]}…"


def _budget(fields: dict[str, Any]) -> str:
    if fields.get("warning"):
        return f"{fields['used']} of {fields['of']}, limits.{fields['limit']}"
    if fields.get("estimate"):
        return f"the plan may cost {fields['low']} to {fields['high']}"
    return f"{len(fields['done'])} things done, left: {'; '.join(fields['left'])}"
