"""Fork a run at any moment, and go from branch to branch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.branches import Branch
from orchestrator.errors import UsageError
from orchestrator.events import Journal, Place
from orchestrator.history.points import Point
from orchestrator.runs import Run, Runs


def begin(root: Path, runs: Runs, point: Point, *, name: str = "", stem: str = "try") -> Branch:
    """Add a branch that starts at a point; nothing is run, and nobody sees it until `go_to` or `show`.

    So what cannot be done is known before files move. The caller holds the run's lock. Costs the same at
    any length. Raises UsageError for a bad name.
    """
    from orchestrator.checkpoints import saver_of  # noqa: PLC0415 - langgraph takes seconds

    point = _before_approval(runs, point)
    name = name or runs.branches.free_name(point.run.id, stem)
    runs.branches.check_name(point.run.id, name)
    with saver_of(root) as saver:
        branch = runs.branches.fork(point.branch, point.step, name, _last_event(runs, point.branch))
        position = point.step.position if point.step else saver.position(branch.parent)
        saver.fork(branch.parent, branch.id, position)
    runs.branches.update(branch.id, position=position)
    ready(root, runs, branch)
    return branch


def go_to(root: Path, runs: Runs, branch: Branch, point: Point) -> Run:
    """Show a branch that was begun at a point, and make it the current one."""
    show(root, runs, branch, point)
    runs.switch(branch.run, branch.id)
    return runs.get(branch.run)


def show(root: Path, runs: Runs, branch: Branch, point: Point) -> None:
    """Take a branch that was begun at a point into the tree."""
    runs.branches.update(branch.id, removed=0)
    record(root, runs, branch, "fork", point=_before_approval(runs, point).name, name=branch.name)


def record(
    root: Path, runs: Runs, branch: Branch, kind: Literal["fork", "undo", "redo"], **fields: Any
) -> None:
    """Journal what a person did to a run, on the branch that it goes on with."""
    journal = _journal(root, runs, branch)
    journal.write(kind, **fields)
    journal.close()


def ready(root: Path, runs: Runs, branch: Branch) -> None:
    """Raise what `record` would, where it can be known: files are not moved by what cannot be journalled."""
    _journal(root, runs, branch).close()
    runs.connection.execute("begin immediate")
    runs.connection.execute("rollback")


def _journal(root: Path, runs: Runs, branch: Branch) -> Journal:
    return Journal(runs.connection, root, Place(branch.run, branch.turns, runs.branches.lineage(branch)))


def _before_approval(runs: Runs, point: Point) -> Point:
    """The point, or the approval right before it: what a person allowed, they allowed once."""
    if point.step is None or point.step.node != "tools":
        return point
    before = [step for step in runs.branches.steps(point.branch) if step.number < point.step.number]
    is_approved = bool(before) and before[-1].node == "approval"
    return replace(point, step=before[-1]) if is_approved else point


def switch(runs: Runs, run: Run) -> None:
    """Make a branch the one that its run goes on with when none is named."""
    if run.is_current:
        raise UsageError(f"{run.id} is on {run.branch_name} already")
    runs.switch(run.id, run.branch)


def remove(runs: Runs, run: Run) -> None:
    """Take a branch out of the tree; raises UsageError for the current one and for one with branches on it.

    Its events stay in the journal, which is never thinned out one by one.
    """
    if run.is_current:
        raise UsageError(
            f"{run.id} is on {run.branch_name}; `orc switch {run.id}/OTHER` first, then remove it"
        )
    standing = [branch.name for branch in runs.branches.of(run.id) if branch.parent == run.branch]
    if standing:
        raise UsageError(f"{run.branch_name} is what {', '.join(standing)} began on; remove that first")
    runs.branches.update(run.branch, removed=1)


def rename(runs: Runs, run: Run, name: str) -> None:
    """Give a branch another name; raises UsageError for one that is taken."""
    runs.branches.check_name(run.id, name)
    runs.branches.update(run.branch, name=name)


def _last_event(runs: Runs, branch: Branch) -> int:
    """The last event of the run, whichever branch it is on."""
    row = runs.connection.execute("select max(seq) from events where run=?", (branch.run,)).fetchone()
    return int(row[0] or 0)
