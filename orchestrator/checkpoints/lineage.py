"""Which steps a thread sees: its own, and those of its ancestors up to where it branched off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.checkpoints.elements import damaged
from orchestrator.checkpoints.ids import Place
from orchestrator.checkpoints.rows import AGAIN, END, PUT, Rows, Step, Thread


class Level(NamedTuple):
    """A thread of the lineage."""

    thread: Thread
    upto: int
    """The last of its steps that are seen."""


class Window(NamedTuple):
    """One namespace in one thread of the lineage."""

    space: int
    upto: int


def lineage(rows: Rows, thread_id: str) -> list[Level]:
    """The thread itself, then its ancestors; empty for an unknown thread."""
    thread = rows.thread(thread_id)
    levels: list[Level] = []
    upto = END
    while thread is not None:
        levels.append(Level(thread, upto))
        if thread.parent is None:
            break
        upto = min(upto, END if thread.upto is None else thread.upto)
        if thread.parent >= thread.n:
            raise damaged(f"thread {thread_id!r} is its own ancestor")
        thread = rows.thread_number(thread.parent)
    return levels


def windows(rows: Rows, levels: list[Level], ns: str) -> list[Window]:
    """Where a namespace's steps are, youngest thread first."""
    found = ((rows.space(level.thread.n, ns), level.upto) for level in levels)
    return [Window(space, upto) for space, upto in found if space is not None]


def namespaces(rows: Rows, levels: list[Level]) -> dict[str, list[Window]]:
    """All namespaces of a lineage."""
    found: dict[str, list[Window]] = {}
    for level in levels:
        for ns, space in rows.spaces(level.thread.n):
            found.setdefault(ns, []).append(Window(space, level.upto))
    return found


def position(rows: Rows, thread_id: str) -> int:
    """The last step that a thread sees; 0 for an empty or unknown one."""
    levels = lineage(rows, thread_id)
    return next((last for level in levels if (last := rows.last(level.thread.n, level.upto))), 0)


def head(rows: Rows, places: list[Window]) -> Step | None:
    """The checkpoint put last, with what was put again under its id."""
    for window in places:
        found = rows.head(window.space, window.upto)
        if found is not None:
            newest = checkpoint(steps_on(rows, places, Place(found.tag, found.rest)))
            return newest or found
    return None


def steps_on(rows: Rows, places: list[Window], place: Place) -> list[Step]:
    """All visible steps on a checkpoint id, in their order."""
    found = [step for window in places for step in rows.at(window.space, place, window.upto)]
    return sorted(found)


def checkpoint(steps: list[Step]) -> Step | None:
    """The checkpoint among the steps on its id; the one put last under that id counts."""
    return next((step for step in reversed(steps) if step.kind in {PUT, AGAIN}), None)


class Listed(NamedTuple):
    """A checkpoint in a listing."""

    order: int
    """The step at which its id was first put."""
    seq: int
    """The step that holds it."""
    place: Place
    parent: int | str | None


def listed(rows: Rows, places: list[Window]) -> Iterator[Listed]:
    """The checkpoints of one namespace, the one inserted last first."""
    for order, seq, tag, rest, parent in entries(rows, places):
        yield Listed(order, seq, Place(tag, rest), parent)


def entries(
    rows: Rows, places: list[Window]
) -> Iterator[tuple[int, int, int, bytes | str, int | str | None]]:
    """The same as plain tuples, with the two parts of the place, because a tree has thousands."""
    again: dict[tuple[int, bytes | str], tuple[int, int | str | None]] = {}
    for window in places:
        for seq, kind, tag, rest, parent in rows.outline(window.space, window.upto):
            if kind == AGAIN:
                again.setdefault((tag, rest), (seq, parent))
            elif kind == PUT:
                newest, newest_parent = again.get((tag, rest), (seq, parent)) if again else (seq, parent)
                yield seq, newest, tag, rest, newest_parent
