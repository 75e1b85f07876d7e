"""What the nodes ask before they use something: `check`, `take` and `reserve`.

Every limit that holds is checked in the shared file, in the transaction that books the use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.agents import Agent
from orchestrator.cancel import Cancel
from orchestrator.errors import BudgetExceeded, StorageError
from orchestrator.events import Journal, scope
from orchestrator.limits.amounts import Amount, Cap, Unit, dollars, money, parts, shown
from orchestrator.limits.caps import caps, held, said
from orchestrator.limits.disk import soon
from orchestrator.limits.entries import SHARED, Place, Reservation, Scopes, Who, Wish, scopes
from orchestrator.limits.ledger import Full, Ledger
from orchestrator.limits.notices import Notices
from orchestrator.settings import Limits

WHOSE = {
    "turn": "this turn",
    "run": "this run",
    "step": "this step",
    "day": "this workspace today",
    "month": "this workspace this month",
}


TICK_MS = 200
"""Working time is booked in pieces of at least this, so that it costs nothing."""


class StepOver(BudgetExceeded):
    """An agent's own limit for a step is reached; the step fails, and the turn goes on."""


@dataclass(frozen=True)
class Spent:
    """What a turn has used so far."""

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)
    """Calls that were cut off count in full."""
    unpriced_calls: int = 0
    """Model calls whose price is not known; they are not in `usd`."""
    seconds: float = 0.0
    """Working time, pauses left out."""


