"""Tell two snapshots apart, reading only the folders that differ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from orchestrator.snapshots.model import ABSENT, UNSEEN, Change, Entry, Folder, is_same
from orchestrator.snapshots.objects import Objects
from orchestrator.snapshots.places import ROOT
from orchestrator.snapshots.trees import MORE, decode, rows_of

Kind = Literal["added", "changed", "removed", "mode", "type"]
_NOTHING = Folder({})
_BINARY_SAMPLE = 8_000


class Trees:
    """The snapshots' folders, decoded."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.folder = lru_cache(maxsize=4096)(self._folder)

    def _folder(self, tree: str) -> Folder:
        rows = rows_of(self._objects.read(tree))
        more = next((found for _, name, found in rows if name == MORE), "")
        return decode(rows, self._objects.read(more) if more else b"")

    def at(self, snapshot: str, path: str) -> Entry:
        """What a snapshot has at a path; a folder without its tree."""
        found = self.whole(snapshot, path)
        return bare(found)

    def whole(self, snapshot: str, path: str) -> Entry:
        """The same, a folder with its tree."""
        top = self.folder(snapshot)
        entry = Entry("folder", top.mode or 0, snapshot)
        if path == ROOT:
            return entry
        for part in path.split("/"):
            if entry.kind in {"left", "unseen"}:
                return UNSEEN
            if entry.kind != "folder":
                return ABSENT
            folder = self.folder(entry.id)
            entry = folder.entries.get(part, UNSEEN if folder.is_partial else ABSENT)
        return entry

    def differences(self, before: str, after: str) -> Iterator[tuple[str, Entry, Entry]]:
        """Every path that is not the same in both, folders before what is in them."""
        if before == after:
            return
        one, other = self.folder(before), self.folder(after)
        if one.mode != other.mode:
            yield ROOT, Entry("folder", one.mode or 0), Entry("folder", other.mode or 0)
        yield from self._between(one, other, "")

    def _between(self, one: Folder, other: Folder, prefix: str) -> Iterator[tuple[str, Entry, Entry]]:
        for name in sorted(one.entries.keys() | other.entries.keys()):
            was = one.entries.get(name, UNSEEN if one.is_partial else ABSENT)
            now = other.entries.get(name, UNSEEN if other.is_partial else ABSENT)
            if is_same(was, now) or "unseen" in {was.kind, now.kind}:
                continue
            path = prefix + name
            if not is_same(bare(was), bare(now)):
                yield path, bare(was), bare(now)
            if "left" not in {was.kind, now.kind}:
                yield from self._between(self._within(was), self._within(now), f"{path}/")

    def _within(self, entry: Entry) -> Folder:
        return self.folder(entry.id) if entry.kind == "folder" else _NOTHING

    def change(self, path: str, was: Entry, now: Entry) -> Change:
        """A difference as people see it."""
        ids = [entry.id for entry in (was, now) if entry.kind == "file"]
        what = "left" if "left" in {was.kind, now.kind} else (now if now.is_there else was).kind
        return Change(
            path,
            kind=_kind(was, now),
            what=what,  # type: ignore[arg-type]
            before=self.bytes(was),
            after=self.bytes(now),
            is_binary=any(b"\0" in self._objects.read(found)[:_BINARY_SAMPLE] for found in ids),
            modes=(was.mode, now.mode),
        )

    def bytes(self, entry: Entry) -> int:
        """Of a file or a link; 0 for the rest."""
        return self._objects.size(entry.id) if entry.kind in {"file", "link"} else 0


def bare(entry: Entry) -> Entry:
    """An entry without its folder's content, which has entries of its own."""
    return entry._replace(id="") if entry.kind == "folder" else entry


def _kind(was: Entry, now: Entry) -> Kind:
    if not was.is_there:
        return "added"
    if not now.is_there:
        return "removed"
    if was.kind != now.kind:
        return "type"
    return "mode" if was.id == now.id else "changed"
