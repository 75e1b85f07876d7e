"""Search the documentation of a workspace with SQLite's full-text index, kept up to date file by file.

The index is a cache in `.orc/`: whatever is wrong with it, it is thrown away and built again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import re
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field

from orchestrator.errors import ToolError
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.chunks import chunks
from orchestrator.tools.files import READS
from orchestrator.tools.paths import opened
from orchestrator.tools.walk import counted, missing, walk

KINDS = (".md", ".markdown", ".txt", ".rst", ".html", ".htm", ".adoc")
LARGEST = 5_000_000
MOST_FILES = 5000
HITS = 5
EXCERPT = 900
VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, mtime INTEGER, size INTEGER, digest TEXT);
CREATE VIRTUAL TABLE IF NOT EXISTS chunks USING fts5 (
    heading, text, path UNINDEXED, line UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'
);
"""
_COMMON = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "how", "i", "in",
    "is", "it", "of", "on", "or", "that", "the", "this", "to", "was", "what", "when", "where", "which",
    "who", "why", "will", "with", "you", "your",
})  # fmt: skip


class SearchDocsArguments(Arguments):
    """Arguments of search_docs."""

    query: str = Field(min_length=1, max_length=2000, description="words or a question")
    folder: str | None = Field(
        default=None, description="only this folder or file; default: the documentation"
    )


async def search_docs(arguments: SearchDocsArguments, context: ToolContext) -> str:
    """Return the best sections as `path:line`, heading and text."""
    return await asyncio.to_thread(_search, context.root, arguments, context.settings.docs)


def _search(root: Path, wanted: SearchDocsArguments, configured: list[str]) -> str:
    words = _words(wanted.query)
    if not words:
        raise ToolError("the query has no words; name what you look for")
    places = [wanted.folder] if wanted.folder else _existing(root, configured) or ["."]
    found = dict(_documents(root, places))
    if not found:
        return f"no documents (md, txt, rst, html) in {', '.join(places)}; search_files searches all files"
    rows = _sections(root, found, words)
    if not rows:
        searched = counted(len(found), "document")
        return f"nothing on {wanted.query!r} in {searched}; try other words or search_files"
    return "\n\n".join(f"{path}:{line} {heading}\n{text}".rstrip() for path, line, heading, text in rows)


def _sections(
    root: Path, found: dict[str, os.stat_result], words: list[str]
) -> list[tuple[str, int, str, str]]:
    """The best sections; an index that cannot be used is built again once. Raises ToolError."""
    try:
        return _ask(root, found, words)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise ToolError("the search index is in use by another run; try again") from None
    try:
        _discard(root)
        return _ask(root, found, words)
    except (sqlite3.DatabaseError, OSError) as error:
        raise ToolError(f"the search index cannot be built ({error}); use search_files") from None


def _existing(root: Path, configured: list[str]) -> list[str]:
    places = []
    for place in configured:
        with contextlib.suppress(FileNotFoundError), opened(root, place):
            places.append(place)
    return places


