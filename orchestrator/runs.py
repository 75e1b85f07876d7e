"""The index of runs: one row each, read by lists without touching a checkpoint.

A running run holds a lock on a file of its own; the lock dies with the process, so a run whose
row says `running` and whose lock is free was cut off.
"""

from __future__ import annotations

import difflib
import fcntl
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import UsageError
from orchestrator.storage import FOLDER

Status = Literal["running", "waiting", "done", "failed", "stopped", "budget", "cut off"]
"""`failed` has ended, with an answer that says so; `stopped` has not, whatever stopped it."""
RESUMABLE: frozenset[str] = frozenset({"running", "waiting", "stopped", "budget", "cut off"})


@dataclass(frozen=True)
class Run:
    """One conversation."""

    id: str
    """Such as `r-7f3a`."""
    created: float
    """Seconds since the epoch."""
    updated: float
    title: str
    """The first words of the first request."""
    status: Status
    turns: int
    agent: str
    """Who worked last."""
    approves: bool
    """Whether `--yes` was given for the current turn."""
    sandbox: str
    reason: str
    """Why it stopped, when it did."""


_COLUMNS = "id, created, updated, title, status, turns, agent, approves, sandbox, reason"


class Runs:
    """The runs of one workspace."""

    def __init__(self, connection: sqlite3.Connection, root: Path) -> None:
        self._connection = connection
        self._locks = root / FOLDER / "locks"

    def create(self, title: str) -> Run:
        """Add a run with a fresh short id."""
        now = time.time()
        for digits in (4, 4, 4, 6, 8, 12):
            identifier = f"r-{secrets.token_hex(digits // 2)}"
            added = self._connection.execute(
                f"insert or ignore into runs ({_COLUMNS}) values (?, ?, ?, ?, 'stopped', 0, '', 0, '', '')",  # noqa: S608
                (identifier, now, now, " ".join(title.split())[:80]),
            )
            if added.rowcount:
                return self.get(identifier)
        raise UsageError("no free run id was found; delete old runs")

    def update(self, identifier: str, **columns: str | float) -> None:
        """Set columns of a run."""
        columns = {"updated": time.time(), **columns}
        names = ", ".join(f"{name}=?" for name in columns)
        self._connection.execute(f"update runs set {names} where id=?", (*columns.values(), identifier))  # noqa: S608

    def get(self, identifier: str) -> Run:
        """One run by id; `r-` may be left out; raises UsageError with near matches."""
        wanted = identifier if identifier.startswith("r-") else f"r-{identifier}"
        row = self._connection.execute(f"select {_COLUMNS} from runs where id=?", (wanted,)).fetchone()  # noqa: S608
        if row:
            return self._run(row)
        names = [name for (name,) in self._connection.execute("select id from runs order by updated desc")]
        near = difflib.get_close_matches(wanted, names, 3, 0.5) or names[:3]
        hint = f"; did you mean {', '.join(near)}?" if near else "; there is no run here yet"
        raise UsageError(f"no run {identifier!r} in this workspace{hint}")

    def list(self, limit: int = 50) -> list[Run]:
        """The newest runs first."""
        rows = self._connection.execute(
            f"select {_COLUMNS} from runs order by updated desc limit ?",  # noqa: S608
            (limit,),
        )
        return [self._run(row) for row in rows]

    def last_resumable(self) -> Run:
        """The newest run that did not end; raises UsageError when there is none."""
        for run in self.list(1000):
            if run.status in RESUMABLE:
                return run
        raise UsageError("no run here is waiting to go on; `orc runs list` shows all of them")

    @contextmanager
    def lock(self, identifier: str) -> Iterator[None]:
        """Hold a run for this process; raises UsageError when another one has it."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / identifier).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{identifier} is being worked on by another process") from None
            yield

    def _is_locked(self, identifier: str) -> bool:
        try:
            with (self._locks / identifier).open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _run(self, row: tuple[Any, ...]) -> Run:
        names = (item.name for item in fields(Run))
        run = Run(**dict(zip(names, row, strict=True)))
        if run.status == "running" and not self._is_locked(run.id):
            return replace(run, status="cut off")
        return run
