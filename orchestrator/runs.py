"""The index of runs: one row each, read by lists without touching a checkpoint.

A running run holds a lock on a file of its own; the lock dies with the process, so a run whose
row says `running` and whose lock is free was cut off.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TextIO

from orchestrator.branches import Branches, Status
from orchestrator.cancel import Cancel
from orchestrator.errors import StorageError, UsageError, near
from orchestrator.redaction import redact, secrets_of, writable
from orchestrator.storage import FOLDER

SIGN_SECONDS = 2.0
"""Between two signs of life at most, and for what a killed command's last writes take."""
RESUMABLE: frozenset[str] = frozenset({"running", "waiting", "stopped", "budget", "cut off"})

_ALL = "all"
"""Name of the lock that everyone shares who works on a run."""


@dataclass(frozen=True)
class Run:
    """One conversation, seen from one of its branches."""

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
    branch: str
    """Id of the branch, which is the name of its LangGraph thread too."""
    branch_name: str
    is_current: bool
    """Whether it is the branch that the run goes on with when none is named."""

    @property
    def name(self) -> str:
        """How one writes it: `r-7f3a`, or `r-7f3a/try-1` for a branch that one has to name."""
        return self.id if self.is_current else f"{self.id}/{self.branch_name}"


_SELECT = """
    select r.id, r.created, r.updated, r.title, b.status, b.turns, b.agent, b.approves, r.sandbox, b.reason,
        b.id, b.name, b.id = r.branch
    from runs r join branches b on b.run = r.id and not b.removed
"""


class Runs:
    """The runs of one workspace."""

    def __init__(self, connection: sqlite3.Connection, root: Path) -> None:
        self.connection = connection
        self._locks = root / FOLDER / "locks"
        self._mine: set[str] = set()
        self.branches = Branches(connection)

    def create(self, title: str) -> Run:
        """Add a run with a fresh short id; secrets in its title are not written down."""
        now = time.time()
        title = writable(redact(title, secrets_of(os.environ)))
        for digits in (4, 4, 4, 6, 8, 12):
            identifier = f"r-{secrets.token_hex(digits // 2)}"
            added = self.connection.execute(
                "insert or ignore into runs (id, created, updated, title, sandbox, branch)"
                " values (?, ?, ?, ?, '', ?)",
                (identifier, now, now, " ".join(title.split())[:80], identifier),
            )
            if added.rowcount:
                self.branches.begin(identifier, now)
                return self.get(identifier)
        raise UsageError("no free run id was found; delete old runs")

    def update(self, run: Run, **columns: str | float) -> None:
        """Set columns of the run's branch, or `sandbox` of the run."""
        sandbox = columns.pop("sandbox", None)
        self.connection.execute(
            "update runs set updated=?, sandbox=ifnull(?, sandbox) where id=?", (time.time(), sandbox, run.id)
        )
        if columns:
            self.branches.update(run.branch, **columns)

    def switch(self, run: str, branch: str) -> None:
        """Make a branch the one that the run goes on with when none is named."""
        self.connection.execute("update runs set branch=?, updated=? where id=?", (branch, time.time(), run))

    def get(self, identifier: str) -> Run:
        """One run by id, `RUN` or `RUN/BRANCH`; `r-` may be left out; raises UsageError with near matches."""
        if "@" in identifier:
            raise UsageError(f"{identifier} names a step; here a RUN or RUN/BRANCH is wanted")
        name, slash, branch = identifier.partition("/")
        wanted = name if name.startswith("r-") else f"r-{name}"
        condition, values = ("b.name=?", [branch]) if slash else ("b.id=r.branch", [])
        row = self.connection.execute(f"{_SELECT} where r.id=? and {condition}", [wanted, *values]).fetchone()
        if row:
            return self._run(row)
        names = [name for (name,) in self.connection.execute("select id from runs order by updated desc")]
        if wanted in names and slash:
            self.branches.named(wanted, branch)
        if wanted in names:
            raise StorageError(
                f"{wanted} is damaged: it has lost its branch; `orc db verify` finds what else is"
            )
        hint = near(wanted, names) or "; there is no run here yet"
        raise UsageError(f"no run {name!r} in this workspace{hint}")

    def list(self, limit: int = 50) -> list[Run]:
        """The newest runs first, each on its current branch."""
        rows = self.connection.execute(
            f"{_SELECT} where b.id = r.branch order by r.updated desc limit ?", (limit,)
        )
        return [self._run(row) for row in rows]

    def newest(self) -> Run:
        """The run that was worked on last; raises UsageError when there is none."""
        for run in self.list(1):
            return run
        raise UsageError('there is no run here yet; start one with orc run "…"')

    def last_resumable(self) -> Run:
        """The newest run that did not end; raises UsageError when there is none."""
        for run in self.list(1000):
            if run.status in RESUMABLE:
                return run
        raise UsageError("no run here is waiting to go on; `orc runs list` shows all of them")

    @contextmanager
    def lock(self, identifier: str) -> Iterator[None]:
        """Hold a run for this process; raises UsageError when another one has it."""
        with self._lock_file(_ALL) as all_runs, self._lock_file(identifier) as file:
            fcntl.flock(all_runs, fcntl.LOCK_SH)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"{identifier} is being worked on by another process") from None
            # Asked of whoever had the run before.
            self._stop_file(identifier).unlink(missing_ok=True)
            self._mine.add(identifier)
            try:
                yield
            finally:
                self._mine.discard(identifier)
                self._stop_file(identifier).unlink(missing_ok=True)

    @contextmanager
    def held(self, identifier: str) -> Iterator[Run]:
        """Hold a run, and see it as it is from then on; raises UsageError as `get` and `lock` do."""
        with self.lock(self.get(identifier).id):
            yield self.get(identifier)

    def ask_to_stop(self, identifier: str) -> None:
        """Tell whoever works on a run to stop: it notices in half a second."""
        self._lock_file(f"{identifier}.stop").close()

    def watch(self, identifier: str) -> Callable[[Cancel], None]:
        """A check that stops the turn when someone asked for it from elsewhere, and gives signs of life."""
        path, alive = self._stop_file(identifier), self._locks / identifier

        def check(cancel: Cancel) -> None:
            with suppress(OSError):
                os.utime(alive)
            if path.exists():
                cancel.stop("stopped by `orc stop`")

        return check

    def worked_until(self, identifier: str) -> float:
        """Until when a process may have worked on a run, in seconds since the epoch; 0 if none ever did."""
        try:
            return (self._locks / identifier).stat().st_mtime + SIGN_SECONDS
        except OSError:
            return 0.0

    def _stop_file(self, identifier: str) -> Path:
        return self._locks / f"{identifier}.stop"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold all runs, so that none is worked on; raises UsageError when one is. New ones wait."""
        with self._lock_file(_ALL) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError("a run is being worked on here; do this when it has ended") from None
            yield

    def _lock_file(self, name: str) -> TextIO:
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            return (self._locks / name).open("a")
        except OSError as error:
            raise StorageError(
                f"cannot lock runs in {self._locks}: {error.strerror}; see that the folder is writable "
                "and its disk has room"
            ) from None

    def is_locked(self, identifier: str) -> bool:
        """Whether another process works on a run now."""
        if identifier in self._mine:
            return False
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
        values = dict(zip(names, row, strict=True))
        flags = {name: bool(values[name]) for name in ("approves", "is_current")}
        run = Run(**{**values, **flags})
        if run.status == "running" and not self.is_locked(run.id):
            return replace(run, status="cut off")
        return run
