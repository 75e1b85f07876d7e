"""Primers: content stored earlier in the file, against which later elements are packed.

What people and tools say repeats itself in small ways (words, paths, lines of code), and a message alone
is too short to show it. A primer is a row that names elements; their bytes are the compressor's
dictionary, so it costs nothing but the names. A new one is made when the content has grown fourfold,
and after a while all starts over, so that it fits what is talked about now and no chain gets long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

import zstandard

from orchestrator.checkpoints.blocks import elements, read_block
from orchestrator.checkpoints.dictionary import DICTIONARY
from orchestrator.checkpoints.elements import (
    DESCRIPTOR,
    HAS_CHECKSUM,
    MEMBER,
    PACKED,
    PRIMED,
    PRIMER,
    RAW,
    SMALL,
    Hasher,
    Pool,
    Recent,
    damaged,
    decompressors,
    pack,
    read_node,
    read_number,
    sound,
    unpack,
    unpack_all,
    unpack_with,
    write_node,
    write_number,
)
from orchestrator.checkpoints.rows import Row, Rows
from orchestrator.errors import StorageError

PART = 4_096
"""Bytes of one element that go into a primer, so that one long file does not fill it."""
CAPACITY = 64 << 10
FIRST, FULL, RENEWED = 2_048, 24 << 10, 400 << 10
"""Packed bytes of content after which there is a first primer, no larger one, and a start from nothing."""
_GROWTH = 4
_DEEPEST = 4
"""Primers that may have to be read for one element, each for the next."""
_PRIMERS = 32
_LEVEL = 3
_MARK = 4
"""Bytes that tell primers apart, as long as their numbers are below 268 million."""


class Primer:
    """The bytes that a primer's elements add up to, and what packs against them."""

    def __init__(self, number: int, fields: tuple[int, int, int, list[int]], content: bytes) -> None:
        self.number = number
        self.first, self.size, self.depth, self.members = fields
        """The element that the content is counted from, how much there was, primers beneath."""
        self._words = zstandard.ZstdCompressionDict(
            DICTIONARY + content, dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        self._compressor: zstandard.ZstdCompressor | None = None
        self.decompressors = Pool(lambda: zstandard.ZstdDecompressor(dict_data=self._words))

    def pack(self, plain: bytes) -> tuple[int, bytes]:
        """Kind and bytes as they are stored; not to be called from two threads at once."""
        if not self.members or len(plain) <= SMALL:
            return pack(plain)
        if self._compressor is None:
            self._words.precompute_compress(level=_LEVEL)
            self._compressor = zstandard.ZstdCompressor(
                level=_LEVEL, dict_data=self._words, write_checksum=True, write_dict_id=False
            )
        small = write_number(self.number) + self._compressor.compress(plain)
        return (PRIMED, small) if len(small) < len(plain) else (RAW, plain)

    def unpack(self, small: bytes) -> bytes:
        """The inverse; raises StorageError on bytes that `pack` did not make."""
        return unpack_with(self.decompressors, small)


class Plains(NamedTuple):
    """The bytes of elements."""

    contents: list[bytes]
    checked: list[bool]
    """Whether unpacking compared them with a checksum."""


class Primers:
    """The primers that one process knows of a file, and the one that counts for what it writes."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._known: Recent[int, Primer] = Recent(_PRIMERS)
        self.is_loaded = False
        self._loading = threading.Lock()
        self._current: Primer | None = None
        self._size = 0
        """Packed bytes of content since the current one's first element."""

    def pack(self, plain: bytes) -> tuple[int, bytes]:
        """Kind and bytes as they are stored."""
        return self._current.pack(plain) if self._current is not None else pack(plain)

    def plain(self, rows: Rows, kind: int, data: bytes, deepest: int = _DEEPEST) -> bytes:
        """The bytes of an element that is stored as a whole; raises StorageError."""
        if kind == MEMBER:
            return data
        if kind != PRIMED:
            return unpack(kind, data)
        number, start = read_number(data, 0)
        return self.at(rows, number, deepest).unpack(data[start:])

    def plains(self, rows: Rows, found: list[Row], deepest: int = _DEEPEST) -> Plains:
        """The bytes of elements; raises StorageError. What was packed alike is unpacked in one go."""
        contents: list[bytes] = []
        checked: list[bool] = []
        for (kind, _), group in groupby(found, _packed_how):
            stored = [data for _, _, _, data in group]
            if kind == MEMBER:
                contents += stored
                checked += [True] * len(stored)
                continue
            number, start = read_number(stored[0], 0) if kind == PRIMED else (0, 0)
            if kind not in {PRIMED, PACKED} or start > _MARK:
                contents += [self.plain(rows, kind, data, deepest) for data in stored]
                checked += [False] * len(stored)
                continue
            pool = self.at(rows, number, deepest).decompressors if kind == PRIMED else decompressors
            frames = [data[start:] for data in stored]
            contents += unpack_all(pool, frames)
            checked += [bool(frame[DESCRIPTOR] & HAS_CHECKSUM) for frame in frames]
        return Plains(contents, checked)

    def at(self, rows: Rows, number: int, deepest: int = _DEEPEST) -> Primer:
        """The primer with this number; raises StorageError when there is none."""
        primer = self._known.get(number)
        if primer is None:
            primer = self._read(rows, number, deepest)
            self._known.put(number, primer)
        if primer.depth > deepest:
            raise damaged(f"primer {number} builds on itself")
        return primer

    def _read(self, rows: Rows, number: int, deepest: int) -> Primer:
        found = rows.elements([number])
        if not found or found[0][1] != PRIMER or self._hasher(found[0][3]) != found[0][2]:
            raise damaged(f"primer {number} is missing or not what was written")
        fields = primer_fields(found[0][3])
        depth, members = fields[2:]
        if depth > deepest:
            raise damaged(f"primer {number} builds on itself")
        found = elements(rows, members)
        parts = dict(
            zip([row[0] for row in found], self.plains(rows, found, depth - 1).contents, strict=True)
        )
        if not parts.keys() >= set(members):
            raise damaged(f"an element of primer {number} is missing")
        return Primer(number, fields, b"".join(parts[member][:PART] for member in members))

    # Writing.

    def load(self, rows: Rows) -> None:
        """Go on with the file's last primer; does nothing the second time."""
        with self._loading:
            if not self.is_loaded:
                # A damaged one is not worth a refusal to write; a new one will be made.
                with suppress(StorageError), sound():
                    named = int(rows.meta("primer"))
                    self._current = self.at(rows, named) if named else None
                if self._current is not None:
                    self._size = rows.packed_bytes(self._current.first, PART)
                self.is_loaded = True

    def make(self, rows: Rows, number: int, added: int) -> tuple[Primer, bytes] | None:
        """The primer to use from the next transaction on, and its row, if it is time for another one.

        `number` is what the row will be called, `added` the packed bytes that this transaction adds.
        """
        current = self._current
        self._size += added
        if current is None:
            return self._made(number, (number + 1, 0, 0, []), b"")
        if current.size >= FULL:
            return self._made(number, (number + 1, 0, 0, []), b"") if self._size >= RENEWED else None
        if self._size < max(FIRST, current.size * _GROWTH):
            return None
        members, parts, depth = self._latest(rows, current.first)
        return self._made(number, (current.first, self._size, depth, members), b"".join(parts))

    def use(self, primer: Primer) -> None:
        """Pack with a primer whose row was committed."""
        if primer.size == 0:
            self._size = 0
        self._known.put(primer.number, primer)
        self._current = primer

    def _made(
        self, number: int, fields: tuple[int, int, int, list[int]], content: bytes
    ) -> tuple[Primer, bytes]:
        return Primer(number, fields, content), write_node(list(fields))

    def _latest(self, rows: Rows, first: int) -> tuple[list[int], list[bytes], int]:
        """The last elements from one on that fill a primer, their bytes, and the depth of it all."""
        chosen: list[tuple[int, bytes]] = []
        left, depth = CAPACITY, 0
        for number, beneath, part in self._parts(rows, first):
            left -= len(part)
            if left < 0:
                break
            chosen.append((number, part))
            depth = max(depth, beneath)
        chosen.reverse()
        return [number for number, _ in chosen], [part for _, part in chosen], depth + 1

    def _parts(self, rows: Rows, first: int) -> Iterator[tuple[int, int, bytes]]:
        """Elements from one on: number, primers beneath and bytes; what is damaged is left out."""
        for number, kind, data in rows.latest_packed(first):
            with suppress(StorageError):
                primer = self.at(rows, read_number(data, 0)[0]) if kind == PRIMED else None
                beneath = primer.depth if primer is not None else 0
                if beneath < _DEEPEST and kind in {RAW, PACKED, PRIMED}:
                    yield number, beneath, self.plain(rows, kind, data)[:PART]
        for _, data in rows.all_blocks(first):
            with suppress(StorageError):
                for number, _, _, content in reversed(read_block(data).rows()):
                    yield number, 0, content[:PART]


def _packed_how(row: Row) -> tuple[int, bytes]:
    """The same for elements that were packed with the same primer."""
    _, kind, _, data = row
    return kind, data[:_MARK] if kind == PRIMED else b""


def primer_fields(data: bytes) -> tuple[int, int, int, list[int]]:
    """First element, size, depth and members of a primer's row; raises StorageError."""
    found = read_node(data)
    if type(found) is not list or len(found) != 4 or type(found[3]) is not list:
        raise damaged("a primer of unknown shape")
    first, size, depth, members = found
    if not all(type(number) is int for number in (first, size, depth, *members)):
        raise damaged("a primer of unknown shape")
    return first, size, depth, members
