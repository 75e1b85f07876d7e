"""The shape of a thread: its checkpoints and their parents, without reading any of them."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

from orchestrator.checkpoints import lineage
from orchestrator.checkpoints.ids import id_of
from orchestrator.checkpoints.rows import Rows


class Point(NamedTuple):
    """A checkpoint of a thread."""

    checkpoint_id: str
    parent_id: str | None
    ns: str
    position: int
    """The thread's position right after it was put."""


def outline(rows: Rows, thread_id: str, ns: str | None) -> list[Point]:
    """All checkpoints of a thread, the one inserted last first; of all namespaces without `ns`."""
    spaces = lineage.namespaces(rows, lineage.lineage(rows, thread_id))
    points = []
    for name, windows in spaces.items():
        if ns is None or name == ns:
            found = list(lineage.entries(rows, windows))
            ids = {order: id_of(tag, rest) for order, _, tag, rest, _ in found}
            points += [
                Point(ids[order], ids.get(parent) if type(parent) is int else parent, name, order)  # type: ignore[arg-type]
                for order, _, _, _, parent in found
            ]
    return sorted(points, key=itemgetter(3), reverse=True)
