"""Put a folder into a Git tree and back, losslessly: all mode bits, names that Git refuses, empty folders.

Names are percent-encoded where Git or its fsck would stumble (`.git`, backslashes, look-alikes); what a
tree cannot hold stands in a blob beside the entries, whose name no encoded name can have.
"""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

from orchestrator.snapshots.model import Entry, Folder

MORE = b"%more"
_GIT_MODES = {"link": b"120000", "folder": b"40000"}
_USUAL = {"folder": 0o755, "link": 0}


@lru_cache(maxsize=65536)
def encoded(name: str) -> bytes:
    """A name as it stands in a tree."""
    plain = quote_from_bytes(os.fsencode(name), safe="+,=@:()[]{}!").replace("~", "%7E")
    # Whatever begins with a dot or a `g` may be one of the many spellings of `.git` that fsck knows.
    if plain[0] in ".gG":
        plain = f"%{ord(plain[0]):02X}{plain[1:]}"
    return plain.encode()


def decoded(name: bytes) -> str:
    """The name that an encoded one stands for."""
    return os.fsdecode(unquote_to_bytes(name))


def encode(folder: Folder) -> tuple[list[tuple[bytes, bytes, str]], bytes]:
    """The entries as (Git mode, name, id) and the blob of what they cannot say, empty if nothing."""
    rows, more = [], []
    if folder.is_partial:
        more.append(b"partial")
    if folder.mode is not None:
        more.append(b"root %o" % folder.mode)
    for name, entry in folder.entries.items():
        plain = encoded(name)
        if entry.kind in {"left", "absent"}:
            why = quote_from_bytes(entry.why.encode()).encode()
            more.append(b" ".join([entry.kind.encode(), b"%o" % entry.mode, entry.id.encode(), why, plain]))
            continue
        git_mode = _GIT_MODES.get(entry.kind) or (b"100755" if entry.mode & 0o100 else b"100644")
        rows.append((git_mode, plain, entry.id))
        if entry.mode != _usual(git_mode, entry.kind):
            more.append(b"mode %o %s" % (entry.mode, plain))
    return rows, b"".join(line + b"\n" for line in sorted(more))


def _usual(git_mode: bytes, kind: str) -> int:
    return _USUAL[kind] if kind in _USUAL else int(git_mode[-3:], 8)


def tree_bytes(rows: list[tuple[bytes, bytes, str]]) -> bytes:
    """A Git tree object; Git sorts folders as if their names ended in a slash."""
    rows.sort(key=lambda row: row[1] + b"/" if row[0] == b"40000" else row[1])
    return b"".join(mode + b" " + name + b"\0" + bytes.fromhex(found) for mode, name, found in rows)


def rows_of(tree: bytes) -> list[tuple[bytes, bytes, str]]:
    """The entries of a Git tree object as (Git mode, name, id)."""
    rows, at = [], 0
    while at < len(tree):
        space, end = tree.index(b" ", at), tree.index(b"\0", at)
        rows.append((tree[at:space], tree[space + 1 : end], tree[end + 1 : end + 21].hex()))
        at = end + 21
    return rows


def decode(rows: list[tuple[bytes, bytes, str]], more: bytes) -> Folder:
    """The folder that was encoded; `more` is the content of the blob beside the entries."""
    entries: dict[str, Entry] = {}
    for git_mode, plain, found in rows:
        if git_mode == b"40000":
            entries[decoded(plain)] = Entry("folder", 0o755, found)
        elif git_mode == b"120000":
            entries[decoded(plain)] = Entry("link", 0, found)
        elif plain != MORE:
            entries[decoded(plain)] = Entry("file", int(git_mode[-3:], 8), found)
    is_partial, root = False, None
    for line in more.split(b"\n")[:-1]:
        word, *rest = line.split(b" ")
        if word == b"partial":
            is_partial = True
        elif word == b"root":
            root = int(rest[0], 8)
        elif word == b"mode":
            name = decoded(rest[1])
            entries[name] = entries[name]._replace(mode=int(rest[0], 8))
        elif word == b"left":
            why = unquote_to_bytes(rest[2]).decode()
            entries[decoded(rest[3])] = Entry("left", int(rest[0], 8), rest[1].decode(), why)
        else:
            entries[decoded(rest[3])] = Entry("absent")
    return Folder(entries, is_partial, root)