def _documents(root: Path, places: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Path and facts of each document below the given folders and files."""
    count = 0
    for place in places:
        try:
            with opened(root, place) as top:
                if not stat.S_ISDIR(top.stat.st_mode):
                    yield top.relative, top.stat
                    continue
                prefix = "" if top.relative == "." else f"{top.relative}/"
                for entry in walk(top.fd, depth=16):
                    if not (entry.is_file and entry.path.lower().endswith(KINDS)):
                        continue
                    if entry.stat.st_size <= LARGEST and count < MOST_FILES:
                        count += 1
                        yield prefix + entry.path, entry.stat
        except FileNotFoundError:
            raise missing(root, place, folder=True) from None


def _index(root: Path) -> Path:
    folder = root / ".orc"
    if folder.is_symlink():
        raise ToolError(".orc is a link; the search index is kept in a real folder only")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ToolError(
            f"the search index cannot be kept in .orc ({error.strerror}); use search_files"
        ) from None
    return folder / "docs.db"


def _discard(root: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        _index(root).with_name(f"docs.db{ending}").unlink(missing_ok=True)


def _ask(root: Path, found: dict[str, os.stat_result], words: list[str]) -> list[tuple[str, int, str, str]]:
    with contextlib.closing(sqlite3.connect(_index(root), timeout=10)) as db:
        if db.execute("PRAGMA user_version").fetchone()[0] not in {0, VERSION}:
            raise sqlite3.DatabaseError("an index of another version")
        db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
        with db:
            _refresh(db, root, found)
        # The stemmer parts some pairs (`walrus`, `walruses`); beginnings of words come last.
        starts = [f"{word}*" for word in words if len(word) > 5] or words
        queries = " AND ".join(words), " OR ".join(words), " OR ".join(starts)
        return next((rows for query in queries if (rows := _hits(db, query, found))), [])


def _refresh(db: sqlite3.Connection, root: Path, found: dict[str, os.stat_result]) -> None:
    """Bring the index to what the files are now; unchanged ones are not read."""
    known = {path: (mtime, size, digest) for path, mtime, size, digest in db.execute("SELECT * FROM files")}
    for path in known.keys() - found.keys():
        if not (root / path).is_file():
            _forget(db, path)
    for path, facts in found.items():
        before = known.get(path)
        if before and before[:2] == (facts.st_mtime_ns, facts.st_size):
            continue
        raw = _content(root, path)
        if raw is None:
            continue
        digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
        if not before or before[2] != digest:
            _forget(db, path)
            _add(db, path, raw)
        row = (path, facts.st_mtime_ns, facts.st_size, digest)
        db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)


def _content(root: Path, path: str) -> bytes | None:
    try:
        with opened(root, path) as file, os.fdopen(file.fd, "rb", closefd=False) as stream:
            raw = stream.read(LARGEST)
    except (OSError, ToolError):
        return None
    return None if b"\0" in raw[:8192] else raw


def _forget(db: sqlite3.Connection, path: str) -> None:
    db.execute("DELETE FROM chunks WHERE path = ?", (path,))
    db.execute("DELETE FROM files WHERE path = ?", (path,))


def _add(db: sqlite3.Connection, path: str, raw: bytes) -> None:
    parts = chunks(path, raw.decode("utf-8", "replace"))
    rows = [(part.heading, part.text, path, part.line) for part in parts]
    db.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?)", rows)


def _words(query: str) -> list[str]:
    """The query as quoted FTS5 strings, so that no sign in it means anything; common words are left out."""
    words = list(dict.fromkeys(word.casefold() for word in re.findall(r"\w+", query)))[:32]
    telling = [word for word in words if word not in _COMMON]
    return [f'"{word}"' for word in telling or words]


def _hits(
    db: sqlite3.Connection, query: str, found: dict[str, os.stat_result]
) -> list[tuple[str, int, str, str]]:
    rows = db.execute(
        "SELECT path, line, heading, text FROM chunks WHERE chunks MATCH ? "
        "ORDER BY bm25(chunks, 4.0, 1.0) LIMIT 200",
        (query,),
    )
    best = [row for row in rows if row[0] in found][:HITS]
    words = [word.strip('"*') for word in re.split(r" (?:AND|OR) ", query)]
    return [_excerpt(row, words) for row in best]


def _excerpt(row: tuple[str, int, str, str], words: list[str]) -> tuple[str, int, str, str]:
    """The section from a little before its first word that was looked for, 900 characters at most."""
    path, line, heading, text = row
    lines = text.splitlines()
    stems = [word[: max(4, len(word) - 3)] for word in words]
    at = next((n for n, item in enumerate(lines) if any(stem in item.casefold() for stem in stems)), 0)
    start = max(0, at - 2) if len(text) > EXCERPT else 0
    body = "\n".join(lines[start:]).strip()
    return path, int(line) + start, heading, body if len(body) <= EXCERPT else f"{body[:EXCERPT]} …"


SEARCH_DOCS = Tool(
    name="search_docs",
    description="Search the documentation by words; shows the best sections with their place.",
    arguments=SearchDocsArguments,
    run=search_docs,
    effects=dataclasses.replace(READS, paths=("folder",)),
    seconds=60,
)
