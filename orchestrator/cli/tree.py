"""The branches of a run, drawn as a tree."""

from __future__ import annotations

from collections.abc import Iterator

import click

from orchestrator.branches import Branch
from orchestrator.runs import Runs

_COLORS = {"done": "green", "running": "cyan", "waiting": "yellow", "failed": "red", "refused": "red"}


def tree_lines(runs: Runs, run: str) -> Iterator[str]:
    """A line for each branch, children below their parents."""
    branches = runs.branches.of(run)
    current = runs.get(run)
    children: dict[str, list[Branch]] = {}
    ids = {"", *(branch.id for branch in branches)}
    for branch in branches:
        parents = (seen.branch for seen in runs.branches.lineage(branch)[1:])
        # What it was forked from may have been taken out of the tree by a redo.
        children.setdefault(next((name for name in parents if name in ids), ""), []).append(branch)

    def lines(parent: str, indent: str) -> Iterator[str]:
        own = children.get(parent, [])
        for index, branch in enumerate(own):
            is_last = index == len(own) - 1
            fork = "" if not parent else "└─ " if is_last else "├─ "
            mark = click.style(" ← current", bold=True) if branch.id == current.branch else ""
            at = f" from @{branch.forked_at}" if parent else ""
            status = (
                "cut off" if branch.status == "running" and current.status == "cut off" else branch.status
            )
            shown = click.style(status, fg=_COLORS.get(status))
            turns = f"{branch.turns} turn{'' if branch.turns == 1 else 's'}"
            yield f"{indent}{fork}{branch.name}{at} · {turns} · {shown}{mark}"
            below = indent if not parent else indent + ("   " if is_last else "│  ")
            yield from lines(branch.id, below)

    yield from lines("", "")
