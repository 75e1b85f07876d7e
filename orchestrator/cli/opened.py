"""Open the workspace's state for a command that looks at runs or changes how they stand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from orchestrator.errors import UsageError
from orchestrator.runs import Runs
from orchestrator.storage import opened_state, state_path
from orchestrator.workspace.folders import nearest_workspace


@contextmanager
def opened_runs(wanted: str | None = None, workspace: Path | None = None) -> Iterator[tuple[Path, Runs]]:
    """The workspace and its runs; raises UsageError when there are none."""
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False
    root = nearest_workspace(workspace or Path.cwd())
    if not state_path(root).exists():
        named = "" if wanted is None else f" {wanted!r}"
        raise UsageError(f'no run{named}: this workspace has no runs yet; start one with orc run "…"')
    with opened_state(root) as connection:
        yield root, Runs(connection, root)
