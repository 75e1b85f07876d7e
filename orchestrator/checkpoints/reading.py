"""Checkpoints as LangGraph wants them: one, a listing, or the outline of a whole tree."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, writes_sort_key

from orchestrator.checkpoints import heads, lineage
from orchestrator.checkpoints.caches import Memory, Tip
from orchestrator.checkpoints.decoding import Decoder
from orchestrator.checkpoints.elements import Serializer, sound
from orchestrator.checkpoints.heads import grow_writes, load
from orchestrator.checkpoints.ids import Place, id_of, place_of
from orchestrator.checkpoints.lineage import Listed, Window
from orchestrator.checkpoints.records import Records
from orchestrator.checkpoints.rows import WRITES, Rows, Step
from orchestrator.checkpoints.store import Storage

_CHUNK = 64
"""Checkpoints of a listing that are read at once."""


class Query(NamedTuple):
    """What a listing is asked for."""

    thread: str | None = None
    ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    filter: Mapping[str, Any] | None = None
    limit: int | None = None


class Moment(NamedTuple):
    """The checkpoint before which a listing ends."""

    checkpoint_id: str
    ns: str
    windows: list[Window]
    order: int


class Found(NamedTuple):
    """A checkpoint of a listing, and where it was found."""

    listed: Listed
    thread: str
    ns: str
    windows: list[Window]
    before: Moment | None = None


class Reader:
    """Reads for a serializer; holds no connection between two calls."""

    def __init__(self, storage: Storage, memory: Memory) -> None:
        self._storage = storage
        self._memory = memory

    def get(
        self, serde: Serializer, thread: str, ns: str, checkpoint_id: str | None
    ) -> CheckpointTuple | None:
        """One checkpoint, or the head without an id."""
        with self._storage.reading() as rows, sound():
            places = lineage.windows(rows, lineage.lineage(rows, thread), ns)
            if checkpoint_id is None:
                step = lineage.head(rows, places)
            else:
                step = lineage.checkpoint(lineage.steps_on(rows, places, place_of(checkpoint_id)))
            if step is None:
                return None
            decoder = Decoder(self._memory.caches, serde)
            return self._tuple(rows, decoder, step, Where(thread, ns, places))[0]

    def listing(self, serde: Serializer, query: Query) -> Iterator[CheckpointTuple]:
        """Checkpoints, the one inserted last first. Nothing is locked between two of them."""
        if query.limit is not None and query.limit <= 0:
            return
        with self._storage.reading() as rows:
            found = iter(self._find(rows, query))
        decoder = Decoder(self._memory.caches, serde)
        left = query.limit
        while chunk := list(islice(found, _CHUNK if left is None or query.filter else min(left, _CHUNK))):
            for checkpoint, _ in self._read(decoder, chunk, query.filter):
                yield checkpoint
                if left is not None:
                    left -= 1
                    if not left:
                        return

    def history(self, serde: Serializer, thread: str) -> Iterator[tuple[CheckpointTuple, list[Write]]]:
        """All checkpoints of a thread, the one inserted first first, with their writes in full."""
        with self._storage.reading() as rows:
            found = reversed(self._find_in(rows, thread, Query(thread)))
        decoder = Decoder(self._memory.caches, serde)
        while chunk := list(islice(found, _CHUNK)):
            yield from self._read(decoder, chunk, None)

    def _read(
        self, decoder: Decoder, chunk: list[Found], wanted: Mapping[str, Any] | None
    ) -> list[tuple[CheckpointTuple, list[Write]]]:
        read = []
        with self._storage.reading() as rows, sound():
            for found in chunk:
                step = rows.step(found.listed.seq)
                # A step may have been pruned since it was listed.
                if step is not None and self._fits(decoder, rows, step, found, wanted):
                    where = Where(found.thread, found.ns, found.windows)
                    read.append(self._tuple(rows, decoder, step, where))
        return read

    def _find(self, rows: Rows, query: Query) -> list[Found]:
        if query.thread is not None:
            return self._find_in(rows, query.thread, query)
        names = [thread.id for thread in rows.threads() if thread.id is not None]
        found = [self._find_in(rows, name, query) for name in names]
        return list(heapq.merge(*found, key=lambda one: -one.listed.order))

    def _find_in(self, rows: Rows, thread: str, query: Query) -> list[Found]:
        spaces = lineage.namespaces(rows, lineage.lineage(rows, thread))
        wanted = {query.ns: spaces.get(query.ns, [])} if query.ns is not None else spaces
        listings = [
            [Found(one, thread, ns, windows) for one in lineage.listed(rows, windows)]
            for ns, windows in wanted.items()
        ]
        found = list(heapq.merge(*listings, key=lambda one: -one.listed.order))
        if query.checkpoint_id is not None:
            place = place_of(query.checkpoint_id)
            found = [one for one in found if one.listed.place == place]
        if query.before is not None:
            found = self._before(rows, found, spaces, query.before)
        return found

    def _before(
        self, rows: Rows, found: list[Found], spaces: dict[str, list[Window]], before: str
    ) -> list[Found]:
        """What was inserted before a checkpoint of any namespace."""
        place = place_of(before)
        for ns, windows in spaces.items():
            order = _order(rows, windows, place)
            if order is not None:
                moment = Moment(before, ns, windows, order)
                return [one._replace(before=moment) for one in found if one.listed.order < order]
        return [one for one in found if id_of(*one.listed.place) < before]

    def _fits(
        self, decoder: Decoder, rows: Rows, step: Step, found: Found, wanted: Mapping[str, Any] | None
    ) -> bool:
        before = found.before if found.before is not None and found.before.ns != found.ns else None
        if not wanted and before is None:
            return True
        metadata = load(decoder.serde, Records(rows, decoder.caches).head(step).fields()[1], step.seq)
        if before is not None and not _is_earlier(rows, metadata, before):
            return False
        return all(_field(metadata, key) == value for key, value in (wanted or {}).items())

    def _tuple(
        self, rows: Rows, decoder: Decoder, step: Step, where: Where
    ) -> tuple[CheckpointTuple, list[Write]]:
        records = Records(rows, decoder.caches)
        head = records.head(step)
        kept, metadata, places = head.fields()
        steps = lineage.steps_on(rows, where.windows, Place(step.tag, step.rest))
        writes = pending([one for one in steps if one.kind == WRITES])
        decoder.fetch(rows, [*places.values(), *(place for _, place in writes)])
        identifier = id_of(step.tag, step.rest)
        parent = records.parent_id(step)
        decoder.caches.tips.put((where.thread, where.ns, identifier), Tip(head, places))
        checkpoint = load(decoder.serde, kept, step.seq)
        checkpoint["id"] = identifier
        checkpoint["channel_values"] = {name: decoder.value(place) for name, place in places.items()}
        values = [write._replace(value=decoder.value(place)) for write, place in writes]
        found = CheckpointTuple(
            config=where.config(identifier),
            checkpoint=checkpoint,  # type: ignore[arg-type]
            metadata=load(decoder.serde, metadata, step.seq),  # type: ignore[arg-type]
            parent_config=where.config(parent) if parent is not None else None,
            pending_writes=[(write.task_id, write.channel, write.value) for write in values],
        )
        return found, values


class Where(NamedTuple):
    """A namespace of a thread as a caller names it, and where its steps are."""

    thread: str
    ns: str
    windows: list[Window]

    def config(self, checkpoint_id: str) -> RunnableConfig:
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.ns,
                "checkpoint_id": checkpoint_id,
            }
        }


class Write(NamedTuple):
    """One pending write."""

    task_id: str
    task_path: str
    at: int
    """Its index among the task's writes; special ones are below zero."""
    channel: str
    value: Any


