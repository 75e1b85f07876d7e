"""A checkpoint's own record: everything but its values, and where those are.

The record of a checkpoint is much like those before, most of all like the one a round of the graph ago, so
it is compressed with the last few as the dictionary. A chain of such records is bounded, so reading one
never takes long.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.checkpoints.dictionary import HEADS, WRITES
from orchestrator.checkpoints.elements import (
    Serializer,
    damaged,
    read_node,
    read_number,
    write_node,
    write_number,
)

LONGEST_CHAIN = 24
_WHOLE, _DELTA, _AFTER = b"\0", b"\1", b"\2"
"""A record by itself; against the one before, as in formats 1 and 2; against the last few of its chain."""
_FEW = 8
_TEXT_ID, _UUID = b"\6", b"\7"
"""How the task of pending writes is given. Format 1 has no such mark, and deflated data never begin so."""

Place = Any
"""Where a value is: bytes (the value), a number (an element), or a list of these with a tag."""


class Head(NamedTuple):
    """A stored checkpoint record."""

    seq: int
    space: int
    plain: bytes
    depth: int
    """How many records have to be read before this one."""
    before: Head | None = None
    """The first of those."""

    def words(self) -> bytes:
        """What the record after this one is compressed against."""
        parts: list[bytes] = []
        head: Head | None = self
        while head is not None and len(parts) < _FEW:
            parts.append(head.plain)
            head = head.before
        return b"".join(reversed(parts))

    def fields(self) -> tuple[tuple[str, bytes], tuple[str, bytes], dict[str, Place]]:
        """The checkpoint without values, its metadata, and the places of its values."""
        found = read_node(self.plain)
        if type(found) is not list or tuple(map(type, found)) != (str, bytes, str, bytes, dict):
            raise damaged(f"checkpoint {self.seq}")
        return (found[0], found[1]), (found[2], found[3]), found[4]


def record(checkpoint: tuple[str, bytes], metadata: tuple[str, bytes], places: dict[str, Place]) -> bytes:
    """The bytes of a head."""
    return write_node([*checkpoint, *metadata, places])


def shrink(plain: bytes, seq: int, space: int, before: Head | None) -> tuple[bytes, Head]:
    """What is stored for a record, and its head; `before` is one of the same space."""
    if before is None or before.depth >= LONGEST_CHAIN:
        return _WHOLE + _deflate(plain, HEADS), Head(seq, space, plain, 0)
    data = _AFTER + write_number(seq - before.seq) + _deflate(plain, before.words())
    return data, Head(seq, space, plain, before.depth + 1, before)


def grow(data: bytes, seq: int, space: int, head_at: Callable[[int], Head]) -> Head:
    """The inverse of `shrink`; `head_at` gives the head at a step."""
    mark = data[:1]
    if mark == _WHOLE:
        return Head(seq, space, _inflate(data[1:], HEADS, seq), 0)
    if mark not in {_DELTA, _AFTER}:
        raise damaged(f"checkpoint {seq}")
    distance, start = read_number(data, 1)
    before = head_at(seq - distance)
    words = before.words() if mark == _AFTER else before.plain
    return Head(seq, space, _inflate(data[start:], words, seq), before.depth + 1, before)


class Writes(NamedTuple):
    """Pending writes of one task, as one step."""

    task_id: str
    task_path: str
    replaces: bool
    """Whether they take the place of earlier ones with the same index; else the earlier ones stay."""
    items: list[tuple[int, str, Place]]
    """Index, channel and place of each."""


def shrink_writes(writes: Writes) -> bytes:
    """What is stored for pending writes."""
    task, *rest = writes
    try:
        number = UUID(task)
    except ValueError:
        number = None
    if number is None or str(number) != task:
        return _TEXT_ID + _deflate(write_node([task, *rest]), WRITES)
    return _UUID + number.bytes + _deflate(write_node([None, *rest]), WRITES)


def grow_writes(data: bytes, seq: int) -> Writes:
    """The inverse of `shrink_writes`, and of what format 1 stored; raises StorageError on a damaged row."""
    mark, start = data[:1], 17 if data[:1] == _UUID else 1
    known = mark in {_UUID, _TEXT_ID}
    found = read_node(_inflate(data[start:], WRITES, seq) if known else _inflate(data, HEADS, seq))
    if type(found) is not list or [type(each) for each in found[1:]] != [str, bool, list]:
        raise damaged(f"writes {seq}")
    if any(type(item) is not list or len(item) != 3 for item in found[3]):
        raise damaged(f"writes {seq}")
    if mark == _UUID:
        found[0] = str(UUID(bytes=data[1:17]))
    return Writes(*found)


def load(serde: Serializer, pair: tuple[str, bytes], seq: int) -> dict[str, Any]:
    """A dictionary that was stored with a head; raises StorageError when it is none."""
    value = serde.loads_typed(pair)
    if type(value) is not dict:
        raise damaged(f"checkpoint {seq}")
    return value


def _deflate(plain: bytes, words: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, words[-32768:])
    return packer.compress(plain) + packer.flush()


def _inflate(data: bytes, words: bytes, seq: int) -> bytes:
    unpacker = zlib.decompressobj(-15, words[-32768:])
    try:
        plain = unpacker.decompress(data)
    except zlib.error as error:
        raise damaged(f"step {seq} cannot be unpacked ({error})") from None
    if not unpacker.eof or unpacker.unused_data:
        raise damaged(f"step {seq} is cut short or has something after its end")
    return plain
