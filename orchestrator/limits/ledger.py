"""What was used, by whom and when: reserve before a call, settle after it, each in one transaction.

A reservation counts in full until it is settled, in every scope at once: turn, run, step, day, month, user
and organisation. One that a killed process left behind keeps counting: nobody knows whether the provider
charged for it, and a cap must hold. Every check and its booking are one `begin immediate`, so processes
that share the file cannot pass a cap together.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.errors import StorageError
from orchestrator.limits.amounts import COLUMNS, Amount, Cap

TURNED_BACK_SECONDS = 172_800
"""A clock that jumps back by less stays in the newer day; by more, it was wrong before."""
KNOWN_STEPS = 5
"""Steps of an agent from which on its past says what it will cost."""
LEAST_OUTPUT = 256
"""Tokens of an answer below which it is not worth asking."""


_BOOK = (
    f"insert into totals (scope, {', '.join(COLUMNS)}) values ({', '.join('?' * (len(COLUMNS) + 1))}) "  # noqa: S608
    f"on conflict do update set {', '.join(f'{name}={name}+excluded.{name}' for name in COLUMNS)}"
)


class Full(Exception):
    """A reservation does not fit; nothing was booked."""

    def __init__(self, cap: Cap, used: int, wanted: int) -> None:
        super().__init__(f"{cap.name}: {used} + {wanted} > {cap.limit}")
        self.cap, self.used, self.wanted = cap, used, wanted


@dataclass(frozen=True)
class Who:
    """For whom something is used."""

    run: str
    turn: int
    user: str = ""
    organisation: str = ""
    branch: str = ""
    """Of the run; its first one when nothing is said. Each branch has a turn's limits for itself."""

    @property
    def line(self) -> str:
        """The branch's id; that of the first branch is the run's."""
        return self.branch or self.run


def identity() -> tuple[str, str]:
    """User and organisation of this process: ORC_USER, else the account; ORC_ORGANISATION, else none."""
    user = os.environ.get("ORC_USER", "")
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"uid {os.getuid()}"
    return user, os.environ.get("ORC_ORGANISATION", "")


@dataclass(frozen=True)
class Place:
    """Where in a turn something is used."""

    node: str = ""
    step: str = ""
    agent: str = ""
    model: str = ""


