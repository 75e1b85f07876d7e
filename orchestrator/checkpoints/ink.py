"""One transaction's writing: gives numbers to new elements and turns trees into places.

Nothing is remembered before `committed` is called, so a transaction that fails leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.checkpoints.blocks import FEW, LARGE, LARGEST, blocks_of, is_worth_it, write_block
from orchestrator.checkpoints.caches import Caches
from orchestrator.checkpoints.elements import DICT, LIST, PRIMER, SPLICED, Element, write_node
from orchestrator.checkpoints.heads import Place
from orchestrator.checkpoints.nodes import (
    AS_CHANGED,
    AS_DICT,
    AS_LIST,
    AS_SNAPSHOT,
    SHORT,
    DictNode,
    Item,
    ListNode,
    Node,
    changed_list,
    shrink_dict,
    shrink_list,
)
from orchestrator.checkpoints.objects import Long
from orchestrator.checkpoints.primers import PART
from orchestrator.checkpoints.rows import Rows
from orchestrator.checkpoints.values import Snapshot, Tree
from orchestrator.errors import StorageError

_number = attrgetter("number")


class Ends(NamedTuple):
    """The last numbers given, 0 where none was asked for."""

    step: int
    element: int


class Ink:
    """Writes into one transaction."""

    def __init__(self, rows: Rows, caches: Caches, ends: Ends | None = None) -> None:
        """`ends` are those of the transaction before, if no other came between."""
        self.rows = rows
        self.removes = False
        """Whether rows are removed, so that nothing remembered can be relied on."""
        self._caches = caches
        self._seq, self._number = ends or (0, 0)
        self._packed = 0
        """Bytes of content as stored, of each element up to what a primer takes of it."""
        self._new: list[tuple[int, int, bytes, bytes]] = []
        self._elements: dict[bytes, tuple[int, list[Element]]] = {}
        self._nodes: dict[int, Node] = {}
        self._listed: list[list[int]] = []
        """What each new row of a list names; lists that do not share a row do not share a block."""
        self._later: list[Callable[[], None]] = []

    def next_seq(self) -> int:
        """A number for the next step; use it or lose it."""
        self._seq = self._seq + 1 if self._seq else self.rows.next_step()
        return self._seq

    @property
    def ends(self) -> Ends:
        """The last numbers given."""
        return Ends(self._seq, self._number)

    def after_commit(self, work: Callable[[], None]) -> None:
        self._later.append(work)

    def finish(self) -> None:
        """Write what is left, before the commit."""
        self.rows.add_elements(self._new)
        self._new = []
        for numbers in self._listed:
            self.pack_together(numbers)
        if self._packed and not self.removes:
            self._prime()

    def pack_together(self, numbers: Iterable[int]) -> None:
        """Move elements that have small rows of their own into blocks, in this order, if it is worth it."""
        loose = self._caches.loose
        wanted = [number for number in dict.fromkeys(numbers) if loose.get(number) is None]
        alone = {row[0]: row for row in self.rows.small_contents(wanted, LARGE)}
        found = [alone[number] for number in wanted if number in alone]
        if len(found) < FEW:
            return
        try:
            contents, checked = self._caches.primers.plains(self.rows, found)
        except StorageError:
            # It stays where it is, for who reads it to be told.
            return
        sound = [
            (row, content)
            for row, content, is_checked in zip(found, contents, checked, strict=True)
            if len(content) < LARGEST and (is_checked or self._caches.hasher(content) == row[2])
        ]
        for block in blocks_of(sound):
            data = write_block(block)
            if is_worth_it(data, [alone[number][3] for number in block.numbers]):
                self.rows.add_block(self._next_number(), data, block.numbers)
            else:
                loose.put_all(dict.fromkeys(block.numbers, True), len(block.numbers))

    def _prime(self) -> None:
        """Make a primer of what was written up to now, when it is time for one."""
        primers = self._caches.primers
        made = primers.make(self.rows, self._number + 1, self._packed)
        if made is not None:
            primer, data = made
            self._add(PRIMER, self._caches.hasher(data), data)
            self.rows.add_elements(self._new)
            self.rows.set_meta("primer", primer.number)
            self.after_commit(lambda: primers.use(primer))

    def committed(self) -> None:
        """Remember what is now certain."""
        for number, elements in self._elements.values():
            for element in elements:
                self._caches.values.committed(element, number)
        for number, node in self._nodes.items():
            self._caches.nodes.put(number, node, len(node.items))
        for work in self._later:
            work()

    def place(self, tree: Tree, before: Place = None) -> Place:
        """Where a value is, after writing what is new of it; `before` is where its last version is."""
        if type(tree) is bytes:
            return tree
        if type(tree) is Element:
            return self._numbered(tree)
        if type(tree) is Long:
            items = tree.items + self._items(tree[len(tree.items) :])
            self.after_commit(lambda: tree.committed(items))
            return self._list(items, before)
        if type(tree) is list:
            # A list's parts do not branch, which their type does not say.
            parts: list[Any] = tree
            items = self._items(parts)
            return [AS_LIST, items] if len(items) <= SHORT else self._list(items, before)
        if type(tree) is dict:
            old = self._dict_before(before)
            places = {key: self.place(part, old.get(key)) for key, part in tree.items()}
            return [AS_DICT, places] if len(places) <= SHORT else self._dict(places, before)
        if type(tree) is Snapshot:
            inside = before[1] if type(before) is list and before[0] == AS_SNAPSHOT else before
            return [AS_SNAPSHOT, self.place(tree.tree, inside)]
        raise TypeError(type(tree))

    def _items(self, parts: list[Any]) -> list[Item]:
        items: list[Any] = []
        # Nearly all have a number already, and are taken over in one call.
        with suppress(AttributeError):
            items = list(map(_number, parts))
        start = items.index(None) if None in items else len(items)
        rest = (part if type(part) is bytes else self._numbered(part) for part in parts[start:])
        return [*items[:start], *rest]

    def _node(self, number: Place) -> Node | None:
        if type(number) is not int:
            return None
        return self._nodes.get(number) or self._caches.nodes.get(number)

    def _dict_before(self, before: Place) -> dict[str, Place]:
        if type(before) is list and before[0] == AS_DICT:
            return before[1]  # type: ignore[no-any-return]
        node = self._node(before)
        return node.items if isinstance(node, DictNode) else {}

    def _list(self, items: list[Item], before: Place) -> Place:
        number = before[1][0] if type(before) is list and before[0] == AS_CHANGED else before
        node = self._node(number)
        old = node if isinstance(node, ListNode) else None
        if old is not None:
            if old.items == items:
                return int(number)
            changed = changed_list(items, number, old)
            if changed is not None:
                return changed
        data, depth, named = shrink_list(items, number if old is not None else 0, old)
        self._listed.append([item for item in named if type(item) is int])
        return self._add_node(LIST, data, ListNode(items, depth))

    def _dict(self, places: dict[str, Any], before: Place) -> int:
        node = self._node(before)
        old = node if isinstance(node, DictNode) else None
        if old is not None and old.items == places and list(old.items) == list(places):
            return int(before)
        data, depth = shrink_dict(places, before if old is not None else 0, old)
        return self._add_node(DICT, data, DictNode(places, depth))

    def _add_node(self, kind: int, data: bytes, node: Node) -> int:
        number = self._add(kind, self._caches.hasher(data), data)
        self._nodes[number] = node
        return number

    def _numbered(self, element: Element) -> int:
        if element.number is not None:
            return element.number
        known = self._elements.get(element.hash)
        if known is not None:
            if element not in known[1]:
                known[1].append(element)
            return known[0]
        body = element.body
        data = body.data
        if body.kind == SPLICED and body.base is not None:
            start, length, at, kind = body.splice
            data = write_node([self._numbered(body.base), start, length, at, kind, data])
        else:
            self._packed += min(len(data), PART)
        number = self._add(body.kind, element.hash, data)
        self._elements[element.hash] = (number, [element])
        return number

    def _add(self, kind: int, digest: bytes, data: bytes) -> int:
        number = self._next_number()
        self._new.append((number, kind, digest, data))
        return number

    def _next_number(self) -> int:
        self._number = self._number + 1 if self._number else self.rows.next_element()
        return self._number
