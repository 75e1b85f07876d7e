"""Which changes around the calls of a run may be those of another run that worked at the same time.

The snapshots around a call hold whatever changed meanwhile. What both calls saw change belongs to the one
that names it; where that does not tell, nobody knows, and an undo leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator.errors import StorageError
from orchestrator.events import Event, selected
from orchestrator.runs import Runs
from orchestrator.snapshots import Snapshots

_FOREVER = 1 << 62


@dataclass(frozen=True)
class Span:
    """A call, with the positions in the journal between which its snapshots were taken."""

    event: Event
    start: int
    end: int

    @property
    def edge(self) -> tuple[str, str]:
        """The snapshots around it; empty where there is none."""
        return str(self.event.fields.get("before") or ""), str(self.event.fields.get("after") or "")

    def names(self, path: str) -> bool:
        """Whether a path, or the last part of it, stands in the call's arguments."""
        text = " ".join(map(str, self.event.fields.get("arguments", {}).values()))
        wanted = "|".join(re.escape(name) for name in (path, path.rpartition("/")[2]))
        return re.search(rf"(?<![\w.-])(?:{wanted})(?![\w-])", text) is not None

    def overlaps(self, other: Span) -> bool:
        """Whether both were at work at some moment."""
        return self.start < other.end and other.start < self.end


def apart(root: Path, runs: Runs, calls: Sequence[Event], since: int) -> dict[str, str]:
    """The paths that are not to be moved with these calls of one run, and why; empty for what is not theirs.

    `since` is a position in the journal before the first of them.
    """
    wanted = {event.seq for event in calls if event.fields.get("before")}
    if not wanted:
        return {}
    run = calls[0].run
    ours, theirs = list[Span](), list[Span]()
    for span in _spans(runs, run, since):
        if span.event.seq in wanted and all(span.edge):
            ours.append(span)
        elif span.event.run != run and span.edge[0]:
            theirs.append(span)
    beside = {span.event.seq: [other for other in theirs if span.overlaps(other)] for span in ours}
    if not any(beside.values()):
        return {}
    found: dict[str, list[_Owner | None]] = {}
    changed = _Changed(root)
    for span in ours:
        for path in changed.by(span) or ():
            found.setdefault(path, []).append(_owner(span, path, beside[span.event.seq], changed))
    return {path: _reason(owners) for path, owners in found.items() if any(owners)}


def changed_later(
    root: Path, runs: Runs, begun: Sequence[Event], now: str, ended: Sequence[Event]
) -> dict[str, str]:
    """The paths that changed again after a process had died during a call that changed them.

    `begun` are calls that no other process has looked after yet; for those among `ended`, the process that
    went on has noted the paths.
    """
    paths = [path for event in ended for path in event.fields.get("later") or ()]
    for event in begun:
        before, died = str(event.fields["before"]), runs.worked_until(event.run)
        paths += Snapshots(root).changed_after(before, now, died)
    return dict.fromkeys(paths, "it changed after the run was cut off")


class _Changed:
    """The paths that changed around calls; each pair of snapshots is compared once."""

    def __init__(self, root: Path) -> None:
        self._snapshots = Snapshots(root)
        self._known: dict[tuple[str, str], Collection[str]] = {}

    def by(self, span: Span) -> Collection[str] | None:
        """None where only the files before are known, or the snapshots are lost: then it may be any."""
        if not all(span.edge):
            return None
        if span.edge not in self._known:
            try:
                self._known[span.edge] = {change.path for change in self._snapshots.changes(*span.edge)}
            except StorageError:
                return None
        return self._known[span.edge]


class _Owner(NamedTuple):
    """The run that may have changed a path."""

    run: str
    is_sure: bool = False


def _owner(span: Span, path: str, beside: Sequence[Span], changed: _Changed) -> _Owner | None:
    """Who else may have changed a path; None for our own."""
    for other in beside:
        paths = changed.by(other)
        if paths is not None and path not in paths:
            continue
        if not span.names(path):
            return _Owner(other.event.run, is_sure=other.names(path))
        if other.names(path):
            return _Owner(other.event.run)
    return None


def _reason(owners: Sequence[_Owner | None]) -> str:
    if all(owner and owner.is_sure for owner in owners):
        return ""
    other = next(owner for owner in owners if owner)
    return f"{other.run} worked at the same time, and it may be its change"


def _spans(runs: Runs, run: str, since: int) -> Iterator[Span]:
    """The calls of all runs that had not ended at a position; of one that began before it, from the start."""
    last: dict[str, int] = {}
    begun: dict[tuple[str, str, str], Span] = {}
    for event in _events(runs, run, since):
        key = (event.run, event.branch, event.call)
        if event.kind == "tool_intent":
            begun[key] = Span(event, last.get(event.run, 0), event.seq)
        elif event.kind == "tool_result":
            span = begun.pop(key, None)
            yield Span(event, span.start if span else 0, event.seq)
        last[event.run] = event.seq
    for span in begun.values():
        yield Span(span.event, span.start, _FOREVER if runs.is_locked(span.event.run) else span.end)


def _events(runs: Runs, run: str, since: int) -> Iterator[Event]:
    """What was written since, and all of the runs that are worked on now."""
    working = {each.id for each in runs.list(1_000) if each.id != run and runs.is_locked(each.id)}
    for name in sorted(working):
        yield from selected(runs.connection, name)
    yield from (event for event in selected(runs.connection, after=since) if event.run not in working)
