"""`orc diff`: where two runs, branches or steps went different ways."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.opened import opened_runs
from orchestrator.safety.visible import escaped

if TYPE_CHECKING:
    from orchestrator.history.comparing import Comparison

_COLORS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    epilog="\b\nExamples:\n  orc diff r-7f3a/main r-7f3a/try-1\n  orc diff r-7f3a@12 r-7f3a\n"
    "  orc diff r-7f3a r-81c0 --json\n"
)
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Compare two points: what was said, decided, called, changed in files, and spent.

    A point is RUN[/BRANCH][@STEP]. `-` is what only A has, `+` what only B has. Exits 0 either way.
    """
    from orchestrator.history.comparing import compare  # noqa: PLC0415
    from orchestrator.history.points import find_point  # noqa: PLC0415

    with opened_runs(a) as (root, runs):
        found = compare(runs, find_point(runs, a), find_point(runs, b))
        files = _files(root, found)
    if as_json:
        click.echo(json.dumps(_as_json(found, files), ensure_ascii=False))
    else:
        _show(found, files)


def _files(root: Path, found: Comparison) -> list[str]:
    from orchestrator.history.travel import file_difference  # noqa: PLC0415

    return file_difference(root, found.a.snapshot, found.b.snapshot)


def _as_json(found: Comparison, files: list[str]) -> dict[str, object]:
    totals = {
        side: {**asdict(story.totals), "usd": str(story.totals.usd)}
        for side, story in (("a", found.a), ("b", found.b))
    }
    return {"a": found.a.point, "b": found.b.point, **found.lines, "files": files, "totals": totals}


def _show(found: Comparison, files: list[str]) -> None:
    click.echo(
        f"{click.style('-', fg='red')} {found.a.point}\n{click.style('+', fg='green')} {found.b.point}"
    )
    for name, lines in {**found.lines, "files": files}.items():
        click.secho(f"\n{name}", bold=True)
        for line in lines or ["  the same"]:
            click.secho(escaped(line, keep="\t"), fg=_COLORS.get(line[:1]))
    click.secho("\nspent", bold=True)
    for sign, story in (("-", found.a), ("+", found.b)):
        spent = story.totals
        usd = "unpriced" if spent.unpriced_calls else f"${spent.usd:.4f}"
        click.echo(
            f"{click.style(sign, fg=_COLORS[sign])} {spent.model_calls} model calls, "
            f"{spent.tool_calls} tool calls, "
            f"tokens {spent.input_tokens:,} in, {spent.output_tokens:,} out, {usd}"
        )