def pending(steps: list[Step]) -> list[tuple[Write, heads.Place]]:
    """The pending writes that a checkpoint's steps add up to, in the order in which they apply."""
    found: dict[tuple[str, int], tuple[Write, heads.Place]] = {}
    for step in steps:
        task_id, task_path, replaces, items = grow_writes(step.content, step.seq)
        for index, channel, place in items:
            if replaces or (task_id, index) not in found:
                found[task_id, index] = (Write(task_id, task_path, index, channel, None), place)
    return sorted(
        found.values(), key=lambda one: writes_sort_key(one[0].task_path, one[0].task_id, one[0].at)
    )


def _order(rows: Rows, windows: list[Window], place: Place) -> int | None:
    """The step at which a checkpoint was put first; None when it is not seen."""
    steps = lineage.steps_on(rows, windows, place)
    return next((step.seq for step in steps if step.kind != WRITES), None)


def _is_earlier(rows: Rows, metadata: Mapping[str, Any], before: Moment) -> bool:
    """Whether a subgraph's checkpoint was made under a parent from before the moment.

    The two are written side by side, so it may have been inserted long before its own parent.
    """
    parents = metadata.get("parents")
    parent = parents.get(before.ns) if isinstance(parents, Mapping) else None
    if not isinstance(parent, str):
        return True
    order = _order(rows, before.windows, place_of(parent))
    # A parent that never got into the file, or was pruned, has only its id.
    return parent < before.checkpoint_id if order is None else order < before.order


def _field(metadata: Mapping[str, Any], key: str) -> Any:
    """A field of the metadata; dots lead into inner ones."""
    if key in metadata:
        return metadata[key]
    value: Any = metadata
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
