"""What is booked: for whom and where something is used, what a call may take, and what it counts for."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from orchestrator.limits.amounts import Amount, Cap

SHARED = ("user", "organisation")
"""Whose scopes are counted over all workspaces."""
DAY_SECONDS = 86_400


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
    user = os.environ.get("ORC_USER", "").strip()
    if not user:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = f"uid {os.getuid()}"
    return user, os.environ.get("ORC_ORGANISATION", "").strip()


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
class Scopes:
    """What a call counts for, by the name of the scope, and when that is."""

    now: float
    here: Mapping[str, str]
    shared: Mapping[str, str]
    """Counted over all workspaces of the user."""
    all: Mapping[str, str]
    """Both together."""


def scopes(who: Who, place: Place, now: float) -> Scopes:
    """What a call counts for."""
    return Scopes(now, *_scopes(who, place.step, day_of(now)))


@lru_cache(maxsize=64)
def _scopes(who: Who, step: str, day: str) -> tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]]:
    here = {
        "turn": f"turn:{who.line}/{who.turn}",
        "run": f"run:{who.run}",
        "day": f"day:{day}",
        "month": f"month:{day[:7]}",
    }
    if step:
        here["step"] = f"step:{who.line}/{who.turn}/{step}"
    shared = shared_scopes(who.user, who.organisation, day)
    return here, shared, {**here, **shared}


def shared_scopes(user: str, organisation: str, day: str) -> dict[str, str]:
    """What a call counts for over all workspaces."""
    found: dict[str, str] = {}
    for name, value in zip(SHARED, (user, organisation), strict=True):
        found |= {f"{name}.total": f"{name}.total:{value}", f"{name}.day": f"{name}.day:{value}:{day}"}
        found[f"{name}.month"] = f"{name}.month:{value}:{day[:7]}"
    return found


FIRST, LAST = -62_135_596_800.0, 253_402_300_799.0
"""The first and the last second that has a date."""


def day_of(now: float) -> str:
    """The day of a time, in UTC; the first or the last that there is, where a clock is beyond it."""
    return _day(int(min(max(now, FIRST), LAST) // DAY_SECONDS))


@lru_cache(maxsize=8)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_SECONDS, UTC).date().isoformat()


@dataclass(frozen=True)
class Reservation:
    """A booked model call that has not come back yet."""

    id: int
    amount: Amount
    output_tokens: int
    scopes: Scopes
    caps: tuple[Cap, ...]
    """Those that held when it was booked."""
    is_shared: bool
    """Whether it is in the ledger of all workspaces too."""
    logs: tuple[str, ...] = ()
    """Files that have to be on the disk before an answer is used."""

    @property
    def entry(self) -> tuple[int, float]:
        """Its number and time."""
        return self.id, self.scopes.now
