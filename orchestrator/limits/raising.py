"""Give a run that met a limit more to go on with: `orc resume --raise usd=0.05`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.limits.caps import checked, held, said
from orchestrator.limits.entries import Who
from orchestrator.limits.ledger import Ledger
from orchestrator.runs import Runs
from orchestrator.settings import Limits
from orchestrator.storage import opened_state, state_path


def assignments(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` as a mapping; raises UsageError."""
    found = {}
    for text in texts:
        name, is_given, value = text.partition("=")
        if not is_given or not value.strip():
            raise UsageError(f"{text!r}: write NAME=VALUE, such as usd=0.05")
        found[name.strip().removeprefix("limits.")] = value.strip()
    return found


def raise_of_run(root: Path, limits: Limits, run: str | None, wanted: Sequence[str]) -> str:
    """Raise limits of a run that did not end, the newest by default; returns its id; raises UsageError."""
    if not state_path(root).exists():
        raise UsageError(f"there is no run {run or 'to resume'} here yet")
    with opened_state(root) as connection:
        runs = Runs(connection, root)
        row = runs.last_resumable() if run is None else runs.get(run)
        raise_limits(connection, limits, Who(row.id, row.turns), wanted)
        return row.id


def raise_limits(
    connection: sqlite3.Connection, limits: Limits, who: Who, wanted: Sequence[str]
) -> dict[str, Decimal]:
    """Replace limits for one turn of a run, those named `run.` for all of it; raises UsageError.

    A value that begins with `+` is added to the limit that holds now.
    """
    ledger = Ledger(connection)
    now = held(said(limits), ledger.overrides(who))
    new = {}
    for name, value in assignments(wanted).items():
        number = checked(name, value.removeprefix("+"))
        if name not in now:
            raise UsageError(f"limits.{name} is not set, so there is nothing to raise")
        new[name] = now[name] + number if value.startswith("+") else number
        if new[name] <= now[name]:
            raise UsageError(f"{name}={value} is not more than the limit that holds now, {now[name]:f}")
    for name, number in new.items():
        turn = 0 if name.startswith("run.") else who.turn
        ledger.set_cap(name, f"{number:f}", run=who.run, turn=turn)
    return new
