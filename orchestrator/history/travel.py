"""Bring the files of the workspace to where a point of a run left them.

Only what calls of the run changed is touched, path by path, and only where it still is as they left it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.events import Event
from orchestrator.history.comparing import events_of
from orchestrator.history.others import apart, changed_later
from orchestrator.history.points import Point
from orchestrator.runs import Runs
from orchestrator.safety.visible import escaped
from orchestrator.snapshots import Action, Applied, Change, Conflict, Edge, Plan, Snapshots, redo_edges


@dataclass(frozen=True)
class Way:
    """From one point to another: which calls are taken back, and which are done again."""

    back: tuple[Event, ...]
    forward: tuple[Event, ...]
    since: int
    """A position in the journal before the first of them."""
    cut_off: tuple[Event, ...] = ()
    """Calls that a killed process had begun, and that no other process has looked after yet."""

    @property
    def outside(self) -> list[str]:
        """Calls whose effects may lie outside the workspace, which nothing here can take back."""
        return [
            f"{event.fields['tool']} {_target(event)}"
            for event in (*self.back, *self.cut_off)
            if event.fields.get("outside")
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """What an undo of the files leaves that a call did in the workspace all the same."""
        moved = [event for event in self.back if event.fields.get("history")]
        return tuple(
            f".git stays as it is, with what {event.fields['tool']} did there: {_target(event)}"
            for event in moved
        )


@dataclass(frozen=True)
class Task:
    """The files that are to be brought back."""

    edges: list[Edge]
    """The snapshots around the calls, as a plan takes them; of what was cut off, up to now."""
    left: Mapping[str, str]
    """Paths to leave, since they may be another's work, and why; empty for what is surely another's."""


@dataclass(frozen=True)
class Moved:
    """What a move did, or would do."""

    actions: tuple[Action, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[str, ...]
    outside: tuple[str, ...]


def way(runs: Runs, start: Point, end: Point) -> Way:
    """The calls between two points of one run."""
    here, there = events_of(runs, start), events_of(runs, end)
    only_here, only_there = _without(here, there), _without(there, here)
    since = min((event.seq for event in (*only_here, *only_there)), default=0) - 1
    ended = {event.call for event in here if event.kind == "tool_result"}
    begun = (
        event
        for event in only_here
        if event.kind == "tool_intent" and event.call not in ended and event.branch == start.branch.id
    )
    return Way(_results(only_here), _results(only_there), since, tuple(begun))


def task(root: Path, runs: Runs, taken: Way) -> Task:
    """What is to be done for it; empty where no call changed a file."""
    edges = [*redo_edges(_edges(taken.forward)), *_edges(taken.back)]
    ended = (*taken.back, *taken.forward)
    left = apart(root, runs, ended, taken.since)
    begun = [event for event in taken.cut_off if event.fields.get("before")]
    now = Snapshots(root).take().id if begun else ""
    edges += [(str(event.fields["before"]), now) for event in begun]
    left |= changed_later(root, runs, begun, now, ended)
    return Task([edge for edge in edges if edge[0] != edge[1]], left)


def move(
    root: Path, edges: Sequence[Edge], *, force: bool = False, left: Mapping[str, str] | None = None
) -> Applied:
    """Take the changes between snapshots back, but for the paths to leave. Raises StorageError."""
    snapshots = Snapshots(root)
    return snapshots.apply(snapshots.plan(edges, left), force=force)


def way_back(root: Path, moved: Applied) -> Edge:
    """From where a move ended to all that it found, what it overwrote by force included."""
    after = Snapshots(root).take([root / action.path for action in moved.done])
    return after.id, moved.before


def preview(root: Path, edges: Sequence[Edge], left: Mapping[str, str] | None = None) -> Plan:
    """What `move` would do; changes nothing. Raises StorageError."""
    return Snapshots(root).plan(edges, left)


def to(root: Path, runs: Runs, end: Point) -> Moved:
    """Bring the files from where the run's current branch left them to a point."""
    run = runs.get(end.run.id)
    taken = way(runs, Point(run, runs.branches.get(run.branch), None), end)
    todo = task(root, runs, taken)
    done = move(root, todo.edges, left=todo.left) if todo.edges else Applied("")
    return Moved(done.done, done.conflicts, (*done.notes, *taken.notes), tuple(taken.outside))


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


def _without(events: Sequence[Event], others: Sequence[Event]) -> list[Event]:
    known = {event.seq for event in others}
    return [event for event in events if event.seq not in known]


def _results(events: Sequence[Event]) -> tuple[Event, ...]:
    return tuple(event for event in events if event.kind == "tool_result")


def _edges(events: Sequence[Event]) -> list[Edge]:
    pairs = ((event.fields.get("before"), event.fields.get("after")) for event in events)
    return [(before, after) for before, after in pairs if before and after and before != after]


def _target(event: Event) -> str:
    arguments = event.fields.get("arguments", {})
    return str(next(iter(arguments.values()), ""))[:100]
