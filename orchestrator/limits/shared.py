"""What one user spends on this machine, in all workspaces: a ledger in the user's data folder.

It holds what limits of users and organisations count. The workspace's own ledger is written first, so after a
crash this one is behind at most; `reconcile` brings it up to what the other says. Days and months are let go
by their number and not by the clock: one that was wrong for a while must not take those away that count.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.limits.amounts import Amount
from orchestrator.limits.entries import SHARED
from orchestrator.limits.totals import Totals
from orchestrator.settings import data_dir
from orchestrator.storage import Connection, commits, state_path
from orchestrator.tables import TOTALS

FILE = "spending.db"
WAIT_SECONDS = 30
SCHEMA = f"""
{TOTALS.strip()}
create table if not exists held (
    workspace text not null, entry integer not null, at real not null, scopes text not null,
    model_calls integer not null, tokens integer not null, nano integer not null, unpriced integer not null,
    primary key (workspace, entry, at)
) without rowid;
"""
KEPT = {"day": (62, 10), "month": (24, 7)}
"""By period, how many are kept, and how many characters at the end of a scope name it. Limits look at the
newest one; the others are for `orc cost --all`."""
_COUNTS = "model_calls, tokens, nano, unpriced"

Entry = tuple[int, float]
"""Number and time of a call in the ledger of its workspace."""
Lookup = Callable[[Entry], Amount | None]
"""What a call took by the ledger of its workspace; None while it is under way."""


def shared_path() -> Path:
    """Where the ledger of all workspaces lies."""
    return data_dir() / FILE


class Shared(Totals):
    """The ledger of all workspaces, as one of them sees it."""

    def __init__(
        self, connection: sqlite3.Connection, workspace: str, close: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(connection, f"the ledger of all workspaces, {shared_path()}")
        self._workspace = workspace
        self.close = close
        """Let go of the file."""

    def hold(self, entry: Entry, keys: Sequence[str], amount: Amount, known: Collection[str]) -> None:
        """Book a call that is about to be made."""
        self.book(keys, amount, known)
        if not set(keys) <= set(known):
            self._let_go()
        self.connection.execute(
            f"insert into held (workspace, entry, at, scopes, {_COUNTS}) values (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (self._workspace, *entry, "\n".join(keys), *_counts(amount)),
        )

    def _let_go(self) -> None:
        """Drop the oldest days and months, and what waits for a workspace that is gone."""
        for period, (kept, length) in KEPT.items():
            found = " or ".join(
                f"(scope > '{name}.{period}:' and scope < '{name}.{period};')" for name in SHARED
            )
            newest = f"select distinct substr(scope, {-length}) from totals where {found} order by 1 desc"  # noqa: S608
            self.connection.execute(
                f"delete from totals where ({found}) "  # noqa: S608
                f"and substr(scope, {-length}) <= ({newest} limit 1 offset {kept})"
            )
        for (workspace,) in self.connection.execute("select distinct workspace from held").fetchall():
            if not state_path(Path(workspace)).exists():
                self.connection.execute(
                    "delete from held where workspace=? and date(at, 'unixepoch') < "
                    "(select min(substr(scope, -10)) from totals "
                    "where scope > 'user.day:' and scope < 'user.day;')",
                    (workspace,),
                )

    def extend(self, entry: Entry, keys: Sequence[str], more: Amount) -> None:
        """Book more for a call."""
        self.book(keys, more)
        self.connection.execute(
            "update held set model_calls=model_calls+?, tokens=tokens+?, nano=nano+?, unpriced=unpriced+? "
            "where workspace=? and entry=? and at=?",
            (*_counts(more), self._workspace, *entry),
        )

    def settle(self, entry: Entry, keys: Sequence[str], change: Amount) -> None:
        """Book the difference between what a call took and what was held for it."""
        query = "delete from held where workspace=? and entry=? and at=?"
        self.connection.execute(query, (self._workspace, *entry))
        self.book(keys, change)

    def reconcile(self, lookup: Lookup) -> None:
        """Settle the calls of this workspace that a killed process has settled in its own ledger alone."""
        if not any(lookup(entry) for entry in self.held()):
            return
        with self.transaction(synced=False):
            for entry, (keys, held) in self.held().items():
                actual = lookup(entry)
                if actual is not None:
                    self.settle(entry, keys, actual - held)
            self.commit()

    def held(self) -> dict[Entry, tuple[list[str], Amount]]:
        """The calls of this workspace that are not settled here, with what they count for and take."""
        rows = self.connection.execute(
            f"select entry, at, scopes, {_COUNTS} from held where workspace=?",  # noqa: S608
            (self._workspace,),
        )
        return {(entry, at): (keys.split("\n"), amount_of(counts)) for entry, at, keys, *counts in rows}


_MINE = threading.local()
"""The connections of this thread by path, each with the number of ledgers that use it: one takes 160 KB."""


def open_shared(root: Path) -> Shared:
    """The ledger of all workspaces, made if it is missing; raises StorageError."""
    path = shared_path()
    mine: dict[Path, list[Any]] = _MINE.__dict__.setdefault("open", {})
    if path not in mine:
        mine[path] = [_opened(path), 0]
    mine[path][1] += 1

    def close() -> None:
        mine[path][1] -= 1
        if not mine[path][1]:
            mine.pop(path)[0].close()

    return Shared(mine[path][0], str(root.resolve()), close)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False, factory=Connection
        )
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from None
    try:
        connection.execute("pragma journal_mode=wal")
        commits(connection, "full")
        if not connection.execute("select 1 from sqlite_master where name='held'").fetchone():
            connection.executescript(f"begin immediate; {SCHEMA} commit;")
    except sqlite3.Error as error:
        with closing(connection):
            raise _unusable(path, error) from None
    return connection


def _unusable(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"the ledger of all workspaces, {path}, cannot be used: {error}; see that it can be written, or move "
        "it away: what was used so far is forgotten then"
    )


def amount_of(counts: Sequence[int]) -> Amount:
    """An amount from its columns in an entry: calls, tokens, billionths of a dollar, unpriced calls."""
    calls, tokens, nano, unpriced = counts
    return Amount(model_calls=calls, tokens=tokens, nano=nano, unpriced=unpriced)


def _counts(amount: Amount) -> tuple[int, int, int, int]:
    return amount.model_calls, amount.tokens, amount.nano, amount.unpriced
