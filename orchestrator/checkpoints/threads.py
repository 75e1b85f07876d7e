"""Changes of whole threads: fork, copy, delete, prune. Each is one transaction.

A thread that has forks is never touched, only renamed to nothing: what its forks see stays, and goes
when the last of them goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from orchestrator.checkpoints import lineage
from orchestrator.checkpoints.caches import Caches
from orchestrator.checkpoints.elements import Serializer
from orchestrator.checkpoints.heads import Head, load, shrink
from orchestrator.checkpoints.ids import Place, place_of
from orchestrator.checkpoints.ink import Ink
from orchestrator.checkpoints.lineage import Level, Listed
from orchestrator.checkpoints.operations import space_number
from orchestrator.checkpoints.records import Records
from orchestrator.checkpoints.rows import AGAIN, PUT, WRITES, Rows, Step
from orchestrator.errors import UsageError

Kept = dict[str, list[Listed]]
"""Checkpoints by namespace."""
Choice = Callable[[Records, dict[str, Iterator[Listed]]], "Kept | None"]
"""Says which of a thread's checkpoints stay, None for all; each listing is read as far as it is asked for,
since that of a fork goes on through all its ancestors."""


class Copied(NamedTuple):
    """A step to be written anew."""

    order: int
    ns: str
    step: Step
    plain: bytes
    """A checkpoint's record; empty for pending writes."""
    parent: str | None


def fork(ink: Ink, thread_id: str, new: str, position: int | None) -> None:
    """Make a thread that sees what another one sees up to a position."""
    rows = ink.rows
    levels = lineage.lineage(rows, thread_id)
    if not levels:
        raise UsageError(f"there is no thread {thread_id!r} to fork")
    if rows.thread(new) is not None:
        raise UsageError(f"there is a thread {new!r} already; give the fork another name")
    last = lineage.position(rows, thread_id)
    upto = last if position is None else position
    if not 0 <= upto <= last:
        raise UsageError(f"thread {thread_id!r} has no position {upto}; it goes from 0 to {last}")
    # A parent that shows nothing of its own is skipped, so forks of forks do not become slower.
    parent = next((level for level in levels if rows.last(level.thread.n, min(level.upto, upto))), levels[-1])
    rows.add_thread(new, parent.thread.n, upto)


def copy(ink: Ink, caches: Caches, source: str, target: str) -> None:
    """Make the target see all that the source has; it may have something of its own already."""
    rows = ink.rows
    if source == target or rows.thread(source) is None:
        return
    found = rows.thread(target)
    if found is None:
        fork(ink, source, target, None)
        return
    levels = lineage.lineage(rows, source)
    steps = _collect(rows, caches, levels, _all(rows, levels))
    known = {
        (ns, one.place) for ns, ones in _all(rows, lineage.lineage(rows, target)).items() for one in ones
    }
    _write(ink, steps, found.n, known)


def delete(ink: Ink, thread_id: str) -> None:
    """Remove a thread with all its namespaces; an unknown one is no error."""
    found = ink.rows.thread(thread_id)
    if found is not None:
        _drop(ink, found.n)


def keep(ink: Ink, caches: Caches, thread_id: str, choose: Choice) -> None:
    """Remove all checkpoints of a thread but those chosen, with their pending writes."""
    rows = ink.rows
    levels = lineage.lineage(rows, thread_id)
    spaces = lineage.namespaces(rows, levels)
    kept = choose(
        Records(rows, caches), {ns: lineage.listed(rows, windows) for ns, windows in spaces.items()}
    )
    if kept is None:
        return
    steps = _collect(rows, caches, levels, kept)
    rows.rename_thread(levels[0].thread.n, None)
    _write(ink, steps, rows.add_thread(thread_id), set())
    _drop(ink, levels[0].thread.n)


def newest(serde: Serializer) -> Choice:
    """Choose the head of each namespace, and what its delta channels are rebuilt from."""

    def choose(records: Records, found: dict[str, Iterator[Listed]]) -> Kept | None:
        kept, goes = {}, False
        for ns, ones in found.items():
            head = next(ones, None)
            if head is not None:
                kept[ns], others = _with_seeds(serde, records, head, ones)
                goes = goes or others or next(ones, None) is not None
        return kept if goes else None

    return choose


