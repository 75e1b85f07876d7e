"""The shape of a thread: its checkpoints and their parents, without reading any of them."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.checkpoints import lineage
from orchestrator.checkpoints.rows import Rows, id_of


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
            found = list(lineage.listed(rows, windows))
            ids = {one.order: id_of(*one.place) for one in found}
            for one in found:
                parent = ids.get(one.parent) if isinstance(one.parent, int) else one.parent
                points.append(Point(ids[one.order], parent, name, one.order))
    return sorted(points, key=lambda point: -point.position)
