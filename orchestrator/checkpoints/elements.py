"""Elements: serialised values that are stored once and named by number wherever they occur.

An element is the bytes of one message or value. Equal bytes have an equal keyed hash and become one
row. A text that an earlier element holds already (a message before and after it got its id) is cut out
and pointed at. An element has no number before its row is committed, and keeps its bytes until then,
so an operation can be written in any order and after any failure.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import ormsgpack
import zstandard

from orchestrator.checkpoints.dictionary import DICTIONARY
from orchestrator.errors import StorageError

K = TypeVar("K")
V = TypeVar("V")

RAW, PACKED, SPLICED, LIST, DICT, PRIMED, PRIMER, MEMBER = range(8)
"""Kinds of rows: bytes as they are, compressed, with a text of another element, the two nodes, compressed
against a primer, and the primer. The last one is in no file: bytes as they came out of a block."""

HASH_BYTES = 16
LONG = 160
"""Texts from this many characters on are looked for in earlier elements."""
SMALL = 48
"""Bytes that are not worth compressing."""
MSGPACK = b"\0"
_CODES = {"msgpack": MSGPACK, "null": b"\1", "bytes": b"\2", "bytearray": b"\3"}
_NAMES = {code[0]: name for name, code in _CODES.items()}
_OTHER = 255


class Serializer(Protocol):
    """The part of LangGraph's serializers that is used here."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]: ...

    def loads_typed(self, data: tuple[str, bytes]) -> Any: ...


class Recent(Generic[K, V]):
    """A map that forgets what was not asked for lately; safe to share between threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self._young[key] = found
                self._weight += 1
        return found

    def get_all(self, keys: list[K]) -> list[V | None]:
        """The same for many; what is kept must not be false."""
        found = list(map(self._young.get, keys))
        if self._old and not all(found):
            return [self.get(key) if one is None else one for key, one in zip(keys, found, strict=True)]
        return found

    def put(self, key: K, value: V, weight: int = 1) -> None:
        if self._weight > self._limit:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = value
        self._weight += weight

    def put_all(self, items: dict[K, V], weight: int) -> None:
        """Put many at once; `weight` is that of them all."""
        if self._weight > self._limit:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young.update(items)
        self._weight += weight

    def clear(self) -> None:
        self._young, self._old, self._weight = {}, {}, 0


class Body:
    """What is written of an element."""

    __slots__ = ("base", "data", "kind", "plain", "splice")

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self.kind = RAW
        self.data = b""
        self.base: Element | None = None
        self.splice = (0, 0, 0, RAW)
        """Start and length of the text in the base's bytes, where it belongs in these, kind of the rest."""


WRITTEN = Body(b"")
"""The body of all elements whose rows are committed."""


class Element:
    """One stored value. `number` is None until its row is committed; the body is kept until then."""

    __slots__ = ("body", "hash", "number")

    def __init__(self, digest: bytes, number: int | None = None, body: Body = WRITTEN) -> None:
        self.hash = digest
        self.number = number
        self.body = body


def typed(pair: tuple[str, bytes]) -> bytes:
    """A serializer's type and bytes as one string of bytes."""
    name, content = pair
    code = _CODES.get(name)
    if code is None:
        written = name.encode()
        code = bytes((_OTHER, len(written))) + written
    return code + bytes(content)


def untyped(plain: bytes) -> tuple[str, bytes]:
    """The inverse of `typed`; raises StorageError on bytes that it did not make."""
    code = plain[0] if plain else None
    if code == _OTHER and len(plain) > 1:
        end = 2 + plain[1]
        return plain[2:end].decode(errors="replace"), plain[end:]
    if code not in _NAMES:
        raise damaged("an element of unknown type")
    return _NAMES[code], plain[1:]


def damaged(what: str) -> StorageError:
    """The error for a row that cannot be what was written."""
    return StorageError(
        f"the checkpoints are damaged: {what}; run `orc db verify`, then restore a backup or delete the run"
    )


@contextmanager
def sound() -> Iterator[None]:
    """Around what reads rows: what a malformed one makes the code stumble over is damage too.

    The records of checkpoints have no hash, so a bit may have turned in them.
    """
    try:
        yield
    except (AttributeError, LookupError, RecursionError, TypeError) as error:
        raise damaged(f"a record makes no sense ({error})") from error


