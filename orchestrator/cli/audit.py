"""`orc audit`: is the journal as it was written, and what was decided here."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from orchestrator.cli.agents import plain_when_asked
from orchestrator.cli.opened import opened_runs
from orchestrator.errors import UsageError


@click.group(
    epilog="\b\nExamples:\n  orc audit verify\n  orc audit verify r-7f3a --json\n"
    "  orc audit export --since 30d --format csv -o decisions.csv\n"
)
@click.pass_context
def audit(ctx: click.Context) -> None:
    """Check that the journal is as it was written, and export what was decided."""
    plain_when_asked(ctx)


@audit.command(
    epilog="\b\nExamples:\n  orc audit verify\n  orc audit verify r-7f3a\n  orc audit verify --json\n"
)
@click.argument("run_ids", metavar="[RUN…]", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run.")
def verify(run_ids: tuple[str, ...], as_json: bool) -> None:
    """Walk the hash chain of each run's journal, and its log; exit 1 with the first broken row of each."""
    from orchestrator.history import auditing  # noqa: PLC0415

    with opened_runs(run_ids[0] if run_ids else None) as (root, runs):
        everything = runs.connection.execute("select id from runs order by created")
        names = [runs.get(name).id for name in run_ids] or [name for (name,) in everything.fetchall()]
        checked = [auditing.verify(runs.connection, root, name) for name in names]
    for each in checked:
        if as_json:
            first = each.problems[0] if each.problems else None
            shown = {"run": each.run, "events": each.events, "ok": not each.problems, "first": first}
            click.echo(json.dumps({**shown, "problems": each.problems}, ensure_ascii=False))
        elif each.problems:
            click.secho(each.problems[0], fg="red")
            if len(each.problems) > 1:
                click.echo(f"  and {len(each.problems) - 1} more in {each.run}; --json names them")
    broken = [each for each in checked if each.problems]
    events = sum(each.events for each in checked)
    told = f"{len(broken)} broken" if broken else "all as they were written"
    click.echo(f"{len(checked)} runs, {events:,} events: {told}", err=True)
    if broken:
        sys.exit(1)


@audit.command(
    epilog="\b\nExamples:\n  orc audit export\n  orc audit export --run r-7f3a --json\n"
    "  orc audit export --since 2026-11-01 --format csv -o decisions.csv\n"
)
@click.option(
    "--since", metavar="TIME", help="A date such as 2026-11-01 (UTC), or a span such as 30d or 12h."
)
@click.option("--run", "run_id", metavar="RUN", help="Only this run.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Of the rows.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A new file; else stdout."
)
def export(since: str | None, run_id: str | None, form: str, as_json: bool, output: Path | None) -> None:
    """Write every decision: who wanted what, the verdict and its rule, who approved it, what came of it."""
    from orchestrator.history import auditing  # noqa: PLC0415
    from orchestrator.limits.report import moment  # noqa: PLC0415

    start = moment(since, time.time()) if since else 0.0
    with opened_runs(run_id) as (_, runs):
        run = "" if run_id is None else runs.get(run_id).id
        rows = auditing.decisions(runs.connection, start, run)
        count = _written(rows, auditing.COLUMNS, "jsonl" if as_json else form, output)
    click.echo(f"{count:,} decisions{f' in {output}' if output else ''}", err=True)


def _written(rows: Iterator[dict[str, Any]], columns: tuple[str, ...], form: str, output: Path | None) -> int:
    """Write rows to a new file or to stdout; returns how many."""
    if output is None:
        return _write(rows, columns, form, sys.stdout)
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            return _write(rows, columns, form, file)
    except FileExistsError:
        raise UsageError(f"{output} is there already; name a new file") from None
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from None


def _write(rows: Iterator[dict[str, Any]], columns: tuple[str, ...], form: str, file: TextIO) -> int:
    count = 0
    sheet = csv.DictWriter(file, columns, lineterminator="\n")
    if form == "csv":
        sheet.writeheader()
    for count, row in enumerate(rows, 1):  # noqa: B007 - the count is the result
        if form == "csv":
            sheet.writerow({name: _cell(value) for name, value in row.items()})
        else:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _cell(value: Any) -> Any:
    """A value for a sheet; a text that a spreadsheet would run as a formula is quoted."""
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
