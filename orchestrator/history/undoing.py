"""Undo and redo: conversation and files together, or one of them, to any step.

An undone conversation is a branch that starts at the point; the old one stays, so nothing is ever lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import StorageError, UsageError
from orchestrator.history import forking, travel
from orchestrator.history.points import Point, start_of_turn
from orchestrator.runs import Run, Runs
from orchestrator.snapshots import Action, Applied, Conflict, Plan, redo_edges

What = Literal["both", "files", "chat"]


@dataclass(frozen=True)
class Undone:
    """What an undo or a redo did, or would do."""

    point: str
    what: What
    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """Calls whose effects nothing here can take back."""
    branch: str = ""
    """The branch that the run goes on with now."""


def target(runs: Runs, run: Run) -> Point:
    """Where an undo goes by default: before the last turn."""
    branch = runs.branches.get(run.branch)
    if not branch.turns:
        raise UsageError(f"{run.name} has no turn left to undo")
    return Point(run, branch, start_of_turn(runs, branch, branch.turns))


def plan_undo(root: Path, runs: Runs, point: Point, what: What) -> Undone:
    """What an undo would do; changes nothing."""
    way = _way(runs, point)
    plan = Plan("")
    if what != "chat":
        with _files_apart(what):
            todo = travel.task(root, runs, way)
            plan = travel.preview(root, todo.edges, todo.left) if todo.edges else plan
    notes = plan.notes if what == "chat" else (*plan.notes, *way.notes)
    return Undone(point.name, what, plan.actions, plan.conflicts, notes, tuple(way.outside))


def undo(root: Path, runs: Runs, point: Point, what: What, *, force: bool = False) -> Undone:
    """Go back to a point; the caller holds the run's lock. Raises StorageError and UsageError."""
    way = _way(runs, point)
    run = runs.get(point.run.id)
    if what == "chat" and _is_end(runs, point):
        raise UsageError(f"{point.name} is where the conversation is already")
    branch = runs.branches.get(run.branch)
    forks = what != "files" and not _is_end(runs, point)
    if forks:
        branch = forking.begin(root, runs, point, stem="undo")
    else:
        forking.ready(root, runs, branch)
    applied, todo = Applied(""), travel.Task([], {})
    if what != "chat":
        with _files_apart(what):
            todo = travel.task(root, runs, way)
            if todo.edges:
                applied = travel.move(root, todo.edges, force=force, left=todo.left)
    if force and applied.done:
        todo = travel.Task([travel.way_back(root, applied)], {})
    if forks:
        forking.show(root, runs, branch, point)
    record = {
        "point": point.name,
        "from": run.branch,
        "to": branch.id,
        "turns": branch.turns,
        "edges": todo.edges,
        "left": dict.fromkeys(todo.left, ""),
    }
    with _at_once(runs):
        runs.connection.execute(
            "insert into undos (run, at, what, redone, record) values (?, ?, ?, 0, ?)",
            (run.id, time.time(), what, json.dumps(record)),
        )
        runs.switch(run.id, branch.id)
    outside = () if what == "chat" else tuple(way.outside)
    notes = applied.notes if what == "chat" else (*applied.notes, *way.notes)
    undone = Undone(point.name, what, applied.done, applied.conflicts, notes, outside, branch.name)
    forking.record(root, runs, branch, "undo", came_from=run.branch_name, **_told(undone))
    return undone


def redo(root: Path, runs: Runs, run: Run, *, force: bool = False, dry_run: bool = False) -> Undone:
    """Bring back what the last undo took; the caller holds the run's lock."""
    identifier, what, record = _last(runs, run)
    edges = redo_edges([(before, after) for before, after in record["edges"]])
    left = record.get("left", {})
    branch = runs.branches.get(record["from"])
    forking.ready(root, runs, branch)
    if dry_run:
        plan = travel.preview(root, edges, left) if edges else Plan("")
        return Undone(record["point"], what, plan.actions, plan.conflicts, plan.notes)
    applied = travel.move(root, edges, force=force, left=left) if edges else Applied("")
    with _at_once(runs):
        if record["from"] != record["to"]:
            runs.switch(run.id, record["from"])
            runs.branches.update(record["to"], removed=1)
        runs.connection.execute("update undos set redone=1 where id=?", (identifier,))
    redone = Undone(record["point"], what, applied.done, applied.conflicts, applied.notes, (), branch.name)
    forking.record(root, runs, branch, "redo", came_from=run.branch_name, **_told(redone))
    return redone


@contextmanager
def _at_once(runs: Runs) -> Iterator[None]:
    """Make all changes of a block or none, whenever the process ends."""
    runs.connection.execute("begin immediate")
    try:
        yield
        runs.connection.execute("commit")
    except BaseException:
        runs.connection.execute("rollback")
        raise


@contextmanager
def _files_apart(what: What) -> Iterator[None]:
    """Say what still works where the snapshots of the files do not."""
    try:
        yield
    except StorageError as error:
        if what == "files":
            raise
        raise StorageError(f"{error}; `orc undo --chat` takes the conversation back alone") from None


def _told(undone: Undone) -> dict[str, Any]:
    """What the journal keeps of it."""
    return {
        "point": undone.point,
        "what": undone.what,
        "files": [f"{action.verb} {action.path}" for action in undone.actions],
        "left": [conflict.path for conflict in undone.conflicts],
        "outside": list(undone.outside),
    }


def _last(runs: Runs, run: Run) -> tuple[int, What, dict[str, Any]]:
    """The undo that a redo takes back; raises UsageError when there is none, or work was done since."""
    row = runs.connection.execute(
        "select id, what, record from undos where run=? and not redone order by id desc limit 1", (run.id,)
    ).fetchone()
    if row is None:
        raise UsageError(f"{run.id} has nothing to redo")
    record = json.loads(row[2])
    if (run.branch, run.turns) != (record["to"], record["turns"]):
        old = runs.branches.get(record["from"]).name
        raise UsageError(
            f"{run.id} has gone on since the undo; `orc switch {run.id}/{old} --files` goes back to before it"
        )
    return row[0], row[1], record


def _way(runs: Runs, point: Point) -> travel.Way:
    """What lies between where the run is and a point of the same run."""
    run = runs.get(point.run.id)
    return travel.way(runs, Point(run, runs.branches.get(run.branch), None), point)


def _is_end(runs: Runs, point: Point) -> bool:
    """Whether a point is where the run stands."""
    return point.step is None and point.branch.id == runs.get(point.run.id).branch
