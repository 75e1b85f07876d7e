"""The SQLite file beneath the checkpoints: its tables, its connections, one writer per process.

Other engines may take this place later: everything above uses `Storage` and the plain row classes.
The tables stand beside those of `orchestrator.storage` in `.orc/state.db`, with a format of their own,
and in any other file just as well.

Steps are appended and never changed: `seq` grows over the whole file, so a number says what was there
at that moment. `synchronous=normal`: what was committed survives the end of the process, however it
ends. After a power cut the last steps may be missing, never torn; the journal syncs the same log before
every effect, and with it all checkpoints before that.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakSet

from orchestrator.checkpoints.rows import Rows
from orchestrator.errors import StorageError
from orchestrator.storage import APPLICATION_ID, CHECKPOINT_FORMAT, PAGE_BYTES, too_new

T = TypeVar("T")

FORMAT = CHECKPOINT_FORMAT
"""1: before primers. 2: before checksums of steps and bare messages. 3: before blocks. Such a file is read as
it is, and becomes one of this format when it is written to."""
WAIT_SECONDS = 30.0
"""How long a write waits for other processes before it fails."""
MEMORY = ":memory:"
_AT_ONCE = "pragma busy_timeout=0"
"""How the writing connection is told to wait for nobody; `_begin` has a wait of its own."""

_TABLES = """
create table ck_meta(name text primary key, value) without rowid;
create table ck_threads(n integer primary key, id text unique, parent integer, upto integer);
create index ck_threads_parent on ck_threads(parent) where parent is not null;
create table ck_spaces(thread integer, ns text, n integer not null, primary key(thread, ns))
  without rowid;
create table ck_elements(n integer primary key, kind integer not null, hash blob not null,
  data blob not null);
create table ck_steps(seq integer primary key, space integer not null, kind integer not null,
  tag integer not null, rest, parent, data blob not null);
create index ck_steps_space on ck_steps(space);
create index ck_steps_tag on ck_steps(space, tag);
"""
_BLOCK_TABLES = """
create table if not exists ck_blocks(n integer primary key, data blob not null);
create table if not exists ck_members(n integer primary key, block integer not null);
"""


class Storage(Protocol):
    """What the saver needs of an engine: one transaction at a time, and views of what is committed."""

    key: bytes
    """The secret of the file's hashes."""

    def write(self, work: Callable[[Rows, bool], T], committed: Callable[[T], None], *, wait: bool) -> None:
        """Run `work` in a transaction, then `committed` on its result before anyone else's turn.

        `work` is told whether others committed since the last turn. Raises StorageError, and nothing is
        kept; with `wait=False`, raises Busy instead of waiting for a turn.
        """

    def peek(self, look: Callable[[Rows, bool], T]) -> T:
        """Look at what is committed, in a turn of its own."""

    def reading(self) -> AbstractContextManager[Rows]:
        """One consistent view, beside whatever is being written."""

    def compact(self) -> None:
        """Give unused space back."""

    def close(self) -> None:
        """Close all connections; closing twice does nothing."""


class Busy(Exception):
    """Another thread or process is writing."""


def explained(error: Exception, path: Path | str) -> StorageError:
    """What the user reads instead of SQLite's words."""
    text = str(error)
    if any(sign in text for sign in ("not a database", "malformed", "encrypted", "no such table")):
        advice = "it is damaged or no file of orc; move it away or restore a backup"
    elif "readonly" in text or "read-only" in text:
        advice = "make the file and its folder writable, then run the same command again"
    elif "full" in text or "disk I/O" in text or "too large" in text or "too big" in text:
        advice = "free some disk space, then run the same command again; what was saved before is kept"
    elif "locked" in text or "busy" in text:
        advice = "another program holds the file; close it, then run the same command again"
    else:
        advice = "check that the folder is writable and that no other program holds the file"
    return StorageError(f"cannot use the checkpoints in {path}: {text}; {advice}")


