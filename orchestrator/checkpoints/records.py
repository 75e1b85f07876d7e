"""Reads checkpoint records, with all the records that they build on."""

from __future__ import annotations

from orchestrator.checkpoints.caches import Caches
from orchestrator.checkpoints.elements import damaged
from orchestrator.checkpoints.heads import Head, Place, grow, grow_writes
from orchestrator.checkpoints.ids import id_of
from orchestrator.checkpoints.rows import WRITES, Rows, Step


class Records:
    """The records of one view."""

    def __init__(self, rows: Rows, caches: Caches) -> None:
        self._rows = rows
        self._heads = caches.heads

    def head(self, step: Step) -> Head:
        """A checkpoint's record; raises StorageError when it cannot be read."""
        known = self._heads.get(step.seq)
        if known is None:
            known = grow(step.content, step.seq, step.space, self._at)
            self._heads.put(step.seq, known)
        return known

    def _at(self, seq: int) -> Head:
        return self._heads.get(seq) or self.head(self.step(seq))

    def step(self, seq: int) -> Step:
        """The checkpoint at a step."""
        step = self._rows.step(seq)
        if step is None or step.kind == WRITES:
            raise damaged(f"checkpoint {seq} is missing")
        return step

    def places(self, step: Step) -> list[Place]:
        """Where all values of a step are, of checkpoints and of pending writes."""
        if step.kind == WRITES:
            return [item[2] for item in grow_writes(step.content, step.seq).items] if step.data else []
        return list(self.head(step).fields()[2].values())

    def parent_id(self, step: Step) -> str | None:
        """The id of the checkpoint before."""
        if not isinstance(step.parent, int):
            return step.parent
        found = self._rows.step(step.parent)
        if found is None:
            raise damaged(f"checkpoint {step.parent} is missing")
        return id_of(found.tag, found.rest)
