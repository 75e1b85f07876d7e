"""What a turn may use, counted from the journal so that pauses and crashes do not reset it.

Each call is checked before it is made; prices come from `genai-prices` and are stored with the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.errors import BudgetExceeded
from orchestrator.events import Event
from orchestrator.settings import Limits, ModelSettings


@dataclass(frozen=True)
class Spent:
    """What a turn has used so far."""

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)
    unpriced_calls: int = 0
    """Model calls whose price is not known; they are not in `usd`."""
    seconds: float = 0.0
    """Working time, pauses left out."""


class Budget:
    """Counts one turn and refuses the call that would pass a limit."""

    def __init__(
        self, limits: Limits, past: Iterable[Event] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._started = clock()
        self._spent = Spent()
        for event in past:
            self.count(event)

    @property
    def spent(self) -> Spent:
        """Everything used up to now, this process and earlier ones."""
        spent = self._spent
        return Spent(**{**vars(spent), "seconds": spent.seconds + self._clock() - self._started})

    def count(self, event: Event) -> None:
        """Take one event of the turn into account."""
        spent = dict(vars(self._spent))
        if event.kind == "model_call":
            usd = event.fields.get("usd")
            spent["model_calls"] += 1
            spent["input_tokens"] += event.fields.get("input_tokens", 0)
            spent["output_tokens"] += event.fields.get("output_tokens", 0)
            spent["unpriced_calls"] += usd is None
            spent["usd"] += Decimal(usd or 0)
        elif event.kind == "tool_result" and not event.fields.get("served"):
            spent["tool_calls"] += 1
        elif event.kind == "end":
            spent["seconds"] += event.seconds or 0.0
        self._spent = Spent(**spent)

    def check(self) -> None:
        """Raise BudgetExceeded when one more call would pass a limit."""
        spent, limits = self.spent, self.limits
        for name, used, limit in (
            ("model_calls", spent.model_calls, limits.model_calls),
            ("tool_calls", spent.tool_calls, limits.tool_calls),
            ("seconds", round(spent.seconds), limits.seconds),
        ):
            if used >= limit:
                raise BudgetExceeded(_text(name.replace("_", " "), str(used), f"{limit:g}", name))
        if limits.usd is not None:
            if spent.unpriced_calls:
                raise BudgetExceeded(
                    f"limits.usd is set and {spent.unpriced_calls} calls went to a model of unknown price; "
                    "take limits.usd out of orchestrator.yaml or use a priced model"
                )
            if spent.usd >= limits.usd:
                raise BudgetExceeded(_text("", f"${spent.usd:.4f}", f"${limits.usd}", "usd"))


def _text(noun: str, used: str, limit: str, key: str) -> str:
    of = f"{used} of {limit} {noun}".rstrip()
    return f"this turn has used {of}; raise limits.{key} in orchestrator.yaml, then `orc resume`"


def price(settings: ModelSettings, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
    """Dollars of one call, after the offline price list of genai-prices; None when it knows no price."""
    if settings.provider == "embedded":
        return Decimal(0)
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - reads its list of prices when imported

    try:
        found = calc_price(
            Usage(input_tokens=input_tokens, output_tokens=output_tokens),
            model_ref=model,
            provider_api_url=settings.base_url,
        )
    except LookupError:
        return None
    return found.total_price
