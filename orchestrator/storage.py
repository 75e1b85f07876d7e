"""Open a workspace's state file, `.orc/state.db`, at the newest schema.

Several processes may have it open; each writes through one connection. sqlite-utils runs the
migrations and is imported only when there is one to run, because importing it takes 0.4 s.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import StorageError
from orchestrator.tables import migrate_approvals, migrate_budgets, migrate_indexes, migrate_spending

if TYPE_CHECKING:
    from sqlite_utils import Database

FOLDER = ".orc"
APPLICATION_ID = 0x6F726331
"""`orc1` in ASCII: tells our file from other SQLite files."""
CHECKPOINT_FORMAT = 4
"""The newest format of its checkpoints that this orc knows; `orchestrator.checkpoints` describes them."""
WAIT_SECONDS = 30.0
"""How long a write waits for other processes before it fails."""
PAGE_BYTES = 2048
"""A commit writes whole pages: half of SQLite's usual size writes half as much for each small step."""


Durability = Literal["full", "normal"]
"""Whether a commit outlives a loss of power, or only the death of the process."""


class Connection(sqlite3.Connection):
    """A connection that knows how durable its commits are, because to say so again takes time."""

    durability = ""


def commits(connection: sqlite3.Connection, durability: Durability) -> None:
    """Make the commits from here on so durable; whoever writes says so before, because others do too."""
    if not isinstance(connection, Connection):
        connection.execute(f"pragma synchronous={durability}")
    elif connection.durability != durability:
        connection.execute(f"pragma synchronous={durability}")
        connection.durability = durability


def state_path(root: Path) -> Path:
    """Where the workspace keeps its state."""
    return root / FOLDER / "state.db"


def _first(db: Database) -> None:
    """Version 1: runs and their events."""
    db.table("runs").create(
        {
            "id": str,
            "created": float,
            "updated": float,
            "title": str,
            "status": str,
            "turns": int,
            "agent": str,
            "approves": int,
            "sandbox": str,
            "reason": str,
        },
        pk="id",
        not_null={"created", "updated", "title", "status", "turns", "approves"},
        if_not_exists=True,
    )
    db.table("events").create(
        {
            "seq": int,
            "at": float,
            "run": str,
            "turn": int,
            "node": str,
            "step": str,
            "agent": str,
            "kind": str,
            "call": str,
            "seconds": float,
            "fields": str,
            "version": int,
        },
        pk="seq",
        not_null={"at", "run", "turn", "kind", "fields", "version"},
        if_not_exists=True,
    )
    db.table("events").create_index(["run", "seq"], if_not_exists=True)
    db.table("events").create_index(["run", "call", "kind"], if_not_exists=True)


def _second(db: Database) -> None:
    """Version 2: branches of runs, the steps that one can fork at, and events chained by hash."""
    db.table("branches").create(
        {
            "id": str,
            "run": str,
            "name": str,
            "parent": str,
            "forked_at": int,
            "seq": int,
            "position": int,
            "created": float,
            "status": str,
            "turns": int,
            "agent": str,
            "approves": int,
            "reason": str,
            "removed": int,
        },
        pk="id",
        not_null={"run", "name", "parent", "forked_at", "created", "status", "turns", "approves"},
        defaults={"removed": 0},
    )
    db.table("branches").create_index(["run", "name"])
    db.table("steps").create(
        {
            "id": int,
            "run": str,
            "branch": str,
            "number": int,
            "at": float,
            "turn": int,
            "node": str,
            "step": str,
            "agent": str,
            "task": str,
            "position": int,
            "seq": int,
        },
        pk="id",
        not_null={"run", "branch", "number", "at", "turn", "node", "task", "position", "seq"},
    )
    db.table("steps").create_index(["run", "branch", "number"])
    db.table("blobs").create({"digest": str, "data": bytes}, pk="digest", not_null={"data"})
    db.table("undos").create(
        {"id": int, "run": str, "at": float, "what": str, "redone": int, "record": str},
        pk="id",
        not_null={"run", "at", "what", "redone", "record"},
    )
    _make_main_branches(db)


def _make_main_branches(db: Database) -> None:
    """Give every run of version 1 its first branch, which holds from now on how the run stands."""
    db.execute(
        "insert into branches"
        " (id, run, name, parent, forked_at, created, status, turns, agent, approves, reason)"
        " select id, id, 'main', '', 0, created, status, turns, agent, approves, reason from runs"
    )
    for column in ("status", "turns", "agent", "approves", "reason"):
        db.execute(f"alter table runs drop column {column}")
    db.execute("alter table runs add column branch text")
    db.execute("alter table runs add column head text")
    db.execute("update runs set branch=id")
    db.execute("alter table events add column branch text")
    db.execute("alter table events add column hash text")
    db.execute("update events set branch=run")


