"""Bring the files of the workspace to where a point of a run left them.

Only what calls of the run changed is touched, path by path, and only where it still is as they left it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.events import Event
from orchestrator.history.comparing import events_of
from orchestrator.history.points import Point
from orchestrator.runs import Runs
from orchestrator.safety.visible import escaped
from orchestrator.snapshots import Action, Applied, Change, Conflict, Edge, Plan, Snapshots, redo_edges


@dataclass(frozen=True)
class Way:
    """From one point to another: which calls are taken back, and which are done again."""

    back: tuple[Event, ...]
    forward: tuple[Event, ...]

    @property
    def edges(self) -> list[Edge]:
        """The snapshots around the calls, as a plan takes them."""
        return [*redo_edges(_edges(self.forward)), *_edges(self.back)]

    @property
    def outside(self) -> list[str]:
        """Calls whose effects may lie outside the workspace, which nothing here can take back."""
        return [
            f"{event.fields['tool']} {_target(event)}" for event in self.back if event.fields.get("outside")
        ]


@dataclass(frozen=True)
class Moved:
    """What a move did, or would do."""

    actions: tuple[Action, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    outside: tuple[str, ...]


def way(runs: Runs, start: Point, end: Point) -> Way:
    """The calls between two points of one run."""
    there = {event.seq for event in events_of(runs, end)}
    here = events_of(runs, start)
    seen = {event.seq for event in here}
    back = tuple(event for event in here if event.seq not in there and event.kind == "tool_result")
    forward = tuple(
        event for event in events_of(runs, end) if event.seq not in seen and event.kind == "tool_result"
    )
    return Way(back, forward)


def move(root: Path, edges: Sequence[Edge], *, force: bool = False) -> Applied:
    """Take the changes between snapshots back. Raises StorageError."""
    snapshots = Snapshots(root)
    return snapshots.apply(snapshots.plan(edges), force=force)


def way_back(root: Path, moved: Applied) -> Edge:
    """From where a move ended to all that it found, what it overwrote by force included."""
    after = Snapshots(root).take([root / action.path for action in moved.done])
    return after.id, moved.before


def preview(root: Path, edges: Sequence[Edge]) -> Plan:
    """What `move` would do; changes nothing. Raises StorageError."""
    return Snapshots(root).plan(edges)


def to(root: Path, runs: Runs, end: Point) -> Moved:
    """Bring the files from where the run's current branch left them to a point."""
    run = runs.get(end.run.id)
    taken = way(runs, Point(run, runs.branches.get(run.branch), None), end)
    done = move(root, taken.edges) if taken.edges else Applied("")
    return Moved(done.done, done.conflicts, done.notes, tuple(taken.outside))


def tell(moved: Moved) -> list[str]:
    """What a move did, a line for each thing, with nothing in it that a terminal obeys."""
    lines = [
        *(f"  {action.verb} {action.path}" for action in moved.actions),
        *(f"  left as it is: {each.path}: {each.reason}" for each in moved.conflicts),
        *(f"  note: {note}" for note in moved.notes),
        *(f"  cannot be undone, it may have reached outside: {call}" for call in moved.outside),
    ]
    return [escaped(line, keep="") for line in lines]


def file_difference(root: Path, before: str, after: str) -> list[str]:
    """How the files of two snapshots differ, as lines of unified diffs."""
    if before == after or not (before and after):
        return []
    snapshots = Snapshots(root)
    lines: list[str] = []
    for change in snapshots.changes(before, after):
        one, other = snapshots.text(before, change.path), snapshots.text(after, change.path)
        if change.what != "file" or change.is_binary or change.kind in {"mode", "type"}:
            lines.append(f"  {change.kind} {change.path} ({_how(change)})")
            continue
        old, new = ((each or b"").decode("utf-8", "replace").splitlines() for each in (one, other))
        lines += difflib.unified_diff(old, new, change.path, change.path, lineterm="", n=2)
    return lines


def _how(change: Change) -> str:
    if change.kind == "mode":
        return " → ".join(f"{mode:04o}" for mode in change.modes)
    return f"{change.before:,} → {change.after:,} bytes"


def _edges(events: Sequence[Event]) -> list[Edge]:
    pairs = ((event.fields.get("before"), event.fields.get("after")) for event in events)
    return [(before, after) for before, after in pairs if before and after and before != after]


def _target(event: Event) -> str:
    arguments = event.fields.get("arguments", {})
    return str(next(iter(arguments.values()), ""))[:100]
