"""`orc cost`: what was used here or in all workspaces, by whom, and what is left of each cap."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from orchestrator.cli.agents import plain_when_asked, print_table
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.limits.report import By, Group, Row, Sum

COLUMNS = ("calls", "tokens in", "tokens out", "cost")
HERE = ("agent", "model", "day", "run", "user", "organisation")
EVERYWHERE = ("user", "organisation", "day", "month")


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  orc cost\n  orc cost --by agent --since 7d\n  orc cost --by day --json\n"
    "  orc cost --all --by month\n  orc cost cap day.usd=5\n",
)
@click.option(
    "--by",
    type=click.Choice([*HERE, "month"]),
    help=f"What to add up by, by default model; with --all {', '.join(EVERYWHERE)}, by default user.",
)
@click.option("--all", "is_all", is_flag=True, help="All workspaces of this account, by whole days (UTC).")
@click.option("--since", metavar="TIME", help="A date such as 2026-11-01 (UTC), or a span such as 7d or 12h.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each row.")
@click.pass_context
def cost(ctx: click.Context, by: str | None, is_all: bool, since: str | None, as_json: bool) -> None:
    """Show what the runs of this workspace have used."""
    plain_when_asked(ctx)
    if ctx.invoked_subcommand:
        return
    known = EVERYWHERE if is_all else HERE
    by = by or ("user" if is_all else "model")
    if by not in known:
        whose = "all workspaces are" if is_all else "one workspace is"
        raise UsageError(f"{whose} not added up by {by}; there are: {', '.join(known)}")
    if is_all:
        _show_everywhere(by, since, as_json=as_json)
    else:
        _show_here(by, since, as_json=as_json)


def _show_everywhere(by: str, since: str | None, *, as_json: bool) -> None:
    from orchestrator.limits.amounts import money  # noqa: PLC0415
    from orchestrator.limits.entries import day_of  # noqa: PLC0415
    from orchestrator.limits.report import everywhere, moment  # noqa: PLC0415
    from orchestrator.limits.shared import open_shared, shared_path  # noqa: PLC0415

    start = "" if since is None else day_of(max(moment(since, time.time()), 0.0))
    rows: list[Sum] = []
    if shared_path().exists():
        with closing(open_shared(Path.cwd())) as shared:
            rows = everywhere(shared, cast("Group", by), start)
    if as_json or not rows:
        _show_plainly(rows, by, "nothing was used " + ("since then" if since else "yet"), as_json=as_json)
        return
    print_table(
        (by, "calls", "tokens", "cost"),
        [[row.name, f"{row.calls:,}", f"{row.tokens:,}", _priced(row)] for row in rows],
    )
    click.echo(f"{money(sum((row.usd for row in rows), Decimal(0)))} in all workspaces", err=True)


def _show_here(by: str, since: str | None, *, as_json: bool) -> None:
    from orchestrator.limits.report import moment, spending  # noqa: PLC0415
    from orchestrator.storage import opened_state, state_path  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    start = 0.0 if since is None else moment(since, time.time())
    rows: list[Row] = []
    if state_path(root).exists():
        with opened_state(root) as connection:
            rows = spending(connection, cast("By", by), start)
    if as_json or not rows:
        _show_plainly(
            rows, by, "nothing was used here " + ("since then" if since else "yet"), as_json=as_json
        )
        return
    print_table((by, *COLUMNS), [_cells(row) for row in rows])
    _print_sum(rows)


def _show_plainly(rows: Sequence[Row | Sum], by: str, nothing: str, *, as_json: bool) -> None:
    """JSON lines, or the word that there is `nothing`."""
    if not as_json:
        click.echo(nothing, err=True)
    for row in rows:
        click.echo(json.dumps({by: row.name, **asdict(row), "usd": str(row.usd)}))


def _cells(row: Row) -> list[str]:
    return [row.name, f"{row.calls:,}", f"{row.input_tokens:,}", f"{row.output_tokens:,}", _priced(row)]


def _priced(row: Row | Sum) -> str:
    from orchestrator.limits.amounts import money  # noqa: PLC0415

    usd = money(row.usd)
    if not row.unpriced:
        return usd
    return "unpriced" if row.unpriced == row.calls else f"{usd} + {row.unpriced} unpriced"


def _print_sum(rows: list[Row]) -> None:
    from orchestrator.limits.amounts import money  # noqa: PLC0415

    notes = [f"{money(sum((row.usd for row in rows), Decimal(0)))} in all"]
    if unpriced := sum(row.unpriced for row in rows):
        notes.append(f"{unpriced} calls of unknown price not counted")
    if lost := sum(row.lost for row in rows):
        notes.append(f"{lost} cut off or under way, counted as reserved")
    click.echo("; ".join(notes), err=True)


@cost.command(epilog="\b\nExamples:\n  orc cost cap\n  orc cost cap day.usd=5\n  orc cost cap day.usd=none\n")
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each cap.")
def cap(changes: tuple[str, ...], as_json: bool) -> None:
    """Show the caps of this workspace and what is used, or set one; `none` takes it away.

    A cap set here holds beside those of the settings: the smaller one counts, also for running runs.
    """
    from orchestrator.limits.caps import checked  # noqa: PLC0415
    from orchestrator.limits.entries import identity  # noqa: PLC0415
    from orchestrator.limits.ledger import Ledger  # noqa: PLC0415
    from orchestrator.limits.raising import assignments  # noqa: PLC0415
    from orchestrator.limits.report import cap_rows  # noqa: PLC0415
    from orchestrator.storage import opened_state  # noqa: PLC0415
    from orchestrator.workspace.folders import nearest_workspace  # noqa: PLC0415
    from orchestrator.workspace.layers import load_settings  # noqa: PLC0415

    root = nearest_workspace(Path.cwd())
    limits = load_settings(root).limits
    wanted = {
        name: (checked(name, "0" if value == "none" else value), value == "none")
        for name, value in assignments(changes).items()
    }
    with opened_state(root) as connection, closing(Ledger.of(root, connection)) as ledger:
        for name, (value, is_gone) in wanted.items():
            ledger.set_cap(name, None if is_gone else f"{value:f}")
        rows = cap_rows(ledger, limits, *identity())
    if ledger.without_shared:
        click.echo(f"not counted over all workspaces: {ledger.without_shared}", err=True)
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
        return
    print_table(
        ("cap", "used", "of", "from"), [[row.name, row.used or "each", row.limit, row.origin] for row in rows]
    )
