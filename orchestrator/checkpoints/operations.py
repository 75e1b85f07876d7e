"""The two things that LangGraph writes, made ready by the caller and carried out in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from langgraph.checkpoint.base import WRITES_IDX_MAP

from orchestrator.checkpoints.caches import Caches, Space, Tip
from orchestrator.checkpoints.elements import Serializer, sound
from orchestrator.checkpoints.heads import Writes, record, shrink, shrink_writes
from orchestrator.checkpoints.ids import place_of
from orchestrator.checkpoints.ink import Ink
from orchestrator.checkpoints.lineage import lineage, steps_on, windows
from orchestrator.checkpoints.outcome import Outcome
from orchestrator.checkpoints.rows import AGAIN, PUT, WRITES, Rows, Step
from orchestrator.checkpoints.values import Tree


class Operation(Protocol):
    """A change that waits for its transaction."""

    caches: Caches | None
    """With what it was made ready; what it names may be gone when others count."""
    thread: str
    after: tuple[str, str, str]
    """Thread, namespace and checkpoint that it belongs to or follows."""
    alone: bool
    """Whether nothing else may go into its transaction."""
    done: Outcome
    queued: float
    """Since when it waits for somebody else's commit; 0 where somebody waits for it."""

    def prepare(self, caches: Caches) -> None:
        """Encode the values, again if need be."""

    def apply(self, ink: Ink, caches: Caches) -> int:
        """Write; returns the step."""


class PutCheckpoint:
    """A checkpoint, with the whole value of every channel."""

    def __init__(
        self, serde: Serializer, address: tuple[str, str, str | None], parts: tuple[Any, Any]
    ) -> None:
        self.serde = serde
        self.thread, self.ns, self.parent = address
        self.after = self.thread, self.ns, self.parent or ""
        self.checkpoint, self.metadata = parts
        self.caches: Caches | None = None
        self.alone = False
        self.done = Outcome()
        self.queued = 0.0

    def prepare(self, caches: Caches) -> None:
        dumps, encode = self.serde.dumps_typed, caches.values.encode
        kept = {key: part for key, part in self.checkpoint.items() if key not in {"channel_values", "id"}}
        self._fields = (dumps(kept), dumps(self.metadata))
        values = self.checkpoint.get("channel_values") or {}
        self._trees: dict[str, Tree] = {name: encode(self.serde, value) for name, value in values.items()}
        self.caches = caches

    def apply(self, ink: Ink, caches: Caches) -> int:
        rows = ink.rows
        seq = ink.next_seq()
        space, where = _space(ink, caches, self.thread, self.ns, seq)
        place = place_of(self.checkpoint["id"])
        known = any(step.kind == PUT for step in steps_on(rows, where, place))
        tip = caches.tips.get((self.thread, self.ns, self.parent)) if self.parent else None
        parent = self._parent_step(rows, where, tip)
        before = tip.places if tip is not None else {}
        places = {name: ink.place(tree, before.get(name)) for name, tree in self._trees.items()}
        plain = record(*self._fields, places)
        base = tip.head if tip is not None and tip.head.space == space else None
        data, head = shrink(plain, seq, space, base)
        rows.add_step(Step(seq, space, AGAIN if known else PUT, *place, parent, data))
        key = (self.thread, self.ns, self.checkpoint["id"])
        ink.after_commit(lambda: caches.tips.put(key, Tip(head, places)))
        ink.after_commit(lambda: caches.heads.put(seq, head))
        return seq

    def _parent_step(self, rows: Rows, where: list[Any], tip: Tip | None) -> int | str | None:
        if not self.parent:
            return None
        if tip is not None:
            return tip.head.seq
        found = next((s for s in steps_on(rows, where, place_of(self.parent)) if s.kind == PUT), None)
        return self.parent if found is None else found.seq


class PutWrites:
    """Pending writes of one task."""

    def __init__(
        self,
        serde: Serializer,
        address: tuple[str, str, str],
        task: tuple[str, str],
        writes: Sequence[tuple[int, str, Any]],
    ) -> None:
        """`address` is thread, namespace and checkpoint, `task` an id and a path; writes have indexes."""
        self.serde = serde
        self.thread, self.ns, self.checkpoint_id = self.after = address
        self.task_id, self.task_path = task
        self.writes = writes
        self.caches: Caches | None = None
        self.alone = False
        self.done = Outcome()
        self.queued = 0.0

    def prepare(self, caches: Caches) -> None:
        encode = caches.values.encode
        self._items = [(index, channel, encode(self.serde, value)) for index, channel, value in self.writes]
        self.caches = caches

    def apply(self, ink: Ink, caches: Caches) -> int:
        seq = ink.next_seq()
        space, _ = _space(ink, caches, self.thread, self.ns, seq)
        # As in the other savers: a call of special writes only replaces, any other keeps what is there.
        replaces = all(channel in WRITES_IDX_MAP for _, channel, _ in self._items)
        items = [(index, channel, ink.place(tree)) for index, channel, tree in self._items]
        data = shrink_writes(Writes(self.task_id, self.task_path, replaces, items))
        ink.rows.add_step(Step(seq, space, WRITES, *place_of(self.checkpoint_id), None, data))
        return seq


def _space(ink: Ink, caches: Caches, thread_id: str, ns: str, seq: int) -> Space:
    """The namespace of a thread that a step goes into; both are made if they are new."""
    known = caches.spaces.get((thread_id, ns))
    if known is not None:
        return known
    rows = ink.rows
    thread = rows.thread(thread_id)
    number = space_number(rows, rows.add_thread(thread_id) if thread is None else thread.n, ns, seq)
    found = Space(number, windows(rows, lineage(rows, thread_id), ns))
    ink.after_commit(lambda: caches.spaces.put((thread_id, ns), found))
    return found


def space_number(rows: Rows, thread: int, ns: str, seq: int) -> int:
    """The number of a namespace; a new one is called after its first step."""
    found = rows.space(thread, ns)
    if found is None:
        rows.add_space(thread, ns, seq)
        return seq
    return found


class Change:
    """Any other change, as a function; it goes into a transaction of its own."""

    def __init__(self, work: Callable[[Ink], None]) -> None:
        self.thread = ""
        self.after = ("", "", "")
        self.work = work
        self.caches: Caches | None = None
        self.alone = True
        self.done = Outcome()
        self.queued = 0.0

    def prepare(self, caches: Caches) -> None:
        self.caches = caches

    def apply(self, ink: Ink, caches: Caches) -> int:  # noqa: ARG002 - it needs no cache
        with sound():
            self.work(ink)
        return 0
