"""What is remembered of objects that were stored or read, and whether they still are what they were.

An object is recognised by its identity and its unchanged fields, because making bytes of thousands of
messages at every step takes far longer than the step.
"""

from __future__ import annotations

from operator import attrgetter, eq
from sys import getrefcount
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from orchestrator.checkpoints.elements import Element
from orchestrator.checkpoints.messages import EMPTY, Master, master_from


class Seen:
    """An object that was stored or read, and what it was then."""

    __slots__ = ("element", "fields", "item")

    def __init__(self, item: Any, fields: dict[str, Any] | bytes | None, element: Element) -> None:
        self.item = item
        self.fields = fields
        """Those that it had: as stored until they are asked for, None for what cannot change."""
        self.element = element


class Leaf(Seen):
    """An element that was read or written, and the object that was handed out for it last."""

    __slots__ = ("content",)

    def __init__(self, element: Element, content: Master | bytes) -> None:
        self.item: Any = None
        self.fields: dict[str, Any] | bytes | None = None
        self.element = element
        self.content: Master | bytes = content
        """A message's fields, or the serialised bytes."""


class Long(list[Any]):
    """The tree of a long list; its parts do not branch."""

    __slots__ = ("items",)

    def __init__(self, parts: list[Any], items: list[Any]) -> None:
        super().__init__(parts)
        self.items = items
        """What the first of them are called in the file; of all of them once they are committed."""

    def committed(self, items: list[Any]) -> None:
        self.items = items


class Known(NamedTuple):
    """A long list of messages that was encoded lately; most of the next one is the same.

    It holds no message itself: who reads counts their references.
    """

    ids: list[int]
    fields: list[dict[str, Any]]
    tree: Long


class Handed(NamedTuple):
    """A long list of messages that was read twice on end, and will be read again."""

    numbers: list[Any]
    """The very list that its node has."""
    leaves: list[Leaf]
    items: list[BaseMessage]
    states: list[tuple[dict[str, Any], dict[str, Any]]]
    """What `_state` gives for each, as long as it is unchanged."""

    @classmethod
    def of(cls, numbers: list[Any], leaves: list[Leaf], items: list[BaseMessage]) -> Handed:
        """For what `free_again` gave."""
        nothing: dict[str, Any] = {}
        return cls(numbers, leaves, items.copy(), [(leaf.fields, nothing) for leaf in leaves])  # type: ignore[misc]

    def again(self) -> list[BaseMessage] | None:
        """The objects, if nobody holds or has changed any of them."""
        items = self.items.copy()
        if set(map(getrefcount, items)) != {_OURS_HANDED}:
            return None
        return items if all(map(eq, map(_state, items), self.states)) else None


NOTHING = Known([], [], Long([], []))
_extra, _dict = attrgetter("__pydantic_extra__"), attrgetter("__dict__")
_state = attrgetter("__dict__", "__pydantic_extra__")
_item, _fields = attrgetter("item"), attrgetter("fields")


def fields_of(seen: Seen) -> dict[str, Any] | None:
    """What an object had when it was stored or read, taken from its bytes the first time."""
    stored = seen.fields
    if not isinstance(stored, bytes):
        return stored
    master = master_from(stored)
    fields = {} if master is None else master.fields
    now = seen.item.__dict__
    # The same texts as the object's own where they are equal: one copy, and compared in no time.
    for name, value in fields.items():
        if type(value) is str:
            if now.get(name) == value:
                fields[name] = now[name]
        elif value is not None and not value:
            fields[name] = EMPTY.get(type(value), value)
    seen.fields = fields
    return fields


def unchanged(known: Known, items: list[Any]) -> int:
    """How many items at the start are those of a known list; 0 when one of them was changed.

    Made of calls that go over the whole list at once: a loop in Python takes twice as long.
    """
    same = min(len(known.ids), len(items))
    start = items[:same]
    if list(map(id, start)) != known.ids[:same] or any(map(_extra, start)):
        return 0
    return same if list(map(_dict, start)) == known.fields[:same] else 0


def free_again(leaves: list[Leaf]) -> list[BaseMessage] | None:
    """The objects that leaves handed out, if nobody holds or has changed any of them."""
    # Calls that go over the whole list at once, as above.
    items = list(map(_item, leaves))
    if set(map(getrefcount, items)) != {_OURS_LISTED} or any(map(_extra, items)):
        return None
    return items if list(map(_dict, items)) == list(map(_fields, leaves)) else None


def _references() -> tuple[int, int, int]:
    """How many references an object has that a leaf holds and a variable, one list, or two lists.

    Two threads that read side by side are both counted, so they never get the same object.
    """
    seen = Seen(object(), None, Element(b""))
    item = seen.item
    in_variable = getrefcount(item)
    del item
    first = list(map(_item, [seen]))
    (in_list,) = map(getrefcount, first)
    (in_lists,) = map(getrefcount, first.copy())
    return in_variable, in_list, in_lists


OURS, _OURS_LISTED, _OURS_HANDED = _references()
