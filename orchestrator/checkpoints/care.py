"""Care of the file: is everything there, how much is it, and what does nobody need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from orchestrator.checkpoints.blocks import read_block, write_block
from orchestrator.checkpoints.caches import Caches
from orchestrator.checkpoints.decoding import Decoder
from orchestrator.checkpoints.elements import (
    DICT,
    LIST,
    PRIMED,
    PRIMER,
    RAW,
    SPLICED,
    Serializer,
    damaged,
    pack,
    read_number,
    sound,
    spliced,
)
from orchestrator.checkpoints.heads import load
from orchestrator.checkpoints.ink import Ink
from orchestrator.checkpoints.nodes import named_in_row, numbers_in, values_in, values_in_row
from orchestrator.checkpoints.primers import primer_fields
from orchestrator.checkpoints.records import Records
from orchestrator.checkpoints.rows import END, PUT, WRITES, Row, Rows, Step
from orchestrator.errors import StorageError

_ROW_BYTES = 26
"""What an element's row takes beside its data: number, kind, hash and their header."""


def collect(ink: Ink, caches: Caches) -> int:
    """Remove steps that no fork sees and elements that no step needs; returns the bytes of both."""
    rows = ink.rows
    ink.removes = True
    rows.next_epoch()
    freed = sum(_trim(rows, thread.n) for thread in rows.threads() if thread.id is None)
    records = Records(rows, caches)
    needed: set[int] = set()
    for step in _all_steps(rows):
        for place in records.places(step):
            needed.update(numbers_in(place))
    links = {n: _links(kind, data) for n, kind, _, data in rows.all_elements()}
    todo = needed
    while todo:
        todo = {link for number in todo for link in links.get(number, ())} - needed
        needed |= todo
    needed |= _primers(rows, caches, needed)
    last = rows.next_element() - 1
    unneeded = {n: len(data) + _ROW_BYTES for n, _, _, data in rows.all_elements() if n not in needed}
    rows.drop_elements(unneeded)
    freed += sum(unneeded.values()) + _thin_out(rows, needed)
    if last and not rows.elements([last]):
        # A mark stays, so that the last number is not given again; an orc of an older format sees no block.
        rows.blank_element(last, RAW, caches.hasher(b""))
        freed -= _ROW_BYTES
    for row in [data for _, _, _, data in rows.elements_of(LIST)]:
        # A file of an older format has no blocks.
        ink.pack_together(sorted(named_in_row(row)))
    return freed


def _thin_out(rows: Rows, needed: set[int]) -> int:
    """Remove from blocks what nobody needs; returns the bytes. A damaged block goes when all of it may go."""
    listed = dict(rows.all_members())
    members: dict[int, set[int]] = {}
    for number, n in listed.items():
        members.setdefault(n, set()).add(number)
    freed = 0
    for n in rows.block_numbers():
        data = rows.block(n)
        held = members.get(n, set())
        gone = held - needed
        with suppress(StorageError):
            if gone == held and not _list_again(rows, n, data, needed - listed.keys()):
                rows.shrink_block(n, None, gone)
                freed += len(data)
            elif gone:
                smaller = write_block(read_block(data).without(gone))
                rows.shrink_block(n, smaller, gone)
                freed += len(data) - len(smaller)
    return freed


def _list_again(rows: Rows, n: int, data: bytes, lost: set[int]) -> bool:
    """List what a block holds of elements that are lost, and whether there is any."""
    found: set[int] = set()
    if lost:
        with suppress(StorageError):
            found = lost.intersection(read_block(data).numbers)
            found -= {row[0] for row in rows.elements(list(found))}
    rows.list_members(n, found)
    return bool(found)


def _primers(rows: Rows, caches: Caches, needed: set[int]) -> set[int]:
    """The primers that stay; what was packed against another one is packed again, without it.

    A primer with an element that nobody needs would keep content that was deleted.
    """
    stay = {
        n
        for n, _, _, data in rows.elements_of(PRIMER)
        if (members := primer_fields(data)[3]) and needed.issuperset(members)
    }
    again = [
        n for n, _, _, data in rows.elements_of(PRIMED) if n in needed and read_number(data, 0)[0] not in stay
    ]
    for number in again:
        for n, kind, _, data in rows.elements([number]):
            rows.pack_again(n, *pack(caches.primers.plain(rows, kind, data)))
    if rows.meta("primer") not in stay:
        rows.set_meta("primer", 0)
    return stay


