"""What snapshots are told and what they answer: plain values, no files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

SNAPSHOTS = "snapshots"
"""The folder in the workspace's state folder."""
Edge = tuple[str, str]
"""The snapshots before and after one call."""


class Entry(NamedTuple):
    """What is at one path. Two entries are the same thing when `is_same` says so."""

    kind: Literal["file", "link", "folder", "left", "absent", "unseen"]
    """`left` is there and not kept; `unseen` may be there, nobody looked."""
    mode: int = 0
    """The twelve permission bits; 0 for a link."""
    id: str = ""
    """The blob of a file or link, the tree of a folder; for what is left out, a fingerprint."""
    why: str = ""
    """Why it was left out."""

    @property
    def is_there(self) -> bool:
        """Whether something is at the path, as far as anyone knows."""
        return self.kind != "absent"


ABSENT, UNSEEN = Entry("absent"), Entry("unseen")


def is_same(one: Entry, other: Entry) -> bool:
    """Whether nothing changed between the two; why a thing was left out does not count."""
    if one.kind == other.kind == "left":
        return one.id == other.id
    return one == other


class Folder(NamedTuple):
    """The entries of one folder by name."""

    entries: dict[str, Entry]
    is_partial: bool = False
    """Names that are not listed are unseen, not absent."""
    mode: int | None = None
    """Of the workspace's own folder; the other folders have theirs in the entry above."""


@dataclass(frozen=True)
class SnapshotLimits:
    """Above these, things are left out with a note that names them."""

    file_bytes: int = 50 << 20
    new_bytes: int = 256 << 20
    """Content that one snapshot may add; about 5 s of work."""
    entries: int = 200_000
    heavy_entries: int = 1_000
    """For folders that tools fill and can fill again, such as node_modules."""
    heavy_bytes: int = 20 << 20
    depth: int = 120
    """Folders in folders; each holds a descriptor and a few frames of the stack on the way down."""


@dataclass(frozen=True)
class Snapshot:
    """The workspace at one moment."""

    id: str
    """Equal for equal trees."""
    notes: tuple[str, ...] = ()
    """What is not in it, and why: one line each."""


@dataclass(frozen=True)
class Change:
    """How one path differs between two snapshots."""

    path: str
    kind: Literal["added", "changed", "removed", "mode", "type"]
    what: Literal["file", "link", "folder", "left"]
    """What it is afterwards, or was if it is gone; `left` is not kept and cannot be undone."""
    before: int = 0
    """Bytes."""
    after: int = 0
    is_binary: bool = False
    modes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Action:
    """One path that an undo will change."""

    path: str
    verb: Literal["create", "write", "delete", "mode"]
    seen: Entry
    """What was on disk when the plan was made; anything else by now is the user's."""
    target: Entry
    bytes_now: int = 0
    bytes_then: int = 0


@dataclass(frozen=True)
class Conflict:
    """A path that is left as it is, or on the way, because going on would lose something."""

    path: str
    reason: str
    is_forceable: bool = False
    """Whether `force` would restore it all the same."""


@dataclass(frozen=True)
class Plan:
    """Exactly what an undo would do."""

    now: str
    """The workspace when the plan was made: what `apply` replaces can be read from it."""
    actions: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    forced: tuple[Action, ...] = ()
    """What `force` would do instead of `actions`."""
    forced_conflicts: tuple[Conflict, ...] = ()
    """What stays as it is even with `force`."""
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do and nothing to tell."""
        return not self.actions and not self.conflicts


@dataclass(frozen=True)
class Applied:
    """What an undo did."""

    before: str
    """The snapshot to go back to."""
    done: tuple[Action, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = field(default=())