def _fourth(db: Database) -> None:
    """Version 4: a turn's events are found without reading those of the turns before it."""
    db.execute("create index if not exists events_turn on events (run, turn, seq)")


MIGRATIONS: list[Callable[[Database], None]] = [
    _first,
    _second,
    migrate_budgets,
    _fourth,
    migrate_approvals,
    migrate_spending,
    migrate_indexes,
]


def open_state(root: Path) -> sqlite3.Connection:
    """Open the state file in autocommit mode, made if it is missing; raises StorageError with what to do."""
    path = state_path(root)
    connection: sqlite3.Connection | None = None
    try:
        # Conversations are in it, with what people typed.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False, factory=Connection
        )
        _check_ours(connection)
        _check_known(connection)
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        connection.execute("pragma journal_mode=wal")
        commits(connection, "full")
        _migrate(connection)
    except (OSError, sqlite3.Error, UnicodeDecodeError, StorageError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot use {path}: {_said(error)}; {_advice(error, path)}") from None
    return connection


@contextmanager
def opened_state(root: Path) -> Iterator[sqlite3.Connection]:
    """The state file for the length of a block; whatever SQLite says in it is a StorageError."""
    connection = open_state(root)
    try:
        with explained(root):
            yield connection
    finally:
        connection.close()


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what SQLite says of the state file into a StorageError with what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # The second one is what a damaged file makes of a message of the first.
        path = state_path(root)
        raise StorageError(f"cannot use {path}: {_said(error)}; {_advice(error, path)}") from None


def _said(error: Exception) -> str:
    """What SQLite says, without all of a row that it cannot read."""
    text = str(error)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _check_ours(connection: sqlite3.Connection) -> None:
    """Refuse a file of another program before anything is written to it."""
    identifier = connection.execute("pragma application_id").fetchone()[0]
    if identifier != APPLICATION_ID and connection.execute("select 1 from sqlite_master").fetchone():
        raise StorageError("the state file was made by another program: move it away, and a new one is made")


def _check_known(connection: sqlite3.Connection) -> None:
    """Refuse a file that a newer orc wrote, in any of its parts, before anything is written to it."""
    version = connection.execute("pragma user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise too_new("the state file has", version, len(MIGRATIONS))
    if connection.execute("select 1 from sqlite_master where name='ck_meta'").fetchone():
        row = connection.execute("select value from ck_meta where name='format'").fetchone()
        if row and isinstance(row[0], int) and row[0] > CHECKPOINT_FORMAT:
            raise too_new("the checkpoints in the state file have", row[0], CHECKPOINT_FORMAT)


def too_new(what: str, version: int, known: int) -> StorageError:
    """What the user reads of a file that a newer orc wrote."""
    return StorageError(
        f"{what} format {version}, this orc knows up to {known}; "
        "update orc (`uv tool upgrade orc-orchestrator`) to open it"
    )


_SIGNS_OF_DAMAGE = ("malformed", "no such table", "no such column", "not decode", "already exists")


def _advice(error: Exception, path: Path) -> str:
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        return "it is not a state file of orc: move it away, and a new one is made"
    if "full" in str(error) or "space" in str(error) or _is_full(path.parent):
        return "free some disk space, then run the same command again"
    if isinstance(error, UnicodeDecodeError) or any(sign in str(error) for sign in _SIGNS_OF_DAMAGE):
        return "it is damaged: restore a backup, or move it away and a new one is made"
    if "disk I/O" in str(error):
        return "see whether the disk is full, at its limit for a file, or failing, then run the command again"
    return "check that the folder is writable and that no other program holds the file"


def _is_full(folder: Path) -> bool:
    """Whether the disk is: SQLite says only `disk I/O error` when its shared memory finds no room."""
    return folder.is_dir() and shutil.disk_usage(folder).free < 1 << 16


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("pragma user_version").fetchone()[0]
    if version == len(MIGRATIONS):
        return
    from sqlite_utils import Database  # noqa: PLC0415 - see the module's docstring

    database = Database(connection)
    connection.execute(f"pragma application_id={APPLICATION_ID}")
    for number, migration in enumerate(MIGRATIONS, 1):
        # One process migrates, the others wait here and find it done.
        connection.execute("begin immediate")
        try:
            if connection.execute("pragma user_version").fetchone()[0] < number:
                migration(database)
                connection.execute(f"pragma user_version={number}")
            connection.execute("commit")
        except BaseException:
            connection.execute("rollback")
            raise