def _trim(rows: Rows, n: int) -> int:
    """Remove a nameless thread's steps that none of its forks sees."""
    bound = max((fork.upto if fork.upto is not None else END for fork in rows.forks(n)), default=0)
    return rows.trim_thread(n, bound)


def _all_steps(rows: Rows) -> Iterable[Step]:
    for thread in rows.threads():
        for _, space in rows.spaces(thread.n):
            yield from rows.steps(space)


def _links(kind: int, data: bytes) -> set[int]:
    """The elements that an element needs."""
    if kind == SPLICED:
        return {spliced(data)[0]}
    if kind in {LIST, DICT}:
        return named_in_row(data)
    return set()


def verify(rows: Rows, caches: Caches, serde: Serializer) -> list[str]:
    """All problems, one line each. Everything is read and decoded, so it takes its time."""
    problems = [f"the file is damaged: {text}" for text in rows.integrity() if text != "ok"]
    known = {thread.n for thread in rows.threads()}
    for thread in rows.threads():
        if thread.parent is not None and thread.parent not in known:
            problems.append(f"thread {thread.id!r} was forked from a thread that is missing")
        for ns, space in rows.spaces(thread.n):
            for step in rows.steps(space):
                problems += _told(lambda step=step: _read(rows, caches, serde, step), f"{thread.id!r} {ns!r}")  # type: ignore[misc]
    problems += [f"step {seq} belongs to no thread" for seq in rows.lost_steps()]
    problems += _blocks(rows, caches, serde)
    for row in rows.all_elements():
        number, kind, digest, data = row
        if kind in {LIST, DICT, PRIMER} and caches.hasher(data) != digest:
            problems.append(f"element {number} is not what was written")
        elif kind != PRIMER:
            problems += _told(lambda row=row: _decode(rows, caches, serde, row), "element")  # type: ignore[misc]
    return list(dict.fromkeys(problems))


def _blocks(rows: Rows, caches: Caches, serde: Serializer) -> list[str]:
    """What is wrong with blocks and with the table that tells what is in them."""
    listed = dict(rows.all_members())
    doubles = rows.elements(list(listed))
    problems = [f"element {row[0]} has a row beside block {listed[row[0]]}" for row in doubles]

    def check(n: int, data: bytes) -> None:
        for row in read_block(data).rows():
            if listed.pop(row[0], None) != n:
                raise damaged(f"element {row[0]} is held and not listed")
            _decode(rows, caches, serde, row)

    for n, data in rows.all_blocks():
        problems += _told(lambda n=n, data=data: check(n, data), f"block {n}")  # type: ignore[misc]
    return problems + [f"element {number} is not in block {n}" for number, n in listed.items()]


def _read(rows: Rows, caches: Caches, serde: Serializer, step: Step) -> None:
    records = Records(rows, caches)
    decoder = Decoder(caches, serde)
    places = records.places(step)
    decoder.fetch(rows, places)
    for place in places:
        for value in values_in(place):
            decoder.value(value)
    if step.kind != WRITES:
        kept, metadata, _ = records.head(step).fields()
        load(serde, kept, step.seq)
        load(serde, metadata, step.seq)
        records.parent_id(step)


def _decode(rows: Rows, caches: Caches, serde: Serializer, row: Row) -> None:
    number, kind, digest, data = row
    decoder = Decoder(caches, serde)
    if kind not in {LIST, DICT}:
        decoder.fetch(rows, [number])
        if kind != SPLICED and caches.hasher(caches.primers.plain(rows, kind, data)) != digest:
            raise damaged(f"element {number} is not what was written")
        if data:  # else it is the mark that `collect` leaves
            decoder.value(number)
        return
    for value in values_in_row(data):
        decoder.value(value)


def _told(check: Callable[[], None], where: str) -> list[str]:
    try:
        with sound():
            check()
    except StorageError as error:
        return [f"{where}: {error}"]
    return []


def stats(rows: Rows) -> dict[str, int]:
    """How much of everything there is."""
    threads = rows.threads()
    pages, free, size = rows.pages()
    return {
        "threads": sum(thread.id is not None for thread in threads),
        "forks": sum(thread.parent is not None for thread in threads),
        "checkpoints": rows.count_steps(PUT),
        "writes": rows.count_steps(WRITES),
        "elements": rows.count_elements(),
        "bytes": pages * size,
        "free_bytes": free * size,
    }