class Hasher:
    """The keyed hash of one file, so that nobody who writes content can plan two that collide."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, plain: bytes) -> bytes:
        return hashlib.blake2b(plain, digest_size=HASH_BYTES, key=self._key).digest()


class Pool(Generic[V]):
    """Compressors are not safe to share, and dear to make."""

    def __init__(self, make: Callable[[], V]) -> None:
        self._make = make
        self._idle: deque[V] = deque()

    def take(self) -> V:
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give(self, item: V) -> None:
        self._idle.append(item)


WORDS = zstandard.ZstdCompressionDict(DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
LARGEST = 1 << 31
DESCRIPTOR, HAS_CHECKSUM = 4, 4
"""Where a frame says what it has, and the bit for a checksum, which older frames lack.

https://datatracker.ietf.org/doc/html/rfc8878#section-3.1.1.1.1
"""


def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=3, dict_data=WORDS, write_checksum=True, write_dict_id=False)


_compressors = Pool(_compressor)
decompressors = Pool(lambda: zstandard.ZstdDecompressor(dict_data=WORDS))


def pack(plain: bytes) -> tuple[int, bytes]:
    """Kind and bytes as they are stored."""
    if len(plain) > SMALL:
        compressor = _compressors.take()
        small = compressor.compress(plain)
        _compressors.give(compressor)
        if len(small) < len(plain):
            return PACKED, small
    return RAW, plain


def unpack(kind: int, stored: bytes) -> bytes:
    """The inverse of `pack`; raises StorageError on bytes that it did not make."""
    if kind == RAW:
        return stored
    if kind != PACKED:
        raise damaged("an element of unknown kind")
    return unpack_with(decompressors, stored)


def unpack_with(pool: Pool[zstandard.ZstdDecompressor], frame: bytes) -> bytes:
    """The bytes in a frame; raises StorageError when it is damaged."""
    return unpack_all(pool, [frame])[0]


def unpack_all(pool: Pool[zstandard.ZstdDecompressor], frames: list[bytes]) -> list[bytes]:
    """The same for many."""
    decompressor = pool.take()
    decompress = decompressor.decompress
    try:
        return [decompress(frame, LARGEST) for frame in frames]
    except (zstandard.ZstdError, MemoryError, TypeError) as error:
        raise damaged(f"an element cannot be unpacked ({error})") from None
    finally:
        pool.give(decompressor)


def write_number(value: int) -> bytes:
    """A number that is not below zero, in as few bytes as it needs."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_number(data: bytes, start: int) -> tuple[int, int]:
    """The inverse of `write_number`, and where what follows begins; raises StorageError."""
    first = data[start] if start < len(data) else 0x80
    if first < 0x80:
        return first, start + 1
    value = shift = 0
    for index in range(start, min(start + 9, len(data))):
        value |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            return value, index + 1
        shift += 7
    raise damaged("a number without end")


def spliced(stored: bytes) -> tuple[int, int, int, int, int, bytes]:
    """The fields of a SPLICED row: base, start, length, place, kind of the rest, the rest."""
    fields = read_node(stored)
    if type(fields) is not list or len(fields) != 6:
        raise damaged("an element of unknown shape")
    return tuple(fields)


def read_node(stored: bytes) -> Any:
    """Unpack our own records; they hold plain values only, so nothing in them can name code."""
    try:
        return ormsgpack.unpackb(stored, option=ormsgpack.OPT_NON_STR_KEYS)
    except (ValueError, TypeError) as error:
        raise damaged(f"a record cannot be read ({error})") from None


def write_node(value: Any) -> bytes:
    """The inverse of `read_node`."""
    return ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS)


def long_texts(value: Any, depth: int = 4) -> Iterator[str]:
    """Long texts in a value, in their order."""
    if type(value) is str:
        if len(value) >= LONG:
            yield value
    elif depth:
        if type(value) is dict:
            parts: Any = value.values()
        elif type(value) in {list, tuple}:
            parts = value
        else:
            parts = (getattr(value, "content", None), getattr(value, "arg", None))
        for part in parts:
            yield from long_texts(part, depth - 1)
