"""Sums by scope in one file, and the transaction in which they are checked and booked.

The files of a workspace and of the user have the same table; a scope is a text such as `run:r-7f3a`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator.errors import StorageError
from orchestrator.limits.amounts import COLUMNS, Amount, Cap
from orchestrator.storage import commits

_COUNTS = ", ".join(COLUMNS)


class Totals:
    """The sums of one file; what writes them runs in `together`."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self.connection = connection
        self._name = name
        """How the file is called in an error."""
        self._log: str | None = None

    @property
    def log(self) -> str:
        """The file that a commit is written to; empty where it is none of its own."""
        if self._log is None:
            mode = self.connection.execute("pragma journal_mode").fetchone()[0]
            path = self.connection.execute("pragma database_list").fetchone()[2]
            self._log = f"{path}-wal" if path and mode == "wal" else ""
        return self._log

    def of(self, keys: Sequence[str]) -> dict[str, Amount]:
        """What scopes have used, reservations included; those that used nothing may be missing."""
        rows = self.connection.execute(
            f"select scope, {_COUNTS} from totals where scope in ({_marks(keys)})",  # noqa: S608
            keys,
        )
        return {scope: Amount._make(counts) for scope, *counts in rows}

    def beginning(self, text: str) -> dict[str, Amount]:
        """What the scopes that begin so have used, by the rest of their names."""
        rows = self.connection.execute(
            f"select scope, {_COUNTS} from totals where substr(scope, 1, ?)=?",  # noqa: S608
            (len(text), text),
        )
        return {scope[len(text) :]: Amount._make(counts) for scope, *counts in rows}

    def book(self, keys: Sequence[str], amount: Amount, known: Iterable[str] | None = None) -> None:
        """Add an amount to scopes, of which `known` have a row, all by default."""
        changes = [(name, count) for name, count in zip(COLUMNS, amount, strict=True) if count]
        missing = [] if known is None else sorted(set(keys).difference(known))
        if missing:
            self.connection.executemany(
                "insert or ignore into totals (scope) values (?)", [(key,) for key in missing]
            )
        if changes:
            # Without `returning`, which takes eight times as long as to ask for the sums.
            self.connection.execute(
                f"update totals set {', '.join(f'{name}={name}+?' for name, _ in changes)} "  # noqa: S608
                f"where scope in ({_marks(keys)})",
                (*(count for _, count in changes), *keys),
            )

    def crossed(self, used: Mapping[str, Amount], caps: Iterable[Cap], share: float) -> list[Cap]:
        """Caps that are used up to a share and were not told before; they count as told now."""
        new = []
        for cap in caps:
            if cap.scope not in used or used[cap.scope].of(cap.unit) < share * cap.limit:
                continue
            mark = f"{cap.name}={cap.limit};"
            told = self.connection.execute(
                "update totals set warned=warned||? where scope=? and instr(warned, ?)=0",
                (mark, cap.scope, mark),
            )
            new += [cap] if told.rowcount else []
        return new

    @contextmanager
    def transaction(self, *, synced: bool) -> Iterator[None]:
        """Write alone, or not at all, as far as `commit` was not called; see `begin`."""
        self.begin(synced=synced)
        try:
            yield
        except sqlite3.Error as error:
            raise self.refused(error) from None
        finally:
            self.end()

    def begin(self, *, synced: bool) -> None:
        """Write alone from here on; a commit that is not synced may be lost with the power."""
        try:
            commits(self.connection, "full" if synced else "normal")
            self.connection.execute("begin immediate")
        except sqlite3.Error as error:
            raise self.refused(error) from None

    def commit(self) -> None:
        """Keep what was written; raises StorageError."""
        try:
            self.connection.execute("commit")
        except sqlite3.Error as error:
            raise self.refused(error) from None

    def end(self) -> None:
        """Forget what was not committed."""
        if self.connection.in_transaction:
            self.connection.execute("rollback")

    def refused(self, error: sqlite3.Error) -> StorageError:
        """What SQLite says, and what to do."""
        return StorageError(
            f"cannot write {self._name}: {error}; free some space or close the other program, then go on"
        )


@contextmanager
def together(first: Totals, others: Sequence[Totals], *, synced: Sequence[bool]) -> Iterator[None]:
    """One transaction over several files: nothing is written when any of them refuses.

    They are committed in their order, so a process that is killed leaves the later ones behind, never ahead.
    """
    everything = (first, *others)
    try:
        for totals, is_synced in zip(everything, synced, strict=True):
            totals.begin(synced=is_synced)
        yield
        for totals in everything:
            totals.commit()
    except sqlite3.Error as error:
        raise everything[-1].refused(error) from None
    finally:
        for totals in everything:
            totals.end()


def _marks(keys: Sequence[str]) -> str:
    return ", ".join("?" * len(keys))
