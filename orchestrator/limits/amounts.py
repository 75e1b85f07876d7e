"""Amounts as the ledger counts them, and how they are written for people.

Dollars are whole billionths, so that sums are exact; a reservation is rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Literal, NamedTuple, get_args

NANO = 1_000_000_000
"""Parts of a dollar."""
Unit = Literal["model_calls", "tool_calls", "iterations", "tokens", "usd", "seconds"]
COLUMN: dict[str, str] = {"usd": "nano", "seconds": "ms"}
"""The column that counts a unit, where it has another name."""


class Amount(NamedTuple):
    """What something takes or has taken. A tuple, because a dozen of them are made for each call."""

    model_calls: int = 0
    tool_calls: int = 0
    iterations: int = 0
    tokens: int = 0
    nano: int = 0
    """Billionths of a dollar."""
    ms: int = 0
    """Working time."""
    unpriced: int = 0
    """Model calls whose price is not known; they are not in `nano`."""

    def __add__(self, other: Amount) -> Amount:  # type: ignore[override]
        return Amount._make(map(int.__add__, self, other))

    def __sub__(self, other: Amount) -> Amount:
        return Amount._make(map(int.__sub__, self, other))

    def of(self, unit: Unit) -> int:
        """The count of a unit, in the ledger's own parts."""
        return self[_INDEX[unit]]


COLUMNS = Amount._fields
_INDEX = {unit: COLUMNS.index(COLUMN.get(unit, unit)) for unit in get_args(Unit)}
NOTHING = Amount()


@dataclass(frozen=True)
class Cap:
    """One limit that holds for a call."""

    scope: str
    """What it counts, as a key of the ledger's totals."""
    unit: Unit
    limit: int
    """In the ledger's own parts."""
    name: str
    """As a person writes it: `usd`, `day.usd`."""

    @property
    def label(self) -> str:
        """Who or what the limit is for: `turn`, `run`, `step`, `day`, `month`, `user`, `organisation`."""
        return self.scope.partition(":")[0].partition(".")[0]


def nano(usd: Decimal) -> int:
    """Dollars as billionths, rounded up."""
    return int((usd * NANO).to_integral_value(ROUND_CEILING))


def dollars(parts: int) -> Decimal:
    """Billionths as dollars."""
    return Decimal(parts) / NANO


def parts(unit: Unit, value: Decimal | float) -> int:
    """A limit that a person wrote, in the ledger's own parts, rounded down."""
    factor = {"usd": NANO, "seconds": 1000}.get(unit, 1)
    return int(Decimal(str(value)) * factor)


def shown(unit: Unit, count: int) -> str:
    """A count for people, without the unit's name."""
    if unit == "usd":
        return money(dollars(count))
    return f"{count / 1000:.0f}" if unit == "seconds" else f"{count:,}"


def money(usd: Decimal) -> str:
    """Dollars with as many digits as say something, at least cents."""
    if usd and abs(usd) < Decimal("0.0001"):
        return f"${usd:.9f}".rstrip("0")
    text = f"{usd:.4f}"
    return f"${text[:-2]}" if text.endswith("00") else f"${text}"
