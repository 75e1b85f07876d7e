"""Approvals of single calls: a row for each call that was asked, bound to exactly that call, good for once.

A row is bound by its digest to run, branch, call, agent, tool, arguments, policy and taint. It is used up in
one transaction, so of two processes only one gets it; whatever differs by then makes it void.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.approvals.seal import is_sealed, seal
from orchestrator.errors import StorageError, UsageError, near


@dataclass(frozen=True)
class Asked:
    """One call that needs a person, as it would run."""

    run: str
    branch: str
    turn: int
    step: str
    call: str
    agent: str
    tool: str
    arguments: str
    """In canonical form."""
    policy: str
    """Digest of the rules that asked."""
    taint: int = 0
    """How far from trusted what the call is made of is; 0 is the user's own."""

    @property
    def digest(self) -> str:
        """What an approval of this call is bound to."""
        return seal(*(getattr(self, item.name) for item in fields(Asked)))


@dataclass(frozen=True)
class Row:
    """A question to a person, and the answer once there is one."""

    id: str
    """Such as `a-7f3a`."""
    run: str
    branch: str
    turn: int
    step: str
    call: str
    agent: str
    tool: str
    digest: str
    request: Mapping[str, Any]
    """As it is shown: in LangChain's HITL shape, without secrets."""
    asked: float
    """Seconds since the epoch."""
    decision: Mapping[str, Any]
    """In the same shape; empty while nobody has decided."""
    by: str
    decided: float | None
    used: float | None
    void: str
    """Why it is good for nothing any more; empty while it is."""
    sealed: str

    @property
    def is_open(self) -> bool:
        """Whether it still waits for an answer."""
        return not (self.decision or self.used or self.void)

    @property
    def is_valid(self) -> bool:
        """Whether the answer was given by this user, to this very question."""
        return is_sealed(self.sealed, self.id, self.digest, dict(self.decision), self.by)


_NAMES = [item.name for item in fields(Row)]
_SELECT = f"select {', '.join(_NAMES)} from approvals"  # noqa: S608 - our own names


def canonical(arguments: Mapping[str, Any]) -> str:
    """Arguments as one text that is the same however they were written."""
    return json.dumps(arguments, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=str)


class Grants:
    """The approvals in a state file; raises StorageError where it cannot be written."""

    def __init__(self, connection: sqlite3.Connection, clean: Callable[[dict[str, Any]], Any] = dict) -> None:
        self._connection, self._clean = connection, clean
        """`clean` takes secrets out of a request before it is written down."""

    def ask(self, asked: Asked, request: Mapping[str, Any]) -> Row:
        """The unused row of a call, made when there is none that fits it; others of the call become void."""
        with self._writing():
            for row in self._rows(
                "branch=? and call=? and used is null and void=''", asked.branch, asked.call
            ):
                if row.digest == asked.digest and (row.is_open or row.is_valid):
                    text = self._text(request)
                    self._connection.execute("update approvals set request=? where id=?", (text, row.id))
                    return row
                self._void(row.id, "the call, the policy or what it is made of has changed since")
            return self._insert(asked, request)

    def decide(self, identifier: str, decision: Mapping[str, Any], by: str) -> Row:
        """Store a person's answer; the first one stands. Raises UsageError when it is not open any more."""
        with self._writing():
            row = self.get(identifier)
            if not row.is_open:
                raise UsageError(f"{identifier} {_state(row)}; `orc approvals list` shows what waits")
            sealed = seal(row.id, row.digest, dict(decision), by)
            self._connection.execute(
                "update approvals set decision=?, by=?, decided=?, sealed=? where id=?",
                (json.dumps(decision), by, time.time(), sealed, identifier),
            )
            return self.get(identifier)

    def use(self, rows: Iterable[Row]) -> bool:
        """Use answers up, all of them or none; False when one was used before or is not what was decided."""
        with self._writing():
            fresh = [self.get(row.id) for row in rows]
            if not all(self._is_usable(new, row) for new, row in zip(fresh, rows, strict=True)):
                return False
            now = time.time()
            self._connection.executemany(
                "update approvals set used=? where id=?", [(now, row.id) for row in fresh]
            )
            return True

    @staticmethod
    def _is_usable(new: Row, row: Row) -> bool:
        return (
            bool(new.decision) and not new.used and not new.void and new.digest == row.digest and new.is_valid
        )

    def withdraw(self, branch: str, keep: Iterable[str]) -> None:
        """Make the unused rows of a branch void, but for those of some calls: it went on without them."""
        wanted = set(keep)
        with self._writing():
            for row in self._rows("branch=? and used is null and void=''", branch):
                if row.call not in wanted:
                    self._void(row.id, "the run went on without it")

    def waiting(self) -> list[Row]:
        """The open questions of runs that wait, oldest first; also those that are damaged."""
        return self._rows(
            "decision='{}' and used is null and void='' and branch in"
            " (select id from branches where status='waiting' and not removed)"
        )

    def open_of(self, branch: str) -> list[Row]:
        """The open questions of a branch."""
        return self._rows("branch=? and decision='{}' and used is null and void=''", branch)

    def get(self, identifier: str) -> Row:
        """One row; `a-` may be left out; raises UsageError with near matches."""
        wanted = identifier if identifier.startswith("a-") else f"a-{identifier}"
        for row in self._rows("id=?", wanted):
            return row
        names = [row.id for row in self.waiting()]
        hint = near(wanted, names) or "; nothing waits for an approval here"
        raise UsageError(f"no approval {identifier!r}{hint}")

    def _insert(self, asked: Asked, request: Mapping[str, Any]) -> Row:
        for digits in (4, 4, 4, 8, 12):
            identifier = f"a-{secrets.token_hex(digits // 2)}"
            added = self._connection.execute(
                "insert or ignore into approvals (id, run, branch, turn, step, call, agent, tool, digest,"
                " request, asked) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(identifier, asked.run, asked.branch, asked.turn, asked.step, asked.call),
                    *(asked.agent, asked.tool, asked.digest, self._text(request), time.time()),
                ),
            )
            if added.rowcount:
                return self.get(identifier)
        raise StorageError("no free id for an approval was found; prune old runs with `orc db prune`")

    def _text(self, request: Mapping[str, Any]) -> str:
        return json.dumps(self._clean({"request": dict(request)})["request"], default=str)

    def _void(self, identifier: str, why: str) -> None:
        self._connection.execute("update approvals set void=? where id=?", (why, identifier))

    def _rows(self, condition: str, *values: Any) -> list[Row]:
        found = self._connection.execute(f"{_SELECT} where {condition} order by asked, rowid", values)
        return [_row(each) for each in found.fetchall()]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction that no other process gets between."""
        try:
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                self._connection.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise StorageError(f"the approval could not be stored: {error}; nothing was approved") from None


DAMAGED = "it is damaged in the state file; when the run goes on, the call is asked again"


def _row(values: tuple[Any, ...]) -> Row:
    """A row; one that cannot be read is void."""
    named = dict(zip(_NAMES, values, strict=True))
    try:
        request, decision = json.loads(named["request"]), json.loads(named["decision"])
    except (ValueError, TypeError, RecursionError):
        request = decision = None
    if not isinstance(request, dict) or not isinstance(decision, dict):
        return Row(**{**named, "request": {}, "decision": {}, "void": DAMAGED})
    return Row(**{**named, "request": request, "decision": decision})


def _state(row: Row) -> str:
    if row.void:
        return f"is void: {row.void}"
    return (
        f"was decided already ({row.decision.get('type')} by {row.by})"
        if row.decision
        else "was used already"
    )
