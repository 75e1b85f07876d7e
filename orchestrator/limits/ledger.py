"""What was used, by whom and when: reserve before a call, settle after it, each in one transaction.

A reservation counts in full until it is settled, in every scope at once: turn, run, step, day and month in
the workspace's file, user and organisation in the one that all workspaces share. One that a killed process
left behind keeps counting: nobody knows whether the provider charged for it, and a cap must hold. Every check
and its booking are one `begin immediate` in both files, so processes cannot pass a cap together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import StorageError
from orchestrator.limits.amounts import NOTHING, Amount, Cap
from orchestrator.limits.entries import (
    SHARED,
    Place,
    Reservation,
    Scopes,
    Who,
    Wish,
    day_of,
    shared_scopes,
)
from orchestrator.limits.shared import Entry, Shared, amount_of, open_shared
from orchestrator.limits.totals import Totals, together

TURNED_BACK_SECONDS = 172_800
"""A clock that jumps back by less stays in the newer day; by more, it was wrong before."""
CLOCK_SECONDS = 60
"""How exactly the newest time is kept within a day."""
KNOWN_STEPS = 5
"""Steps of an agent from which on its past says what it will cost."""
LEAST_OUTPUT = 128
"""Tokens of an answer below which it is not worth asking: a call of a tool, or a short text."""
_ENTRY = "calls, tokens, nano, unpriced"


class Full(Exception):
    """A reservation does not fit; nothing was booked."""

    def __init__(self, cap: Cap, used: int, wanted: int) -> None:
        super().__init__(f"{cap.name}: {used} + {wanted} > {cap.limit}")
        self.cap, self.used, self.wanted = cap, used, wanted


class Ledger:
    """The books of one workspace, together with those of all workspaces where these can be had."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Callable[[], float] = time.time,
        *,
        shared: Shared | None = None,
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._totals = Totals(connection, "the budget")
        self._newest = 0.0
        """The newest time of the file, as it was read last."""
        self.shared = shared
        self.without_shared: StorageError | None = None
        """Why there are no books of all workspaces; users and organisations are counted here then."""
        if shared is not None:
            self._hand_over(shared)

    @classmethod
    def of(cls, root: Path, connection: sqlite3.Connection) -> Ledger:
        """The ledger of a workspace and the one of all workspaces."""
        try:
            return cls(connection, shared=open_shared(root))
        except StorageError as error:
            ledger = cls(connection)
            ledger.without_shared = error
            return ledger

    def close(self) -> None:
        """Close the books of all workspaces; the connection belongs to the caller."""
        if self.shared is not None:
            self.shared.close()

    def now(self) -> float:
        """The time that days and months are taken from: a clock that jumps back a little stands still."""
        wall = self._clock()
        row = self.connection.execute("select ms from totals where scope='clock'").fetchone()
        self._newest = newest = row[0] / 1000 if row else 0.0
        return newest if wall < newest <= wall + TURNED_BACK_SECONDS else wall

    def reserve(
        self, who: Who, place: Place, wish: Wish, scopes: Scopes, caps: Sequence[Cap], ms: int = 0
    ) -> Reservation:
        """Book a model call, its answer cut to what is left where needed; raises Full.

        Its `logs` have to be on the disk before an answer is used.
        """
        here, shared = self._keys(scopes)
        logs = self._logs(caps)
        with self._writing(() if logs else caps, everywhere=True):
            used = self._used(here, shared)
            output = self._fitting(wish, caps, used)
            amount = wish.amount(output)
            _check(caps, used, amount, ms)
            entry = self._enter(who, place, wish, scopes.now, output)
            self._totals.book(here, amount + Amount(ms=ms), used)
            self._keep_time(scopes.now)
            if self.shared:
                self.shared.hold((entry, scopes.now), shared, amount, used)
        return Reservation(entry, amount, output, scopes, tuple(caps), self.shared is not None, logs)

    def _enter(self, who: Who, place: Place, wish: Wish, now: float, output: int) -> int:
        """Write the entry of a call that is about to be made; returns its number."""
        amount = wish.amount(output)
        row = (
            now, day_of(now), who.run, who.line, who.turn, place.step, place.agent, place.node, who.user,
            who.organisation, place.model, "held", wish.input_tokens, output, amount.nano, amount.unpriced,
            amount.model_calls, amount.tokens,
        )  # fmt: skip
        added = self.connection.execute(
            "insert into spending (at, day, run, branch, turn, step, agent, node, user, organisation, "  # noqa: S608
            "model, state, input_tokens, output_tokens, nano, unpriced, calls, tokens) "
            f"values ({', '.join('?' * len(row))})",
            row,
        )
        return int(added.lastrowid or 0)

    def _fitting(self, wish: Wish, caps: Iterable[Cap], used: Mapping[str, Amount]) -> int:
        output = wish.output_tokens
        for cap in caps:
            room = cap.limit - used.get(cap.scope, NOTHING).of(cap.unit)
            output = min(output, wish.fitting(cap, room))
        return max(output, min(LEAST_OUTPUT, wish.output_tokens))

    def extend(self, held: Reservation, more: Amount, caps: Sequence[Cap]) -> Reservation:
        """Book more for a call that is asked again after a failed attempt that cost; raises Full."""
        here, shared = self._keys(held.scopes, held)
        with self._writing(caps, everywhere=held.is_shared):
            _check(caps, self._used(here, shared), more)
            self._totals.book(here, more)
            self.connection.execute(
                "update spending set nano=nano+?, calls=calls+?, tokens=tokens+? where id=?",
                (more.nano, more.model_calls, more.tokens, held.id),
            )
            if self.shared and held.is_shared:
                self.shared.extend(held.entry, shared, more)
        return replace(held, amount=held.amount + more)

    def settle(self, held: Reservation, actual: Amount, tokens: tuple[int, int], share: float) -> list[Cap]:
        """Replace a reservation by what was used; returns the caps that are used up to a share now.

        Tokens are those of the request and of the answer.
        """
        here, shared = self._keys(held.scopes, held)
        change = actual - held.amount
        # Not synced to the disk: after a power cut the reservation counts in full, which is on the safe side.
        with self._writing((), everywhere=held.is_shared):
            self.connection.execute(
                "update spending set state=?, input_tokens=?, output_tokens=?, nano=?, unpriced=?, calls=?, "
                "tokens=? where id=?",
                (
                    *("spent" if actual.model_calls else "released", *tokens),
                    *(actual.nano, actual.unpriced, actual.model_calls, actual.tokens, held.id),
                ),
            )
            self._totals.book(here, change)
            crossed = self._totals.crossed(self._totals.of(here), held.caps, share)
            if self.shared and held.is_shared:
                self.shared.settle(held.entry, shared, change)
                crossed += self.shared.crossed(self.shared.of(shared), held.caps, share)
            return crossed

    def take(self, scopes: Scopes, amount: Amount, caps: Sequence[Cap], share: float) -> list[Cap]:
        """Book something that is used up at once, such as a tool call; raises Full; returns as `settle`."""
        here, shared = self._keys(scopes)
        everywhere = bool(amount.tool_calls)
        with self._writing((), everywhere=everywhere):
            used = self._used(here, shared if everywhere else ())
            _check(caps, used, amount, amount.ms)
            self._totals.book(here, amount, used)
            crossed = self._totals.crossed(self._totals.of(here), caps, share)
            if self.shared and everywhere:
                self.shared.book(shared, Amount(tool_calls=amount.tool_calls), used)
                crossed += self.shared.crossed(self.shared.of(shared), caps, share)
            return crossed

    def tick(self, scopes: Scopes, ms: int) -> None:
        """Book working time, whether or not it is over a limit."""
        here = tuple(scopes.here.values())
        with self._writing((), everywhere=False):
            self._totals.book(here, Amount(ms=ms), ())

    def recover(self, run: str) -> int:
        """Mark what a killed process of a run left reserved; it keeps counting. Returns how many."""
        query = f"select id, at, user, organisation, {_ENTRY} from spending where run=? and state='held'"  # noqa: S608
        left = self.connection.execute(query, (run,)).fetchall()
        if left:
            with self._writing((), everywhere=True):
                self.connection.execute(
                    "update spending set state='lost' where run=? and state='held'", (run,)
                )
                for entry, at, user, organisation, *counts in left:
                    if self.shared and (entry, at) not in self.shared.held():
                        keys = tuple(shared_scopes(user, organisation, day_of(at)).values())
                        self.shared.book(keys, amount_of(counts), ())
        if self.shared:
            self.shared.reconcile(self._settled)
        return len(left)

    def _settled(self, entry: Entry) -> Amount | None:
        """What a call took, once that is known here."""
        row = self.connection.execute(
            f"select {_ENTRY} from spending where id=? and at=? and state<>'held'",  # noqa: S608
            entry,
        ).fetchone()
        return amount_of(row) if row else None

    def total(self, scope: str) -> Amount:
        """What a scope has used, reservations included."""
        is_shared = self.shared and scope.startswith(SHARED)
        totals = self.shared if self.shared and is_shared else self._totals
        return totals.of((scope,)).get(scope, Amount())

    def per_step(self, agent: str) -> tuple[int, int] | None:
        """Billionths of a dollar that an agent's steps took lately, from and to; None while few are known."""
        rows = self.connection.execute(
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
        into, out = self.connection.execute(
            "select total(input_tokens), total(output_tokens) from spending "
            "where run=? and branch=? and turn=? and state='spent'",
            (who.run, who.line, who.turn),
        ).fetchone()
        return int(into), int(out)

    def overrides(self, who: Who) -> list[tuple[str, str, str]]:
        """Caps set by hand, as (run or nothing, name, value): those of all runs and of this turn."""
        return self.connection.execute(
            "select run, name, value from caps where run='' or (run=? and turn in (0, ?))",
            (who.run, who.turn),
        ).fetchall()

    def set_cap(self, name: str, value: str | None, *, run: str = "", turn: int = 0) -> None:
        """Set a cap by hand, or take it away; of a run, it replaces what the settings say."""
        key = (run, turn, name)
        if value is None:
            self.connection.execute("delete from caps where run=? and turn=? and name=?", key)
        else:
            self.connection.execute("insert or replace into caps values (?, ?, ?, ?)", (*key, value))

    def _keys(
        self, scopes: Scopes, held: Reservation | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is booked in this workspace's file, and what in the one of all workspaces."""
        here, shared = tuple(scopes.here.values()), tuple(scopes.shared.values())
        is_apart = self.shared is not None if held is None else held.is_shared
        return (here, shared) if is_apart else (here + shared, ())

    def _used(self, here: Sequence[str], shared: Sequence[str]) -> dict[str, Amount]:
        used = self._totals.of(here)
        return used | self.shared.of(shared) if self.shared and shared else used

    def _keep_time(self, now: float) -> None:
        if 0 <= now - self._newest < CLOCK_SECONDS and day_of(now) == day_of(self._newest):
            return
        self.connection.execute(
            "insert into totals (scope, ms) values ('clock', ?) on conflict do update set ms=excluded.ms",
            (int(now * 1000),),
        )

    def _hand_over(self, shared: Shared) -> None:
        """Move what is counted here for users and organisations to the books of all workspaces."""
        query = "select scope from totals where scope >= ? and scope < ?"
        if not [row for name in SHARED for row in self.connection.execute(query, (f"{name}.", f"{name}/"))]:
            return
        with shared.transaction(synced=True), self._totals.transaction(synced=True):
            for name in SHARED:
                keys = [k for (k,) in self.connection.execute(query, (f"{name}.", f"{name}/")).fetchall()]
                for key, amount in self._totals.of(keys).items():
                    shared.book((key,), amount, ())
                    self.connection.execute("delete from totals where scope=?", (key,))
            # In this order, a process that is killed in between makes them count twice and not never.
            shared.commit()
            self._totals.commit()

    @contextmanager
    def _writing(self, caps: Iterable[Cap], *, everywhere: bool) -> Iterator[None]:
        """One transaction; where a limit of dollars holds, a power cut must not forget what was set aside."""
        synced = self._synced(caps)
        others = [self.shared] if self.shared and everywhere else []
        with together(self._totals, others, synced=synced[: len(others) + 1]):
            yield

    def _synced(self, caps: Iterable[Cap]) -> tuple[bool, bool]:
        """Whether a booking has to be on the disk, here and in the books of all workspaces."""
        found = {cap.label in SHARED and self.shared is not None for cap in caps if cap.unit == "usd"}
        return False in found, True in found

    def _logs(self, caps: Iterable[Cap]) -> tuple[str, ...]:
        """The files that such a booking is written to; none where one of them is not known."""
        files = zip((self._totals, self.shared), self._synced(caps), strict=True)
        logs = tuple(totals.log for totals, is_synced in files if totals and is_synced)
        return logs if all(logs) else ()


def _check(caps: Iterable[Cap], used: Mapping[str, Amount], amount: Amount, ms: int = 0) -> None:
    for cap in caps:
        wanted = amount.of(cap.unit)
        now = used.get(cap.scope, NOTHING).of(cap.unit)
        if cap.unit == "seconds":
            # Time is not reserved: it is over when it is used up.
            if now + ms >= cap.limit:
                raise Full(cap, now + ms, 0)
        elif wanted and now + wanted > cap.limit:
            raise Full(cap, now, wanted)
