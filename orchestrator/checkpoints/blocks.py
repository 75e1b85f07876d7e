"""Blocks: elements that a long list names one after the other, packed together as one row.

A frame, a row and a page of its own for each message make a first read slow and the file larger than what
is in it. So when a long list gets a row, those of its elements that were not in an older one move into
blocks. Their numbers stay, and nothing that names them changes; `ck_members` tells which block has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import zstandard

from orchestrator.checkpoints.elements import (
    HASH_BYTES,
    MEMBER,
    WORDS,
    Pool,
    damaged,
    decompressors,
    read_node,
    unpack_with,
    write_node,
)
from orchestrator.checkpoints.rows import END, Row, Rows
from orchestrator.storage import PAGE_BYTES

SIZE = 32 << 10
"""Bytes of content from which on a block is full: a block is read as a whole, and larger ones save little."""
LARGE = 4 << 10
"""Elements from this many stored bytes on keep a row of their own: neighbours would save them little."""
LARGEST = 2 * SIZE
"""The same for bytes of content: who reads a neighbour has to unpack them too."""
FEW, LEAST = 4, 4 << 10
"""Fewer elements than these, or bytes of content, are not worth a block."""
_MARGIN = 1.1
"""How much more a block may take than the rows that it replaces, because it is read so much quicker."""
_ROW, _MEMBER_ROW = 22, 9
"""What an element's row takes beside its data, and its row in `ck_members`."""
_LEVEL = 6
_compressors = Pool(
    lambda: zstandard.ZstdCompressor(level=_LEVEL, dict_data=WORDS, write_checksum=True, write_dict_id=False)
)


class Block(NamedTuple):
    """What a block holds, in the order of the list that it was made for."""

    numbers: list[int]
    digests: list[bytes]
    contents: list[bytes]

    def rows(self) -> list[Row]:
        """Its elements as if each had a row."""
        return list(zip(self.numbers, repeat(MEMBER), self.digests, self.contents))

    def without(self, gone: set[int]) -> Block:
        """The same without some elements."""
        kept = [at for at, number in enumerate(self.numbers) if number not in gone]
        return Block(
            [self.numbers[at] for at in kept],
            [self.digests[at] for at in kept],
            [self.contents[at] for at in kept],
        )


def blocks_of(found: list[tuple[Row, bytes]]) -> Iterator[Block]:
    """Blocks for elements and their bytes; what is left over at the end may be too few for one."""
    block, size = Block([], [], []), 0
    for (number, _, digest, _), content in found:
        block.numbers.append(number)
        block.digests.append(digest)
        block.contents.append(content)
        size += len(content)
        if size >= SIZE:
            yield block
            block, size = Block([], [], []), 0
    if len(block.numbers) >= FEW and size >= LEAST:
        yield block


def is_worth_it(data: bytes, alone: list[bytes]) -> bool:
    """Whether a block takes little more than its elements' rows, of which these are the data.

    Those are packed against a primer, which can be better than against their neighbours.
    """
    rows = sum(_room(len(each) + _ROW) for each in alone)
    return _room(len(data)) + _MEMBER_ROW * len(alone) < _MARGIN * rows


def _room(size: int) -> float:
    """Bytes that a row of this size takes, with what it leaves unused of its page on average.

    https://www.sqlite.org/fileformat2.html#b_tree_pages
    """
    return size + (size * size / (2 * PAGE_BYTES) if size < PAGE_BYTES else PAGE_BYTES / 6)


def write_block(block: Block) -> bytes:
    """The bytes of a block's row."""
    compressor = _compressors.take()
    data = compressor.compress(write_node(list(block)))
    _compressors.give(compressor)
    return data


def read_block(data: bytes) -> Block:
    """The inverse of `write_block`; raises StorageError on bytes that it did not make."""
    found = read_node(unpack_with(decompressors, data))
    if type(found) is not list or len(found) != 3 or any(type(part) is not list for part in found):
        raise damaged("a block of unknown shape")
    numbers, digests, contents = found
    if not (
        len(numbers) == len(digests) == len(contents)
        and set(map(type, numbers)) <= {int}
        and all(0 < number <= END for number in numbers)
        and set(map(type, chain(digests, contents))) <= {bytes}
        and set(map(len, digests)) <= {HASH_BYTES}
    ):
        raise damaged("a block of unknown shape")
    return Block(numbers, digests, contents)


def fetch(rows: Rows, numbers: Sequence[int]) -> tuple[list[Row], list[Block]]:
    """The rows of elements, and the blocks of those that have none; what is missing is left out."""
    found = rows.elements(numbers)
    if len(found) == len(numbers):
        return found, []
    alone = {row[0] for row in found}
    wanted = rows.blocks_of([number for number in numbers if number not in alone])
    blocks: dict[int, Block | None] = {n: rows.unpacked.get(n) for n in wanted}
    for n, data in rows.blocks([n for n, known in blocks.items() if known is None]):
        blocks[n] = block = read_block(data)
        rows.unpacked.put(n, block, sum(map(len, block.contents)))
    return found, [block for block in blocks.values() if block is not None]


def elements(rows: Rows, numbers: Sequence[int]) -> list[Row]:
    """The same as rows; what shares a block with one of them comes along."""
    found, blocks = fetch(rows, numbers)
    return [*found, *chain.from_iterable(block.rows() for block in blocks)]