_OPEN: WeakSet[SqliteStorage] = WeakSet()
_FORK_SECONDS = 5.0
"""How long a fork waits for commits; a fork from within one would else wait for itself."""


def _before_fork() -> None:
    """Let no commit be under way: to the child, its locks would be held for ever."""
    for storage in list(_OPEN):
        storage.is_held = storage.lock.acquire(timeout=_FORK_SECONDS)


def _after_fork() -> None:
    for storage in list(_OPEN):
        if storage.is_held:
            storage.is_held = False
            storage.lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class SqliteStorage:
    """A file, or `:memory:`."""

    def __init__(self, path: Path | str, *, shared: bool = False) -> None:
        """Open or make the file; `shared`: another connection of this process moves the log into it."""
        self.path = path
        self._in_memory = str(path) == MEMORY
        self._shared = shared
        self._closed = False
        self._fresh_locks()
        with self._told():
            self._writer = self._connect()
            try:
                self.key, self._is_older = _prepare(self._writer, path)
                if not self._in_memory and self._writer.execute("pragma journal_mode").fetchone()[0] != "wal":
                    self._writer.execute("pragma journal_mode=wal")
                self._writer.execute("pragma synchronous=normal")
                if shared:
                    self._writer.execute("pragma wal_autocheckpoint=0")
                self._writer.execute(_AT_ONCE)
            except BaseException:
                self._writer.close()
                raise
        self._version = -1
        _OPEN.add(self)

    def _fresh_locks(self) -> None:
        self._pid = os.getpid()
        self.lock = threading.Lock()
        """Whoever has it may use the writing connection."""
        self.is_held = False
        """Whether a fork that is under way has it."""
        self._idle: deque[sqlite3.Connection] = deque()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            str(self.path), isolation_level=None, timeout=5, check_same_thread=False, cached_statements=256
        )
        connection.execute("pragma cache_size=-8000")
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise explained(error, self.path) from None

    def _check(self) -> None:
        if self._closed:
            raise StorageError(f"the checkpoints in {self.path} are closed; open them again")
        if self._pid != os.getpid():
            # Connections do not survive a fork; closing them here would drop the parent's locks.
            self._abandoned = (self._writer, self._idle)
            self._fresh_locks()
            with self._told():
                self._writer = self._connect()
                self._writer.execute("pragma synchronous=normal")
                self._writer.execute(_AT_ONCE)
            self._version = -1

    def write(self, work: Callable[[Rows, bool], T], committed: Callable[[T], None], *, wait: bool) -> None:
        """See `Storage.write`."""
        self._check()
        if wait:
            with self.lock:
                self._write(work, committed, wait=True)
            return
        taken: list[bool] = []
        try:
            # A Ctrl-C comes after a call: after one of `acquire`, the lock would stay taken for ever.
            taken += map(self.lock.acquire, (False,))
            if not taken[0]:
                raise Busy
            self._write(work, committed, wait=False)
        finally:
            if True in taken:
                self.lock.release()

    def _write(self, work: Callable[[Rows, bool], T], committed: Callable[[T], None], *, wait: bool) -> None:
        self._check()
        with self._told():
            try:
                # A Ctrl-C may come anywhere, even between this and the next line.
                self._begin(wait)
                if self._is_older:
                    _execute_all(self._writer, _BLOCK_TABLES)
                    self._writer.execute(
                        "update ck_meta set value=max(value, ?) where name='format'", (FORMAT,)
                    )
                done = work(Rows(self._writer), self._changed())
                self._writer.execute("commit")
                self._is_older = False
                committed(done)
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("rollback")
                # What was seen or done in this turn may not be known yet to who asked for it.
                self._version = -1
                raise

    def peek(self, look: Callable[[Rows, bool], T]) -> T:
        """See `Storage.peek`."""
        self._check()
        with self.lock:
            self._check()
            with self._told(), self._patience():
                return look(Rows(self._writer), self._changed())

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Let the writing connection wait for other processes, for what needs no transaction."""
        self._writer.execute("pragma busy_timeout=5000")
        try:
            yield
        finally:
            self._writer.execute(_AT_ONCE)

    def _begin(self, wait: bool) -> None:
        """Take the file's write lock. SQLite's own waiting sleeps longer and longer, which starves."""
        until = time.monotonic() + WAIT_SECONDS
        pause = 0.0003
        if self._writer.in_transaction:
            # Its rollback was interrupted.
            self._writer.execute("rollback")
        while True:
            try:
                self._writer.execute("begin immediate")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                    raise
                if not wait:
                    raise Busy from None
                if time.monotonic() > until:
                    raise
                time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
                pause = min(pause * 1.5, 0.002)
            else:
                return

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """One consistent view of what is committed."""
        self._check()
        if self._in_memory:
            with self.lock, self._told():
                yield Rows(self._writer)
            return
        with self._told():
            connection = self._borrow()
            try:
                connection.execute("begin")
                yield Rows(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("rollback")
                self._idle.append(connection)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("pragma query_only=1")
            return connection

    def _changed(self) -> bool:
        """Whether another connection committed since the last call; asks shared memory, no disk."""
        version = self._writer.execute("pragma data_version").fetchone()[0]
        changed = version != self._version
        self._version = version
        return bool(changed)

    def compact(self) -> None:
        """Give free pages back to the file system."""
        self._check()
        with self.lock:
            self._check()
            with self._told(), self._patience():
                self._writer.execute("vacuum")
                self._writer.execute("pragma wal_checkpoint(truncate)")

    def close(self) -> None:
        """Close all connections; closing twice does nothing."""
        if self._closed or self._pid != os.getpid():
            return
        with self.lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._writer.close()


def _prepare(connection: sqlite3.Connection, path: Path | str) -> tuple[bytes, bool]:
    """Check whose file it is, make missing tables; returns the key of its hashes and if it is older."""
    found = _format(connection, path)
    if found is None:
        # Small pages, for an empty file only: a commit writes each page that it touches as a whole.
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        connection.execute("begin immediate")
        try:
            if _format(connection, path) is None:
                _make(connection)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
    key = connection.execute("select value from ck_meta where name='key'").fetchone()
    if key is None or type(key[0]) is not bytes:
        raise StorageError(f"{path} has lost the key of its checkpoints; restore a backup")
    return key[0], found is not None and found < FORMAT


def _make(connection: sqlite3.Connection) -> None:
    if not connection.execute("select 1 from sqlite_master").fetchone():
        connection.execute(f"pragma application_id={APPLICATION_ID}")
    _execute_all(connection, _TABLES + _BLOCK_TABLES)
    rows = (("format", FORMAT), ("key", secrets.token_bytes(32)), ("epoch", 0))
    connection.executemany("insert into ck_meta values(?, ?)", rows)


def _execute_all(connection: sqlite3.Connection, script: str) -> None:
    """Run statements within the transaction, which `executescript` would end."""
    for statement in script.split(";")[:-1]:
        connection.execute(statement)


def _format(connection: sqlite3.Connection, path: Path | str) -> int | None:
    """The format of the checkpoints in the file; None when there are none yet and there may be."""
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type='table'")}
    if "ck_meta" not in tables:
        ours = connection.execute("pragma application_id").fetchone()[0] == APPLICATION_ID
        if tables and not ours:
            raise StorageError(
                f"{path} belongs to another program (it has the table {sorted(tables)[0]}); "
                "give another file, or bring its checkpoints over with `orc db import`"
            )
        return None
    row = connection.execute("select value from ck_meta where name='format'").fetchone()
    found = row[0] if row else None
    if type(found) is not int or found < 1:
        raise StorageError(f"{path} does not say which format its checkpoints have; restore a backup")
    if found > FORMAT:
        raise too_new(f"the checkpoints in {path} have", found, FORMAT)
    return found
