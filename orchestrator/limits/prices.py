"""What a model costs: the user's own `prices.yaml` first, then the offline list of genai-prices.

A price that is in neither is unknown, which is never taken for zero; the embedded model costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field

from orchestrator.documents import read_yaml, validate
from orchestrator.llm.endpoint import is_private
from orchestrator.settings import ModelSettings, Strict, config_dir

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

PRICES_FILE = "prices.yaml"
MILLION = Decimal(1_000_000)
MINUTE = 60
RESOLD = frozenset({"openai", "anthropic", "google", "x-ai", "mistral", "cohere", "perplexity"})
"""Providers whose models nobody runs at home: one of that name behind a private address is passed on."""

Rate = Annotated[Decimal, Field(ge=0, le=1_000_000)]


class Price(Strict):
    """Dollars for a million tokens of one model."""

    input: Rate
    """Of the request."""
    output: Rate
    """Of the answer."""
    cached_input: Rate | None = None
    """Of the part of the request that the server remembered; as `input` when nothing is said."""


class PriceFile(Strict):
    """The whole of `prices.yaml`."""

    models: dict[str, Price]
    """By the model's name, which may hold `*`; the first one that fits counts."""


def prices_path() -> Path:
    """Where the user's own prices lie."""
    return config_dir() / PRICES_FILE


def own_prices() -> Mapping[str, Price]:
    """The user's own prices, none without a file; raises ConfigError with file and line."""
    path = prices_path()
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return {}
        changed = 0
    return _read(path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Mapping[str, Price]:
    return validate(read_yaml(path), PriceFile).models


@dataclass(frozen=True)
class Cost:
    """Dollars of one call."""

    input: Decimal
    output: Decimal

    @property
    def total(self) -> Decimal:
        """Request and answer together."""
        return self.input + self.output


@dataclass(frozen=True)
class Tokens:
    """What a call takes."""

    input: int
    output: int
    cached: int = 0
    """Of the request, what the server remembered."""


def cost(
    settings: ModelSettings, model: str, tokens: Tokens, prices: Mapping[str, Price] | None = None
) -> Cost | None:
    """What one call costs; None when the price is unknown.

    Raises ConfigError when `prices` are not given and the user's file is wrong.
    """
    if settings.provider == "embedded":
        return Cost(Decimal(0), Decimal(0))
    cached = min(max(tokens.cached, 0), tokens.input)
    for name, own in (own_prices() if prices is None else prices).items():
        if fnmatchcase(model.lower(), name.lower()):
            rate = own.input if own.cached_input is None else own.cached_input
            into = own.input * (tokens.input - cached) + rate * cached
            return Cost(into / MILLION, own.output * tokens.output / MILLION)
    return _listed(settings.base_url, model, Tokens(tokens.input, tokens.output, cached))


def price(settings: ModelSettings, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
    """Dollars of one call in all; None when the price is unknown. Raises ConfigError."""
    found = cost(settings, model, Tokens(input_tokens, output_tokens))
    return None if found is None else found.total


def _listed(url: str | None, model: str, tokens: Tokens) -> Cost | None:
    rates = _rates(url, model, int(time.time() // MINUTE))
    if rates is not None:
        into = rates.input * (tokens.input - tokens.cached) + rates.cached * tokens.cached
        return Cost(into / MILLION, rates.output * tokens.output / MILLION)
    found = _entry(url, model)
    return None if found is None else _computed(found, tokens)


@dataclass(frozen=True)
class Rates:
    """Dollars for a million tokens of a model that has one price for each kind."""

    input: Decimal
    output: Decimal
    cached: Decimal


@lru_cache(maxsize=64)
def _rates(url: str | None, model: str, _minute: int) -> Rates | None:
    """The flat rates of a listed model, which may change with the hour; None where prices come in tiers.

    The list takes 0.2 ms to compute one call; a multiplication takes none.
    """
    from genai_prices.types import ModelPrice  # noqa: PLC0415

    found = _entry(url, model)
    if found is None:
        return None
    price: ModelPrice = found.model.get_prices(datetime.now(UTC))
    if any(not isinstance(value, Decimal | None) for value in vars(price).values()):
        return None
    one = int(MILLION)
    plain = _computed(found, Tokens(one, one))
    return Rates(plain.input, plain.output, _computed(found, Tokens(one, 0, one)).input)


def _computed(found: PriceCalculation, tokens: Tokens) -> Cost:
    from genai_prices import Usage  # noqa: PLC0415 - takes half a second to import

    usage = Usage(
        input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cached or None
    )
    result = found.model.calc_price(usage, found.provider)
    return Cost(result.total_price - result.output_price, result.output_price)


@lru_cache(maxsize=64)
def _entry(url: str | None, model: str) -> PriceCalculation | None:
    """Where the list has a model; None when it has it not."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415

    one = Usage(input_tokens=1, output_tokens=1)
    try:
        return calc_price(one, model_ref=model, provider_api_url=url)
    except LookupError:
        pass
    try:
        found = calc_price(one, model_ref=model)
    except LookupError:
        return None
    # A server of one's own may well run an open model of that name, and that costs nothing known.
    is_own = url is not None and is_private(urlsplit(url).hostname or "")
    return None if is_own and found.provider.id not in RESOLD else found
