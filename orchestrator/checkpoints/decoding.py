"""Stored places back to values: fetches all missing elements at once, then builds."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from orchestrator.checkpoints.blocks import elements, fetch
from orchestrator.checkpoints.caches import Caches
from orchestrator.checkpoints.elements import (
    DICT,
    LIST,
    SPLICED,
    Serializer,
    damaged,
    spliced,
    unpack,
    untyped,
)
from orchestrator.checkpoints.heads import Place
from orchestrator.checkpoints.nodes import (
    AS_CHANGED,
    AS_DICT,
    AS_LIST,
    AS_SNAPSHOT,
    DictNode,
    ListNode,
    Node,
    base_of,
    grow_dict,
    grow_list,
    items_at,
    numbers_in,
    numbers_of,
)
from orchestrator.checkpoints.objects import Leaf
from orchestrator.checkpoints.primers import Plains
from orchestrator.checkpoints.rows import Row, Rows


class Decoder:
    """Decodes for one call; within it, equal elements become the same object."""

    def __init__(self, caches: Caches, serde: Serializer) -> None:
        self.caches = caches
        self.serde = serde
        self._leaves: dict[int, Leaf] = {}
        self._nodes: dict[int, Node] = {}
        self._objects: dict[Any, BaseMessage] = {}
        self._whole: tuple[list[Any], list[Leaf]] | None = None
        self._again: tuple[list[Any], list[BaseMessage]] | None = None
        """The leaves and the objects of one long list, in no dictionary yet: most reads want no more."""

    def fetch(self, rows: Rows, places: Iterable[Place]) -> None:
        """Take in everything that the places name; raises StorageError for what is missing or damaged."""
        pieces: list[Row] = []
        todo = {number for place in places for number in numbers_in(place)}
        while todo:
            nodes = self._take_in(rows, todo, pieces)
            todo = set()
            for node in nodes:
                if not self._remembers(node):
                    todo.update(numbers_of(node))
            todo -= self._leaves.keys()
        self._join(rows, pieces)

    def _remembers(self, node: Node) -> bool:
        """Whether all that a node names is taken in; takes in what is remembered of a list as a whole."""
        if isinstance(node, DictNode):
            return False
        # In a history, most of it belongs to the checkpoint before, too.
        if all(map(self._leaves.__contains__, node.items)):
            return True
        leaves = self.caches.values.leaves(node.items)  # type: ignore[arg-type]
        if not all(leaves):
            return False
        self._unfold()
        self._whole = node.items, leaves  # type: ignore[assignment]
        return True

    def _unfold(self) -> None:
        """Bring what is known of whole lists where it is found by number."""
        if self._whole is not None:
            self._leaves.update(zip(*self._whole, strict=True))
            self._whole = None
        if self._again is not None:
            self._objects.update(zip(*self._again, strict=True))
            self._again = None

    def _take_in(self, rows: Rows, numbers: set[int], pieces: list[Row]) -> list[Node]:
        """Take in these elements, and what their lists and dictionaries build on; returns those."""
        stored: dict[int, Row] = {}
        missing = self._not_remembered(numbers)
        while missing:
            found, blocks = fetch(rows, list(missing))
            lost = missing.difference([row[0] for row in found], *(block.numbers for block in blocks))
            if lost:
                raise damaged(f"element {min(lost)} is missing")
            bases = set()
            branching = [row for row in found if row[1] in _BRANCHING]
            contents = [row for row in found if row[1] not in _BRANCHING] if branching else found
            for row in branching:
                number, kind, digest, data = row
                if kind == SPLICED:
                    pieces.append(row)
                    self._leaves[number] = _PENDING
                    continue
                if self.caches.hasher(data) != digest:
                    raise damaged(f"element {number} is not what was written")
                stored[number] = row
                bases.add(base_of(data))
            plains = self.caches.primers.plains(rows, contents)
            self._leaves.update(self.caches.values.read(contents, plains))
            self._leaves.update(self.caches.values.read_blocks(blocks))
            missing = self._not_remembered(bases - {0} - stored.keys())
        for number in stored.keys() & numbers:
            self._grow(number, stored)
            node = self._nodes[number]
            self.caches.nodes.put(number, node, len(node.items))
        return [self._nodes[number] for number in numbers if number in self._nodes]

    def _not_remembered(self, numbers: set[int]) -> set[int]:
        listed = list(numbers)
        leaves = self.caches.values.leaves(listed)
        if all(leaves):
            self._leaves.update(zip(listed, leaves, strict=True))  # type: ignore[arg-type]
            return set()
        self._unfold()
        missing = set()
        nodes = self.caches.nodes.get_all(listed)
        for number, leaf, node in zip(listed, leaves, nodes, strict=True):
            if leaf is not None:
                self._leaves.setdefault(number, leaf)
            elif number in self._leaves or number in self._nodes:
                continue
            elif node is None:
                missing.add(number)
            else:
                self._nodes[number] = node
        return missing

    def _grow(self, number: int, stored: dict[int, Row]) -> None:
        """Build a list or dictionary from the versions that it is a difference to."""
        chain: list[int] = []
        while number not in self._nodes:
            if number not in stored or len(chain) > len(stored):
                raise damaged(f"element {number} builds on itself")
            chain.append(number)
            number = base_of(stored[number][3])
            if not number:
                break
        for step in reversed(chain):
            _, kind, _, data = stored[step]
            self._nodes[step] = (
                grow_list(data, self._list_at) if kind == LIST else grow_dict(data, self._dict_at)
            )

    def _list_at(self, number: int) -> ListNode:
        node = self._nodes.get(number)
        if not isinstance(node, ListNode):
            raise damaged(f"element {number} is no list")
        return node

    def _dict_at(self, number: int) -> DictNode:
        node = self._nodes[number]
        if not isinstance(node, DictNode):
            raise damaged(f"element {number} is no dictionary")
        return node

    def _join(self, rows: Rows, pieces: list[Row]) -> None:
        """Put the texts of other elements back into those that point at them."""
        split = {row[0]: spliced(row[3]) for row in pieces}
        bases = {
            number: self.caches.primers.plain(rows, kind, data)
            for number, kind, _, data in elements(rows, list({fields[0] for fields in split.values()}))
        }
        plains = Plains([], [False] * len(pieces))
        for number, *_ in pieces:
            base, start, length, at, kind, rest = split[number]
            if base not in bases:
                raise damaged(f"element {base} is missing")
            around = unpack(kind, rest)
            plains.contents.append(around[:at] + bases[base][start : start + length] + around[at:])
        self._leaves.update(self.caches.values.read(pieces, plains))

    def value(self, place: Place) -> Any:
        """The value at a place whose elements were fetched."""
        if type(place) is int:
            node = self._nodes.get(place)
            if node is None:
                return self._leaf(place)
            if isinstance(node, ListNode):
                return self._items(node.items)
            return {key: self.value(part) for key, part in node.items.items()}
        if type(place) is bytes:
            return self.serde.loads_typed(untyped(place))
        if type(place) is list and len(place) == 2:
            tag, inside = place
            if tag == AS_LIST:
                return self._items(inside)
            if tag == AS_DICT:
                return {key: self.value(part) for key, part in inside.items()}
            if tag == AS_CHANGED:
                return self._items(items_at(inside, self._list_at))
            if tag == AS_SNAPSHOT:
                return _DeltaSnapshot(self.value(inside))
        raise damaged("a value of unknown shape")

    def _items(self, items: list[int | bytes]) -> list[Any]:
        if self._whole is not None and self._whole[0] is items and self._again is None and not self._objects:
            again = self.caches.values.again(*self._whole)
            if again is not None:
                self._again = items, again
                return list(again)
        self._unfold()
        objects = self._objects
        with suppress(KeyError):
            return list(map(objects.__getitem__, items))
        others = self._decode([item for item in items if type(item) is int and item not in objects])
        if not others:
            with suppress(KeyError):
                return list(map(objects.__getitem__, items))
        return [self._item(item, others) for item in items]

    def _item(self, item: int | bytes, others: dict[int, Any]) -> Any:
        if type(item) is int:
            return self._objects[item] if item in self._objects else others[item]
        return self.serde.loads_typed(untyped(item))  # type: ignore[arg-type]

    def _leaf(self, number: int) -> Any:
        self._unfold()
        if number in self._objects:
            return self._objects[number]
        others = self._decode([number])
        return others[number] if number in others else self._objects[number]

    def _decode(self, numbers: list[int]) -> dict[int, Any]:
        """Make objects of elements; remembers the messages and returns the other values."""
        messages, others = self.caches.values.decode(self.serde, self._leaves, numbers)
        self._objects.update(messages)
        return others


_BRANCHING = frozenset({LIST, DICT, SPLICED})
"""Kinds of elements that name others."""
_PENDING: Any = ()
"""Stands for an element until its text is found."""
