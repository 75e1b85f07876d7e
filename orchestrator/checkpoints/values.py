"""Channel values as trees of elements, and back.

A list or dictionary is split, so that one more message costs one more message. What was stored before
is recognised by the object itself (its identity and its unchanged fields) or by the hash of its bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from sys import getrefcount
from typing import Any, NamedTuple, TypeAlias

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from orchestrator.checkpoints.blocks import Block
from orchestrator.checkpoints.elements import (
    HASH_BYTES,
    SPLICED,
    WRITTEN,
    Body,
    Element,
    Hasher,
    Recent,
    Serializer,
    damaged,
    long_texts,
    pack,
    typed,
    untyped,
)
from orchestrator.checkpoints.messages import (
    BARE,
    KINDS,
    bare,
    fresh,
    is_unchanged,
    judged,
    master_of,
    message_from,
)
from orchestrator.checkpoints.objects import (
    NOTHING,
    OURS,
    Handed,
    Known,
    Leaf,
    Long,
    Seen,
    fields_of,
    free_again,
    unchanged,
)
from orchestrator.checkpoints.primers import Plains, Primers
from orchestrator.checkpoints.rows import Row

Tree: TypeAlias = "bytes | Element | list[Tree] | Long | dict[str, Tree] | Snapshot"
"""Small values are their own bytes; everything that branches is a list or a dictionary."""

INLINE = 160
"""Values up to this many bytes are written where they occur."""
INLINE_ITEM = 64
"""The same for one item of a list or dictionary."""
_SEEN, _KNOWN, _TEXTS = 1 << 14, 1 << 16, 1 << 12
_LISTED = 1 << 16
_READS, _READ_BYTES = 64, 1 << 24
_LONG = 64
"""Items from which on a list is compared with the one before as a whole."""
_LEAVES = 1 << 26
"""Bytes of decoded or unpacked elements that are kept, twice."""


class Snapshot:
    """The whole value of a delta channel; LangGraph tells it from a plain value."""

    __slots__ = ("tree",)

    def __init__(self, tree: Tree) -> None:
        self.tree = tree


class Values:
    """Encodes and decodes channel values; keeps what was stored or read lately."""

    def __init__(self, hasher: Hasher, primers: Primers) -> None:
        self._hash = hasher
        self._primers = primers
        self._making = threading.Lock()
        self._seen: dict[int, Seen] = {}
        """By identity; the entry holds the object, so that the number stays its own."""
        self._known: Recent[bytes, Element] = Recent(_KNOWN)
        self._read: deque[dict[int, Leaf]] = deque()
        """What was read since something new was written: who only reads need not know it by its hash."""
        self._read_bytes = 0
        self._lists: Recent[int, Known] = Recent(_LISTED)
        """By the identity of the first item."""
        self._texts: Recent[str, tuple[Element, int, int]] = Recent(_TEXTS)
        self._leaves: Recent[int, Leaf] = Recent(_LEAVES)
        self._handed: Handed | None = None
        self._last_list: list[Any] | None = None
        """The one that was read last."""

    # Encoding.

    def encode(self, serde: Serializer, value: Any) -> Tree:
        """The tree of one channel value or pending write."""
        if type(value) is _DeltaSnapshot:
            return Snapshot(self.encode(serde, value.value))
        if type(value) is list and value:
            return self._encode_list(serde, value)
        if type(value) is dict and value and all(type(key) is str for key in value):
            return self._encode_dict(serde, value)
        return self._encode_item(serde, value, INLINE)

    def _encode_list(self, serde: Serializer, items: list[Any]) -> Tree:
        tree = self._encode_items(serde, items) if len(items) < _LONG else self._encode_long(serde, items)
        if len(tree) <= INLINE and all(type(part) is bytes for part in tree):
            whole = typed(serde.dumps_typed(items))
            if len(whole) <= INLINE:
                return whole
        return tree

    def _encode_long(self, serde: Serializer, items: list[Any]) -> Long:
        known = self._lists.get(id(items[0])) or NOTHING
        same = unchanged(known, items)
        tree = Long(known.tree[:same] + self._encode_items(serde, items[same:]), known.tree.items[:same])
        ids, fields = known.ids[:same], known.fields[:same]
        for item in items[same:]:
            found = self._seen.get(id(item))
            if found is None or found.item is not item or type(found.fields) is not dict:
                break
            ids.append(id(item))
            fields.append(found.fields)
        self._lists.put(id(items[0]), Known(ids, fields, tree), len(items))
        return tree

    def _encode_items(self, serde: Serializer, items: list[Any]) -> list[Tree]:
        # Written out, because this runs for every message of every step.
        return [
            found.element
            if found is not None
            and found.item is item
            and (found.fields is None or (item.__dict__ == found.fields and not item.__pydantic_extra__))
            else self._encode_item(serde, item, INLINE_ITEM)
            for item, found in zip(items, map(self._seen.get, map(id, items)), strict=True)
        ]

    def _encode_dict(self, serde: Serializer, items: dict[str, Any]) -> Tree:
        tree = {
            key: self._encode_list(serde, item)
            if type(item) is list and item
            else self._encode_item(serde, item, INLINE_ITEM)
            for key, item in items.items()
        }
        if all(type(part) is bytes for part in tree.values()):
            whole = typed(serde.dumps_typed(items))
            if len(whole) <= INLINE:
                return whole
        return tree

    def _encode_item(self, serde: Serializer, item: Any, inline: int) -> bytes | Element:
        found = self._seen.get(id(item))
        if found is not None and found.item is item:
            fields = fields_of(found)
            if fields is None or is_unchanged(item, fields):
                return found.element
        plain = typed(serde.dumps_typed(item))
        if len(plain) <= inline:
            return plain
        if type(item) in KINDS:
            plain = bare(plain) or plain
        element = self._element(plain, item)
        self._remember(item, element)
        return element

    def _remember(self, item: Any, element: Element) -> None:
        if type(item) in KINDS:
            master = master_of(item)
            if master is not None:
                self._note(Seen(item, master.fields, element))
        elif type(item) is str:
            self._note(Seen(item, None, element))

    def _note(self, seen: Seen) -> None:
        if len(self._seen) > _SEEN:
            self._seen = {}
        self._seen[id(seen.item)] = seen

    def _element(self, plain: bytes, item: Any) -> Element:
        digest = self._hash(plain)
        # Writes and checkpoints are encoded side by side, and mostly hold the same texts.
        with self._making:
            self._learn()
            known = self._known.get(digest)
            if known is None:
                known = self._make(digest, plain, item)
                self._known.put(digest, known)
            return known

    def _learn(self) -> None:
        """Know by its hash what was read."""
        self._read_bytes = 0
        while self._read:
            self._known.put_all(*_by_hash(self._read.popleft()))

    def _make(self, digest: bytes, plain: bytes, item: Any) -> Element:
        body = Body(plain)
        element = Element(digest, None, body)
        texts = list(long_texts(item))
        if not self._splice(body, texts):
            body.kind, body.data = self._primers.pack(plain)
            at = 0
            for text in texts:
                written = text.encode("utf-8", "replace")
                found = plain.find(written, at)
                if found >= 0:
                    at = found + len(written)
                    self._texts.put(text, (element, found, len(written)))
        return element

    def _splice(self, body: Body, texts: list[str]) -> bool:
        text = max(texts, key=len, default="")
        source = self._texts.get(text) if text else None
        at = body.plain.find(text.encode("utf-8", "replace")) if source is not None else -1
        if source is None or at < 0:
            return False
        body.base, start, length = source
        kind, body.data = pack(body.plain[:at] + body.plain[at + length :])
        body.kind = SPLICED
        body.splice = (start, length, at, kind)
        return True

    # Decoding.

    def committed(self, element: Element, number: int) -> None:
        """Take in an element that was written."""
        plain = element.body.plain
        element.number, element.body = number, WRITTEN
        self._leaves.put(number, Leaf(element, plain), len(plain))

    def read(self, found: list[Row], plains: Plains) -> dict[int, Leaf]:
        """Take in elements that were read; raises StorageError when one's bytes are not those written.

        Each comes with its bytes, and with whether they were compared with a checksum: `verify` compares
        all hashes, a reader only where there is no checksum.
        """
        leaves: dict[int, Leaf] = {}
        # Written out, because this runs for every message of a first read.
        for (number, _, digest, _), plain, is_checked in zip(
            found, plains.contents, plains.checked, strict=True
        ):
            if len(digest) != HASH_BYTES or not (is_checked or self._hash(plain) == digest):
                raise damaged(f"element {number} is not what was written")
            leaves[number] = Leaf(Element(digest, number), plain)
        self._keep(leaves, sum(map(len, plains.contents)))
        return leaves

    def read_blocks(self, blocks: list[Block]) -> dict[int, Leaf]:
        """Take in the elements of blocks, which were compared with their checksums."""
        leaves = {
            number: Leaf(Element(digest, number), content)
            for block in blocks
            for number, digest, content in zip(*block, strict=True)
        }
        self._keep(leaves, sum(sum(map(len, block.contents)) for block in blocks))
        return leaves

    def _keep(self, leaves: dict[int, Leaf], size: int) -> None:
        if not leaves:
            return
        self._leaves.put_all(leaves, size)
        self._read.append(leaves)
        self._read_bytes += size
        if len(self._read) > _READS or self._read_bytes > _READ_BYTES:
            with self._making:
                self._learn()

    def decode(self, serde: Serializer, leaves: Mapping[int, Leaf], numbers: Iterable[int]) -> Decoded:
        """Objects for elements that nobody else holds, messages apart from other values.

        The object of the last time is used again when its last holder let it go and left it as it was;
        making thousands of new ones at every call would keep Python's collector busy.
        """
        if len(self._seen) > _SEEN:
            self._seen = {}
        messages: dict[int, BaseMessage] = {}
        others: dict[int, Any] = {}
        seen, handed = self._seen, self._handed
        # Written out, because this runs for every message of a first read.
        for number in numbers:
            leaf = leaves[number]
            item, content = leaf.item, leaf.content
            if handed is not None and item is not None and getrefcount(item) == OURS + 1:
                handed = self._handed = None
            if item is not None and getrefcount(item) == OURS:
                fields = leaf.fields if type(leaf.fields) is dict else fields_of(leaf)
                if item.__dict__ == fields and not item.__pydantic_extra__:
                    messages[number] = item
                    seen[id(item)] = leaf
                    continue
            if isinstance(content, bytes) and (found := message_from(content)) is not None:
                messages[number] = found
                if item is None:
                    leaf.item, leaf.fields = found, content
                    seen[id(found)] = leaf
                else:
                    seen[id(found)] = _seen_as(leaf, found, content)
                continue
            value, is_message = self._decode(serde, leaf)
            (messages if is_message else others)[number] = value
        return Decoded(messages, others)

    def leaves(self, numbers: list[int]) -> list[Leaf | None]:
        """What is remembered of elements."""
        handed = self._handed
        if handed is not None and handed.numbers is numbers:
            return handed.leaves  # type: ignore[return-value]
        return self._leaves.get_all(numbers)

    def again(self, numbers: list[Any], leaves: list[Leaf]) -> list[BaseMessage] | None:
        """The objects of the last time, when all of them can be used again; see `decode`.

        `numbers` is the list of a node, and told by its identity.
        """
        last, self._last_list = self._last_list, numbers
        handed = self._handed
        items = handed.again() if handed is not None and handed.numbers is numbers else None
        if items is not None:
            return items
        # What it holds counts as held.
        handed = self._handed = None
        items = free_again(leaves)
        if items is not None and last is numbers:
            self._handed = Handed.of(numbers, leaves, items)
        if items is not None and self._seen.get(id(items[-1])) is not leaves[-1]:
            self._seen.update(zip(map(id, items), leaves, strict=True))
        return items

    def _decode(self, serde: Serializer, leaf: Leaf) -> tuple[Any, bool]:
        """What has to be judged by its class, or is no message."""
        content = leaf.content
        if not isinstance(content, bytes):
            return self._handed_out(leaf, fresh(content), content.fields), True
        value = judged(content) if content[:1] == BARE else serde.loads_typed(untyped(content))
        if type(value) not in KINDS:
            return value, False
        master = master_of(value)
        if master is not None:
            leaf.content = master
            self._handed_out(leaf, value, master.fields)
        return value, True

    def _handed_out(self, leaf: Leaf, message: BaseMessage, fields: dict[str, Any]) -> BaseMessage:
        self._note(_seen_as(leaf, message, fields))
        return message


def _seen_as(leaf: Leaf, item: Any, fields: Any) -> Seen:
    """Remember a new object of a leaf: in the leaf, unless others than `decode` hold the one before."""
    if leaf.item is None or getrefcount(leaf.item) <= OURS:
        leaf.item, leaf.fields = item, fields
        return leaf
    return Seen(item, fields, leaf.element)


def _by_hash(leaves: dict[int, Leaf]) -> tuple[dict[bytes, Element], int]:
    return {leaf.element.hash: leaf.element for leaf in leaves.values()}, len(leaves)


class Decoded(NamedTuple):
    """Objects by the numbers of their elements."""

    messages: dict[int, BaseMessage]
    others: dict[int, Any]
