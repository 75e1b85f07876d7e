"""Leave alone what keeps failing: a circuit breaker for each model and host, shared by all processes.

Five failures in a row open it; after a rest exactly one caller, of all processes, may try again. A probe
that fails doubles the rest, one that succeeds closes the breaker.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.errors import StorageError
from orchestrator.storage import commits

FAILURES = 5
REST_SECONDS = 30.0
LONGEST_REST = 600.0


class Resting(Exception):
    """The breaker is open: nothing is sent."""

    def __init__(self, state: State, seconds: float) -> None:
        super().__init__(
            f"{state.name} failed {state.failures} times in a row (last: {state.why}) and is left alone "
            f"for another {max(seconds, 1):.0f} s"
        )
        self.seconds = seconds


@dataclass(frozen=True)
class State:
    """One breaker as the file has it."""

    name: str
    failures: int
    """In a row."""
    opened: float
    """When it opened last; seconds since the epoch."""
    rest: float
    """Seconds from `opened` until a probe may go."""
    probe_until: float
    """Until when a probe that is under way holds others off."""
    why: str
    """The last failure."""

    @property
    def is_open(self) -> bool:
        """Whether calls are held off, or only a probe may go."""
        return self.failures >= FAILURES


@dataclass
class Pass:
    """A call that was let through; its end is told, unless it proved nothing."""

    breakers: Breakers
    name: str
    is_probe: bool
    is_decided: bool = False

    def succeeded(self) -> None:
        """The other side answered."""
        self.is_decided = True
        self.breakers.succeeded(self.name)

    def failed(self, why: str) -> bool:
        """The other side did not; returns whether the breaker is open now."""
        self.is_decided = True
        return self.breakers.failed(self.name, why)


class Breakers:
    """The breakers of one state file."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._clock = clock

    @contextmanager
    def passing(self, name: str, seconds: float) -> Iterator[Pass]:
        """Let a call of at most so many seconds through; raises Resting when the breaker is open."""
        passed = Pass(self, name, self._enter(name, seconds))
        try:
            yield passed
        finally:
            if passed.is_probe and not passed.is_decided:
                self._write("update breakers set probe_until=0 where name=?", name)

    def _enter(self, name: str, seconds: float) -> bool:
        """Whether the call is a probe."""
        state = self.state(name)
        if state is None or not state.is_open:
            return False
        now = self._clock()
        # A clock that jumped back must not make the rest longer than it is.
        over = min(state.opened, now) + state.rest
        if now < over:
            raise Resting(state, over - now)
        # The comparison is part of the write: of several callers in several processes one gets the probe.
        got = self._write(
            "update breakers set probe_until=? where name=? and failures>=? and opened=? "
            "and (probe_until<=? or probe_until>?)",
            now + seconds, name, FAILURES, state.opened, now, now + LONGEST_REST + seconds,
        )  # fmt: skip
        if not got:
            current = self.state(name)
            if current is None or not current.is_open:
                return False
            raise Resting(current, max(current.probe_until, current.opened + current.rest) - now)
        return True

    def succeeded(self, name: str) -> None:
        """Forget the failures; costs one read when there are none."""
        if self.state(name) is not None:
            self._write("delete from breakers where name=?", name)

    def failed(self, name: str, why: str) -> bool:
        """Count a failure; returns whether the breaker is open now."""
        now = self._clock()
        self._write(
            "insert into breakers values (?, 1, ?, ?, 0, ?) on conflict do update set "
            "rest=case when failures>=? then min(rest*2, ?) else rest end, "
            "failures=failures+1, opened=excluded.opened, probe_until=0, why=excluded.why",
            name, now, REST_SECONDS, " ".join(why.split())[:200], FAILURES, LONGEST_REST,
        )  # fmt: skip
        state = self.state(name)
        return state is not None and state.is_open

    def state(self, name: str) -> State | None:
        """One breaker; None while nothing failed."""
        row = self._connection.execute("select * from breakers where name=?", (name,)).fetchone()
        return State(*row) if row else None

    def is_resting(self, name: str) -> bool:
        """Whether a call would be held off now."""
        state = self.state(name)
        now = self._clock()
        return state is not None and state.is_open and now < min(state.opened, now) + state.rest

    def list(self) -> list[State]:
        """All that failed last, the open ones first."""
        rows = self._connection.execute("select * from breakers order by failures desc, name")
        return [State(*row) for row in rows]

    def close(self, name: str) -> None:
        """Let calls through again at once."""
        self._write("delete from breakers where name=?", name)

    def _write(self, query: str, *arguments: object) -> int:
        try:
            commits(self._connection, "normal")
            return self._connection.execute(query, arguments).rowcount
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot write the circuit breaker: {error}; close the other program"
            ) from None
