"""Answers to `orc cost`: what was used, by whom, since when, and what is left of each cap."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from orchestrator.errors import UsageError
from orchestrator.limits.amounts import NOTHING, Amount, dollars, shown
from orchestrator.limits.caps import caps, held, said
from orchestrator.limits.entries import SHARED, Place, Who, scopes
from orchestrator.limits.ledger import Ledger
from orchestrator.limits.shared import KEPT
from orchestrator.limits.totals import Totals
from orchestrator.settings import Limits

By = Literal["agent", "model", "day", "run", "user", "organisation"]
SPANS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Row:
    """What one agent, model, day, run or user has used."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    usd: Decimal
    unpriced: int
    """Calls whose price is not known; they are not in `usd`."""
    lost: int
    """Calls that ended without a report and count as much as was set aside for them."""


def spending(connection: sqlite3.Connection, by: By, since: float = 0.0) -> list[Row]:
    """What was used, the dearest first; of days the newest first."""
    order = "1 desc" if by == "day" else "sum(nano) desc, 2 desc"
    name = f"case {by} when '' then coalesce(nullif(node, ''), '-') else {by} end"
    rows = connection.execute(
        f"select {name if by == 'agent' else by}, count(*), total(input_tokens), total(output_tokens), "  # noqa: S608
        "sum(nano), total(unpriced), total(state in ('lost', 'held')) "
        f"from spending where at>=? and state<>'released' group by 1 order by {order}",
        (since,),
    )
    return [
        Row(str(n or "-"), c, int(i), int(o), dollars(usd), int(u), int(x)) for n, c, i, o, usd, u, x in rows
    ]


Group = Literal["user", "organisation", "day", "month"]


@dataclass(frozen=True)
class Sum:
    """What one user, organisation, day or month has used in all workspaces."""

    name: str
    calls: int
    tokens: int
    usd: Decimal
    """Calls that were cut off or are under way count as much as was set aside for them."""
    unpriced: int


def everywhere(shared: Totals, by: Group, since: str = "") -> list[Sum]:
    """Sums over all workspaces, the dearest first, of periods the newest first; `since` is a day.

    Days and months add up users: each call counts for one. Months are whole, also the first one.
    """
    period = by if by in KEPT else "day" if since else "total"
    length = KEPT[period][1] if period in KEPT else 0
    sums: dict[str, Amount] = {}
    for value, amount in shared.beginning(f"{by if by in SHARED else 'user'}.{period}:").items():
        who, when = (value[: -length - 1], value[-length:]) if length else (value, "")
        if when >= since[:length]:
            name = when if by == period else who
            sums[name] = sums.get(name, NOTHING) + amount
    rows = [
        Sum(name or "-", used.model_calls, used.tokens, dollars(used.nano), used.unpriced)
        for name, used in sums.items()
        if used.model_calls
    ]
    return sorted(rows, key=lambda row: row.name if by == period else (row.usd, row.calls), reverse=True)


@dataclass(frozen=True)
class CapRow:
    """One cap and what is used of it."""

    name: str
    used: str
    """Empty for a cap of each turn or run."""
    limit: str
    origin: str


def cap_rows(ledger: Ledger, limits: Limits, user: str, organisation: str) -> list[CapRow]:
    """All caps that hold in this workspace."""
    who = Who("", 0, user, organisation)
    overrides = ledger.overrides(who)
    by_hand = {name: value for _, name, value in overrides}
    keys = scopes(who, Place(), ledger.now()).all
    values = held(said(limits), overrides)
    rows = []
    for cap in caps(limits, values, keys):
        is_each = cap.label in {"turn", "run"}
        used = "" if is_each else shown(cap.unit, ledger.total(cap.scope).of(cap.unit))
        is_set = cap.name in by_hand and Decimal(by_hand[cap.name]) == values[cap.name]
        rows.append(
            CapRow(cap.name, used, shown(cap.unit, cap.limit), "orc cost cap" if is_set else "settings")
        )
    return rows


def moment(text: str, now: float) -> float:
    """A date such as 2026-11-01 (UTC), or a time span back from now such as 7d; raises UsageError."""
    span = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip())
    if span:
        return now - int(span[1]) * SPANS[span[2]]
    try:
        then = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{text!r} is no time; write a date such as 2026-11-01 or a span such as 7d"
        ) from None
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()
