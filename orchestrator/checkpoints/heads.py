"""A checkpoint's own record: everything but its values, and where those are.

The record of a checkpoint is much like that of the one before, so it is compressed with that one as the
dictionary. A chain of such records is bounded, so reading one never takes long.
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
_WHOLE, _DELTA = b"\0", b"\1"
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

    def fields(self) -> tuple[tuple[str, bytes], tuple[str, bytes], dict[str, Place]]:
        """The checkpoint without values, its metadata, and the places of its values."""
        found = read_node(self.plain)
        if type(found) is not list or tuple(map(type, found)) != (str, bytes, str, bytes, dict):
            raise damaged(f"checkpoint {self.seq}")
        return (found[0], found[1]), (found[2], found[3]), found[4]


def record(checkpoint: tuple[str, bytes], metadata: tuple[str, bytes], places: dict[str, Place]) -> bytes:
    """The bytes of a head."""
    return write_node([*checkpoint, *metadata, places])


def shrink(plain: bytes, seq: int, before: Head | None) -> tuple[bytes, int]:
    """What is stored for a record, and its depth."""
    if before is None or before.depth >= LONGEST_CHAIN:
        return _WHOLE + _deflate(plain, HEADS), 0
    return _DELTA + write_number(seq - before.seq) + _deflate(plain, before.plain), before.depth + 1


def grow(data: bytes, seq: int, head_at: Callable[[int], Head]) -> tuple[bytes, int]:
    """The inverse of `shrink`; `head_at` gives the head at a step."""
    if data[:1] == _WHOLE:
        return _inflate(data[1:], HEADS, seq), 0
    if data[:1] != _DELTA:
        raise damaged(f"checkpoint {seq}")
    distance, start = read_number(data, 1)
    before = head_at(seq - distance)
    return _inflate(data[start:], before.plain, seq), before.depth + 1


def base_of(data: bytes, seq: int) -> int | None:
    """The step whose record is needed to read this one."""
    return None if data[:1] != _DELTA else seq - read_number(data, 1)[0]


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
