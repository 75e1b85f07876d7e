"""Which caps hold for a call: the settings, the agent's own for a step, and what was set by hand.

Where two say something of the same thing, the smaller one holds; only a person's `--raise` replaces both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast, get_args

from orchestrator.errors import UsageError
from orchestrator.limits.amounts import Cap, Unit, parts
from orchestrator.settings import Limits, PeriodCaps, StepLimits

UNITS: tuple[Unit, ...] = get_args(Unit)
GROUPS = ("run", "day", "month", "user", "organisation")
GROUP_UNITS: tuple[Unit, ...] = ("usd", "tokens", "model_calls", "tool_calls")
NAMES = (*UNITS, *(f"{group}.{unit}" for group in GROUPS for unit in GROUP_UNITS))
"""Every limit that can be set by hand, as a person writes it."""


def said(limits: Limits) -> dict[str, Decimal]:
    """The limits of the settings by name; what is not limited is not there."""
    found: dict[str, Any] = {unit: getattr(limits, unit) for unit in UNITS}
    for group in GROUPS:
        found |= {f"{group}.{unit}": getattr(getattr(limits, group), unit) for unit in GROUP_UNITS}
    return {name: Decimal(str(value)) for name, value in found.items() if value is not None}


def held(by_settings: Mapping[str, Decimal], overrides: list[tuple[str, str, str]]) -> dict[str, Decimal]:
    """The limits that hold: the settings' and those set for all runs, the smaller one; then raises."""
    found = dict(by_settings)
    for run, name, value in sorted(overrides):
        # Sorted: those of all runs, which have no name, come first.
        number = Decimal(value)
        found[name] = number if run else min(found.get(name, number), number)
    return found


def caps(
    limits: Limits, values: Mapping[str, Decimal], scopes: Mapping[str, str], step: StepLimits | None = None
) -> tuple[Cap, ...]:
    """The caps of a call, the nearest scope first; `values` is what `held` gave."""
    return (*_of_step(step, scopes), *_of_turn(limits, values, scopes))


def _of_step(step: StepLimits | None, scopes: Mapping[str, str]) -> Iterator[Cap]:
    if step is None or "step" not in scopes:
        return
    for unit in UNITS:
        if (value := getattr(step, unit)) is not None:
            yield Cap(scopes["step"], unit, parts(unit, value), unit)


def _of_turn(limits: Limits, values: Mapping[str, Decimal], scopes: Mapping[str, str]) -> Iterator[Cap]:
    for name, value in values.items():
        group, _, unit = name.rpartition(".")
        yield Cap(scopes[_scope(group, limits)], cast("Unit", unit), parts(cast("Unit", unit), value), name)


def _scope(group: str, limits: Limits) -> str:
    """The name of the scope that a group of limits counts."""
    if not group:
        return "turn"
    settings = getattr(limits, group)
    return f"{group}.{settings.per}" if isinstance(settings, PeriodCaps) else group


def checked(name: str, value: str) -> Decimal:
    """A limit that a person gives by hand; raises UsageError for what is none."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(NAMES)}"
        raise UsageError(f"there is no limit {name!r}{hint}")
    try:
        number = Decimal(value.replace("_", "").removeprefix("$"))
    except InvalidOperation:
        raise UsageError(f"{name}: {value!r} is no number") from None
    is_whole = name.rpartition(".")[2] not in {"usd", "seconds"}
    if not number.is_finite() or not 0 <= number <= 10**12 or (is_whole and number != int(number)):
        kind = "a whole number" if is_whole else "a number"
        raise UsageError(f"{name}: must be {kind} from 0 to 1,000,000,000,000 (got {value})")
    return number