class Budget:
    """The limits of one turn, and of everything that the turn is a part of."""

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger,
        who: Who,
        *,
        agents: Mapping[str, Agent] | None = None,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits, self.ledger, self.who = limits, ledger, who
        self._said = said(limits)
        self._agents = agents or {}
        self._journal = journal
        self._clock = clock
        self._ticked = clock()
        self._due: float | None = None
        """When the working time of the turn is used up, by our clock; None while that is not known."""
        self._notices = Notices(limits.on_warning)
        self._known: tuple[Any, tuple[Cap, ...]] = (None, ())
        """The caps that were found last, and for what."""
        ledger.recover(who.run)

    @property
    def spent(self) -> Spent:
        """Everything that the turn used up to now, this process and earlier ones."""
        self._tick(1)
        total = self.ledger.total(f"turn:{self.who.line}/{self.who.turn}")
        into, out = self.ledger.tokens(self.who)
        return Spent(
            model_calls=total.model_calls,
            tool_calls=total.tool_calls,
            input_tokens=into,
            output_tokens=out,
            usd=dollars(total.nano),
            unpriced_calls=total.unpriced,
            seconds=total.ms / 1000,
        )

    def check(self) -> None:
        """Raise BudgetExceeded when the turn may not go on at all."""
        self._take(Amount())

    def begin_round(self) -> None:
        """Count a round of thinking and acting; raises BudgetExceeded, StepOver for the agent's own limit."""
        self._take(Amount(iterations=1))

    def take_tool(self) -> None:
        """Count a tool call about to run; raises BudgetExceeded, StepOver for the agent's own limit."""
        self._take(Amount(tool_calls=1))

    def has_dollar_cap(self) -> bool:
        """Whether any limit of dollars holds for a call that is made now."""
        return any(cap.unit == "usd" for cap in self._standing()[2])

    def reserve(self, wish: Wish, model: str, *, waits: bool = True) -> Reservation:
        """Book a model call before it is made; raises BudgetExceeded.

        Without `waits`, the caller sees to it that the `logs` are on the disk.
        """
        place, found, caps = self._standing(model)
        with self._working() as ms:
            held = self.ledger.reserve(self.who, place, wish, found, caps, ms)
        if waits and held.logs:
            soon(held.logs).result()
        return held

    def extend(self, held: Reservation, more: Amount) -> Reservation:
        """Book another attempt of a call whose last attempt may have cost; raises BudgetExceeded."""
        with self._working(0):
            return self.ledger.extend(held, more, self._standing()[2])

    def settle(self, held: Reservation, actual: Amount, tokens: tuple[int, int]) -> None:
        """Book what a call has taken in place of what was reserved."""
        self._warn(self.ledger.settle(held, actual, tokens, self.limits.warn_at))

    def watch(self, cancel: Cancel) -> None:
        """Set the token when the turn's working time is used up; called often, it costs nothing."""
        if self._due is None:
            left = [
                cap.limit - self.ledger.total(cap.scope).of(cap.unit)
                for cap in self._standing()[2]
                if cap.unit == "seconds" and cap.label == "turn"
            ]
            self._due = self._ticked + min(left) / 1000 if left else float("inf")
        if self._clock() < self._due:
            return
        self._due = None
        try:
            self.check()
        except BudgetExceeded as error:
            cancel.ask(error)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no working time meanwhile: a person is asked."""
        self._tick(1)
        try:
            yield
        finally:
            self._ticked = self._clock()
            self._due = None

    def finish(self, seconds: float | None = None) -> None:
        """Wait, some seconds at most, until everyone is told of the warnings."""
        for fault in self._notices.finish(seconds):
            if self._journal is not None:
                self._journal.write("note", text=fault)

    def close(self) -> None:
        """Close what the ledger opened."""
        self.ledger.close()

    def _take(self, amount: Amount) -> None:
        _, found, caps = self._standing()
        with self._working() as ms:
            crossed = self.ledger.take(found, amount + Amount(ms=ms), caps, self.limits.warn_at)
        self._warn(crossed)

    @contextmanager
    def _working(self, least: int = TICK_MS) -> Iterator[int]:
        """Milliseconds worked since they were booked last, 0 while they are few; booked by what is inside."""
        now = self._clock()
        ms = int((now - self._ticked) * 1000)
        ms = ms if least and ms >= least else 0
        try:
            yield ms
        except Full as full:
            self._tick(1)
            raise self._over(full) from None
        if ms:
            self._ticked = now

    def _tick(self, least: int) -> None:
        now = self._clock()
        ms = int((now - self._ticked) * 1000)
        if ms >= least:
            self._ticked = now
            self.ledger.tick(scopes(self.who, self._place(), self.ledger.now()), ms)

    def _place(self, model: str = "") -> Place:
        where = scope()
        return Place(where.get("node", ""), where.get("step", ""), where.get("agent", ""), model)

    def _standing(self, model: str = "") -> tuple[Place, Scopes, tuple[Cap, ...]]:
        """Where we are, what a use counts for and which caps hold; raises StorageError."""
        place = self._place(model)
        found = scopes(self.who, place, self.ledger.now())
        overrides = self.ledger.overrides(self.who)
        key = (found.all, place.agent, overrides)
        if self._known[0] != key:
            agent = self._agents.get(place.agent)
            values = held(self._said, overrides)
            self._known = key, caps(self.limits, values, found.all, agent.limits if agent else None)
            self._need_shared(self._known[1])
        return place, found, self._known[1]

    def _need_shared(self, found: Sequence[Cap]) -> None:
        """Refuse to go on when a limit holds for all workspaces and their ledger cannot be had."""
        cap = next((cap for cap in found if cap.label in SHARED), None)
        if cap and self.ledger.without_shared:
            raise StorageError(f"limits.{cap.name} counts all workspaces, and {self.ledger.without_shared}")

    def _warn(self, crossed: Sequence[Cap]) -> None:
        for cap in crossed:
            used = self.ledger.total(cap.scope).of(cap.unit)
            warning = {"warning": True, **told(cap, used)}
            if self._journal is not None:
                self._journal.write("budget", **warning)
            self._notices.send({"run": self.who.run, "user": self.who.user, **warning})

    def _over(self, full: Full) -> BudgetExceeded:
        cap = full.cap
        noun = "" if cap.unit == "usd" else f" {cap.unit.replace('_', ' ')}"
        text = (
            f"{_whose(cap, self.who)} has used {shown(cap.unit, full.used)} of "
            f"{shown(cap.unit, cap.limit)}{noun}"
        )
        if full.wanted > 1 and cap.unit in {"usd", "tokens"}:
            text += f", and the next call may take up to {shown(cap.unit, full.wanted)}"
        if cap.label == "step":
            where = scope().get("agent", "")
            return StepOver(f"{where}: {text} (limits.{cap.unit} of the agent)")
        enough = suggested(cap.unit, full.used + full.wanted, cap.limit)
        return BudgetExceeded(
            f"{text}; {self._way_out(cap)}, then `orc resume`, "
            f"or `orc resume {self.who.run} --raise {cap.name}={enough}`"
        )

    def _way_out(self, cap: Cap) -> str:
        by_hand = {name: value for run, name, value in self.ledger.overrides(self.who) if not run}
        if cap.name in by_hand and parts(cap.unit, Decimal(by_hand[cap.name])) == cap.limit:
            return f"it was set by hand: `orc cost cap {cap.name}=…` sets another one, or `none`"
        return f"raise limits.{cap.name} in orchestrator.yaml"


def _whose(cap: Cap, who: Who) -> str:
    if cap.label == "user":
        return f"the user {who.user}"
    if cap.label == "organisation":
        return f"the organisation {who.organisation}".rstrip()
    return WHOSE[cap.label]


def told(cap: Cap, used: int) -> dict[str, Any]:
    """A limit and what is used of it, as an event says it."""
    return {
        "limit": cap.name,
        "used": shown(cap.unit, used),
        "of": shown(cap.unit, cap.limit),
        "share": round(used / cap.limit, 3) if cap.limit else 1.0,
    }


LEAST_SECONDS = 60
"""Of working time: less would not bring a turn far."""


def suggested(unit: Unit, needed: int, limit: int) -> str:
    """A round value that is enough to go on: twice the limit, or twice what is needed."""
    enough = 2 * max(needed, limit, parts(unit, Decimal("0.01")) if unit == "usd" else 1)
    if unit == "usd":
        return money(dollars(enough)).removeprefix("$")
    return str(max(enough // 1000, LEAST_SECONDS) if unit == "seconds" else enough)