def without_runs(serde: Serializer, run_ids: Collection[str]) -> Choice:
    """Choose what was not made by these runs."""
    wanted = set(run_ids)
    written = [run.encode("utf-8", "replace") for run in wanted]

    def stays(records: Records, one: Listed) -> bool:
        head = records.head(records.step(one.seq))
        if isinstance(serde, JsonPlusSerializer) and not any(run in head.plain for run in written):
            return True
        return load(serde, head.fields()[1], one.seq).get("run_id") not in wanted

    def choose(records: Records, found: dict[str, Iterator[Listed]]) -> Kept | None:
        every = {ns: list(ones) for ns, ones in found.items()}
        kept = {ns: [one for one in ones if stays(records, one)] for ns, ones in every.items()}
        return None if kept == every else kept

    return choose


def _with_seeds(
    serde: Serializer, records: Records, newest: Listed, older: Iterator[Listed]
) -> tuple[list[Listed], bool]:
    """A head, and its ancestors back to where each delta channel was written whole; whether others are seen.

    Reads the older ones only when they are needed.
    """
    head = records.head(records.step(newest.seq))
    counters = load(serde, head.fields()[1], newest.seq).get("counters_since_delta_snapshot")
    missing = set(counters or ()) - head.fields()[2].keys()
    by_place = {one.place: one for one in older} if missing else {}
    kept, one = [newest], newest
    while missing:
        parent = records.parent_id(records.step(one.seq))
        before = by_place.get(place_of(parent)) if parent is not None else None
        if before is None or before in kept:
            break
        one = before
        kept.append(one)
        missing -= records.head(records.step(one.seq)).fields()[2].keys()
    return kept, len(by_place) + 1 > len(kept)


def _all(rows: Rows, levels: list[Level]) -> Kept:
    spaces = lineage.namespaces(rows, levels)
    return {ns: list(lineage.listed(rows, windows)) for ns, windows in spaces.items()}


def _collect(rows: Rows, caches: Caches, levels: list[Level], kept: Kept) -> list[Copied]:
    """The steps that belong to some checkpoints, in their order."""
    records = Records(rows, caches)
    spaces = lineage.namespaces(rows, levels)
    copied = []
    for ns, ones in kept.items():
        for one in ones:
            step = records.step(one.seq)
            copied.append(Copied(one.order, ns, step, records.head(step).plain, records.parent_id(step)))
            steps = lineage.steps_on(rows, spaces[ns], one.place)
            copied += [Copied(s.seq, ns, s, b"", None) for s in steps if s.kind == WRITES]
    return sorted(copied, key=lambda one: one.order)


def _write(ink: Ink, steps: list[Copied], thread: int, known: set[tuple[str, Place]]) -> None:
    """Append steps to a thread; `known` is what it has already, which is replaced."""
    rows = ink.rows
    seqs: dict[tuple[str, Place], int] = {}
    last: dict[str, Head] = {}
    for _, ns, step, plain, parent in steps:
        seq = ink.next_seq()
        space = space_number(rows, thread, ns, seq)
        place = Place(step.tag, step.rest)
        if step.kind == WRITES:
            rows.add_step(Step(seq, space, WRITES, *place, None, step.content))
            continue
        before: int | str | None = parent
        if parent is not None:
            before = seqs.get((ns, place_of(parent)), parent)
        data, last[ns] = shrink(plain, seq, space, last.get(ns))
        rows.add_step(Step(seq, space, AGAIN if (ns, place) in known else PUT, *place, before, data))
        seqs[ns, place] = seq


def _drop(ink: Ink, n: int) -> None:
    """Remove a thread, or only its name while it has forks; then ancestors that nobody needs."""
    rows = ink.rows
    ink.removes = True
    rows.next_epoch()
    thread = rows.thread_number(n)
    while thread is not None:
        if rows.forks(thread.n):
            rows.rename_thread(thread.n, None)
            return
        rows.drop_thread(thread.n)
        parent = rows.thread_number(thread.parent) if thread.parent is not None else None
        thread = parent if parent is not None and parent.id is None else None
