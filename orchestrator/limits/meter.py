"""Set money aside before a model is asked, and book and journal what the call took.

An attempt that ended without a report, by a broken stream, a time limit or Ctrl-C, counts as much as was
set aside for it: the provider may have charged for it, and a cap must hold. So does one whose report
cannot be true.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from orchestrator.errors import BudgetExceeded, StorageError
from orchestrator.events import Journal
from orchestrator.limits.amounts import Amount, dollars, nano
from orchestrator.limits.budget import Budget
from orchestrator.limits.disk import soon
from orchestrator.limits.entries import Wish
from orchestrator.limits.prices import Cost, Tokens, cost, own_prices, prices_path
from orchestrator.llm.base import Usage
from orchestrator.llm.counted import BELIEVABLE, OVERHEAD
from orchestrator.settings import ModelSettings


class BudgetMeter:
    """The meter of one model in one turn; raises ConfigError for a wrong price file."""

    def __init__(self, budget: Budget, journal: Journal, settings: ModelSettings) -> None:
        self.budget, self.journal, self.settings = budget, journal, settings
        self._prices = own_prices()

    def cost(self, model: str, tokens: Tokens) -> Cost | None:
        """What a call costs; None when the price is unknown."""
        return cost(self.settings, model, tokens, self._prices)

    def reserve(self, model: str, input_tokens: int, output_tokens: int) -> BudgetHold:
        """Set aside what a call takes at most; raises BudgetExceeded."""
        most = self.cost(model, Tokens(input_tokens, output_tokens))
        if most is None and not self.budget.limits.allow_unpriced and self.budget.has_dollar_cap():
            raise BudgetExceeded(
                f"a limit of dollars is set and the price of {model} is unknown; give it one in "
                f"{prices_path()}, set limits.allow_unpriced: true, or use a priced model"
            )
        front, rest = (nano(most.input), nano(most.output)) if most else (0, 0)
        wish = Wish(input_tokens, output_tokens, front, rest, most is None)
        return BudgetHold(self, model, wish)


class BudgetHold:
    """Money set aside for one call."""

    def __init__(self, meter: BudgetMeter, model: str, wish: Wish) -> None:
        self._meter, self._model, self._wish = meter, model, wish
        self._held = meter.budget.reserve(wish, model, waits=False)
        self._on_disk = soon(self._held.logs) if self._held.logs else None
        self._one = self._held.amount
        self._lost = 0
        self._is_open = True

    @property
    def output_tokens(self) -> int:
        """How long the answer may be for it."""
        return self._held.output_tokens

    async def safe(self) -> None:
        """Return once no loss of power can make it forgotten; raises StorageError when the disk refuses."""
        if self._on_disk is None:
            return None
        try:
            if self._on_disk.done():
                # Most often it is by now, and to be woken takes longer than to look.
                return self._on_disk.result()
            await asyncio.shield(asyncio.wrap_future(self._on_disk))
        except OSError as error:
            raise StorageError(
                f"cannot write the budget: {error}; see whether the disk is full or failing, then go on"
            ) from None

    def lose(self) -> None:
        """An attempt ended without a report and may have cost: it counts in full."""
        self._lost += 1

    def again(self) -> None:
        """Set aside what another attempt may take; raises BudgetExceeded."""
        if self._held.amount.model_calls <= self._lost:
            self._held = self._meter.budget.extend(self._held, self._one)

    def settle(self, usage: Usage) -> None:
        """Book what the call took, and write it down."""
        tokens = self._believed(usage)
        found = self._meter.cost(self._model, tokens)
        usd = None if found is None else found.total
        into, out = (
            (usage.input_tokens, usage.output_tokens) if usage.is_estimated else (tokens.input, tokens.output)
        )
        # An estimate is right for the books and too low for a cap.
        amount = self._lost_amount() + Amount(
            model_calls=1,
            tokens=tokens.input + tokens.output,
            nano=nano(usd or Decimal(0)),
            unpriced=int(usd is None),
        )
        self._book(amount, (into, out))
        self._meter.journal.write(
            "model_call",
            model=usage.model,
            input_tokens=into,
            output_tokens=out,
            cached_tokens=usage.cached_tokens,
            first_token_seconds=usage.first_token_seconds,
            attempts=usage.attempts,
            usd=None if usd is None else str(dollars(amount.nano)),
            seconds=usage.seconds,
        )

    def release(self) -> None:
        """Give back what was not used; does nothing once it is settled."""
        lost = self._lost_amount()
        self._book(lost, (self._wish.input_tokens * self._lost, self.output_tokens * self._lost))

    def _book(self, amount: Amount, tokens: tuple[int, int]) -> None:
        if self._is_open:
            self._is_open = False
            self._meter.budget.settle(self._held, amount, tokens)

    def _lost_amount(self) -> Amount:
        total = Amount()
        for _ in range(self._lost):
            total += self._one
        return total

    def _believed(self, usage: Usage) -> Tokens:
        """Tokens to charge; what was not reported, or cannot have been meant, is on the safe side."""
        most_in, most_out = self._wish.input_tokens, self.output_tokens
        into, out = usage.input_tokens, usage.output_tokens
        if usage.is_estimated:
            return Tokens(most_in, min(most_out, BELIEVABLE * out + 16))
        if 0 < into <= BELIEVABLE * most_in + OVERHEAD and 0 <= out <= BELIEVABLE * most_out + OVERHEAD:
            return Tokens(into, out, usage.cached_tokens)
        self._meter.journal.write(
            "note",
            text=f"{self._model} reports {into:,} tokens in and {out:,} out, which cannot be; "
            f"counted as {most_in:,} and {most_out:,}",
        )
        return Tokens(most_in, most_out)
