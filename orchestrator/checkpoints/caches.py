"""What one process remembers of a file. Filled only with what is committed; emptied when rows are removed."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.checkpoints.elements import Hasher, Recent
from orchestrator.checkpoints.heads import Head, Place
from orchestrator.checkpoints.lineage import Window
from orchestrator.checkpoints.nodes import Node
from orchestrator.checkpoints.primers import Primers
from orchestrator.checkpoints.values import Values

_HEADS, _TIPS, _SPACES, _NODE_ITEMS, _LOOSE = 1 << 12, 1 << 9, 1 << 12, 1 << 19, 1 << 16


class Tip(NamedTuple):
    """A checkpoint that was read or written lately: the next one will be much like it."""

    head: Head
    places: dict[str, Place]


class Space(NamedTuple):
    """Where a namespace of a thread is written, and where its steps are seen."""

    number: int
    windows: list[Window]


class Caches:
    """Everything is by number, and numbers are never used twice; so nothing in here grows old.

    When rows are removed, all of it is put aside for a new one: a reader that is still at work fills
    the old one, and an operation made with the old one is made again.
    """

    def __init__(self, key: bytes, epoch: int) -> None:
        self.epoch = epoch
        """The file's count of removals when this began."""
        self.hasher = Hasher(key)
        self.primers = Primers(self.hasher)
        self.values = Values(self.hasher, self.primers)
        self.heads: Recent[int, Head] = Recent(_HEADS)
        self.nodes: Recent[int, Node] = Recent(_NODE_ITEMS)
        self.tips: Recent[tuple[str, str, str], Tip] = Recent(_TIPS)
        """By thread, namespace and checkpoint id."""
        self.spaces: Recent[tuple[str, str], Space] = Recent(_SPACES)
        """By thread and namespace. What others add changes none: of an ancestor, it is not seen."""
        self.loose: Recent[int, bool] = Recent(_LOOSE)
        """Elements that would take more in a block: a list that is turned round is not packed each time."""


class Memory:
    """Holds the caches that count now."""

    def __init__(self, key: bytes, epoch: int) -> None:
        self._key = key
        self.caches = Caches(key, epoch)

    def forget(self, epoch: int) -> None:
        self.caches = Caches(self._key, epoch)