@dataclass(frozen=True)
class Wish:
    """What a model call may take: its request, and an answer of a length that can be cut to what is left."""

    input_tokens: int
    """At most."""
    output_tokens: int
    input_nano: int = 0
    output_nano: int = 0
    """For all of `output_tokens`."""
    is_unpriced: bool = False

    def amount(self, output_tokens: int) -> Amount:
        """What it takes with an answer of this length, rounded up."""
        share = -(-self.output_nano * output_tokens // max(self.output_tokens, 1))
        tokens = self.input_tokens + output_tokens
        return Amount(
            model_calls=1, tokens=tokens, nano=self.input_nano + share, unpriced=int(self.is_unpriced)
        )

    def fitting(self, cap: Cap, room: int) -> int:
        """Tokens of an answer that fit into what is left of a cap."""
        if cap.unit == "tokens":
            return room - self.input_tokens
        if cap.unit == "usd" and self.output_nano:
            return (room - self.input_nano) * self.output_tokens // self.output_nano
        return self.output_tokens


@dataclass(frozen=True)
class Reservation:
    """A booked model call that has not come back yet."""

    id: int
    amount: Amount
    output_tokens: int
    scopes: tuple[str, ...]


def scopes(who: Who, place: Place, now: float) -> dict[str, str]:
    """What a call counts for, by the name of the scope."""
    moment = datetime.fromtimestamp(now, UTC)
    day, month = moment.strftime("%Y-%m-%d"), moment.strftime("%Y-%m")
    found = {
        "turn": f"turn:{who.line}/{who.turn}",
        "run": f"run:{who.run}",
        "day": f"day:{day}",
        "month": f"month:{month}",
    }
    if place.step:
        found["step"] = f"step:{who.line}/{who.turn}/{place.step}"
    for name, value in (("user", who.user), ("organisation", who.organisation)):
        found |= {f"{name}.total": f"{name}.total:{value}", f"{name}.day": f"{name}.day:{value}:{day}"}
        found[f"{name}.month"] = f"{name}.month:{value}:{month}"
    return found


class Ledger:
    """The books of one state file."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._clock = clock

    def now(self) -> float:
        """The time that days and months are taken from: a clock that jumps back a little stands still."""
        wall = self._clock()
        row = self._connection.execute("select ms from totals where scope='clock'").fetchone()
        newest = row[0] / 1000 if row else 0.0
        return newest if wall < newest <= wall + TURNED_BACK_SECONDS else wall

    def reserve(self, who: Who, place: Place, wish: Wish, caps: Sequence[Cap]) -> Reservation:
        """Book a model call, its answer cut to what is left where needed; raises Full."""
        # Where a limit of dollars holds, a power cut must not forget what was set aside.
        with self._transaction(synced=any(cap.unit == "usd" for cap in caps)):
            now = self.now()
            keys = tuple(scopes(who, place, now).values())
            used = self._totals(keys)
            output = self._fitting(wish, caps, used)
            amount = wish.amount(output)
            _check(caps, used, amount)
            row = (
                now, datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d"), who.run, who.line, who.turn,
                place.step, place.agent, place.node, who.user, who.organisation, place.model, "held",
                wish.input_tokens, output, amount.nano, amount.unpriced,
            )  # fmt: skip
            added = self._connection.execute(
                "insert into spending (at, day, run, branch, turn, step, agent, node, user, organisation, "
                "model, state, input_tokens, output_tokens, nano, unpriced) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            self._book(keys, amount)
            self._connection.execute(
                "insert into totals (scope, ms) values ('clock', ?) on conflict do update set ms=excluded.ms",
                (int(now * 1000),),
            )
        return Reservation(int(added.lastrowid or 0), amount, output, keys)

    def _fitting(self, wish: Wish, caps: Iterable[Cap], used: Mapping[str, Amount]) -> int:
        output = wish.output_tokens
        for cap in caps:
            room = cap.limit - used.get(cap.scope, Amount()).of(cap.unit)
            output = min(output, wish.fitting(cap, room))
        return max(output, min(LEAST_OUTPUT, wish.output_tokens))

    def extend(self, held: Reservation, more: Amount, caps: Sequence[Cap]) -> Reservation:
        """Book more for a call that is asked again after a failed attempt that cost; raises Full."""
        with self._transaction():
            _check(caps, self._totals(held.scopes), more)
            self._book(held.scopes, more)
            self._connection.execute("update spending set nano=nano+? where id=?", (more.nano, held.id))
        return Reservation(held.id, held.amount + more, held.output_tokens, held.scopes)

    def settle(
        self, held: Reservation, actual: Amount, tokens: tuple[int, int], caps: Sequence[Cap], share: float
    ) -> list[Cap]:
        """Replace a reservation by what was used; returns the caps that are used up to a share now.

        Tokens are those of the request and of the answer.
        """
        state = "spent" if actual.model_calls else "released"
        # Not synced to the disk: after a power cut the reservation counts in full, which is on the safe side.
        with self._transaction(synced=False):
            self._connection.execute(
                "update spending set state=?, input_tokens=?, output_tokens=?, nano=?, unpriced=? where id=?",
                (state, *tokens, actual.nano, actual.unpriced, held.id),
            )
            self._book(held.scopes, actual - held.amount)
            return self._crossed(held.scopes, caps, share)

    def take(
        self,
        who: Who,
        place: Place,
        amount: Amount,
        caps: Sequence[Cap],
        share: float,
        *,
        synced: bool = False,
    ) -> list[Cap]:
        """Book something that is used up at once, such as a tool call; raises Full; returns as `settle`."""
        with self._transaction(synced=synced):
            keys = tuple(scopes(who, place, self.now()).values())
            _check(caps, self._totals(keys), amount)
            self._book(keys, amount)
            return self._crossed(keys, caps, share)

    def tick(self, who: Who, place: Place, ms: int) -> None:
        """Book working time, whether or not it is over a limit."""
        with self._transaction(synced=False):
            self._book(scopes(who, place, self.now()).values(), Amount(ms=ms))

    def keep_lost(self, run: str) -> int:
        """Mark what a killed process of a run left reserved; it keeps counting. Returns how many."""
        query = "update spending set state='lost' where run=? and state='held'"
        return self._connection.execute(query, (run,)).rowcount

    def total(self, scope: str) -> Amount:
        """What a scope has used, reservations included."""
        return self._totals((scope,)).get(scope, Amount())

    def per_step(self, agent: str) -> tuple[int, int] | None:
        """Billionths of a dollar that an agent's steps took lately, from and to; None while few are known."""
        rows = self._connection.execute(
            "select sum(nano) from spending where agent=? and step<>'' and state='spent' "
            "and unpriced=0 group by branch, turn, step order by max(id) desc limit 50",
            (agent,),
        ).fetchall()
        costs = sorted(row[0] for row in rows)
        if len(costs) < KNOWN_STEPS:
            return None
        return costs[len(costs) // 10], costs[-1 - len(costs) // 10]

    def tokens(self, who: Who) -> tuple[int, int]:
        """Tokens of a turn's requests and answers, without calls that are under way."""
        into, out = self._connection.execute(
            "select total(input_tokens), total(output_tokens) from spending "
            "where branch=? and turn=? and state='spent'",
            (who.line, who.turn),
        ).fetchone()
        return int(into), int(out)

    def overrides(self, who: Who) -> list[tuple[str, str, str]]:
        """Caps set by hand, as (run or nothing, name, value): those of all runs and of this turn."""
        return self._connection.execute(
            "select run, name, value from caps where run='' or (run=? and turn in (0, ?))",
            (who.run, who.turn),
        ).fetchall()

    def set_cap(self, name: str, value: str | None, *, run: str = "", turn: int = 0) -> None:
        """Set a cap by hand, or take it away; of a run, it replaces what the settings say."""
        key = (run, turn, name)
        if value is None:
            self._connection.execute("delete from caps where run=? and turn=? and name=?", key)
        else:
            self._connection.execute("insert or replace into caps values (?, ?, ?, ?)", (*key, value))

    def _totals(self, keys: Sequence[str]) -> dict[str, Amount]:
        marks = ", ".join("?" * len(keys))
        rows = self._connection.execute(
            f"select scope, {', '.join(COLUMNS)} from totals where scope in ({marks})",  # noqa: S608
            keys,
        )
        return {scope: Amount(*counts) for scope, *counts in rows}

    def _book(self, keys: Iterable[str], amount: Amount) -> None:
        counts = amount.counts
        self._connection.executemany(
            _BOOK,
            [(key, *counts) for key in keys],
        )

    def _crossed(self, keys: Sequence[str], caps: Iterable[Cap], share: float) -> list[Cap]:
        """Caps that are used up to a share and were not told before; they count as told now."""
        used = self._totals(keys)
        found = [c for c in caps if c.scope in used and used[c.scope].of(c.unit) >= share * c.limit]
        new = []
        for cap in found:
            mark = f"{cap.name}={cap.limit};"
            told = self._connection.execute(
                "update totals set warned=warned||? where scope=? and instr(warned, ?)=0",
                (mark, cap.scope, mark),
            )
            new += [cap] if told.rowcount else []
        return new

    @contextmanager
    def _transaction(self, *, synced: bool = True) -> Iterator[None]:
        try:
            if not synced:
                self._connection.execute("pragma synchronous=normal")
            self._connection.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot write the budget: {error}; free some space or close the other program, then go on"
            ) from None
        finally:
            if not synced:
                self._connection.execute("pragma synchronous=full")


def _check(caps: Iterable[Cap], used: Mapping[str, Amount], amount: Amount) -> None:
    for cap in caps:
        wanted = amount.of(cap.unit)
        now = used.get(cap.scope, Amount()).of(cap.unit)
        # Time is not reserved: it is over when it is used up.
        if (wanted and now + wanted > cap.limit) or (cap.unit == "seconds" and now >= cap.limit):
            raise Full(cap, now, wanted)
