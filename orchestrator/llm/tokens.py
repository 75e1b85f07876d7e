"""How many tokens a text has, without a tokenizer: estimated by the kinds of its characters, then calibrated.

Prose, code, logs and listings differ by a factor of three in characters a token, so that one divisor is
wrong for most of them. What a server reports of a request corrects the estimate for its model from then on.
"""

from __future__ import annotations

import string

_HIGH = bytes(range(128, 256))
_DIGITS = string.digits.encode()
_LETTERS = string.ascii_letters.encode()
_BLANKS = b" "
PER_TOKEN = {"letters": 4.6, "digits": 1.9, "blanks": 8.0, "signs": 1.25, "high": 2.7}
"""Bytes a token, by kind; blanks mostly join the word after them."""
SMOOTHING = 0.3
"""The weight of the newest report."""
LEAST, MOST = 0.4, 3.0
"""What a correction may be; beyond it the report is about something else than the request."""


def tokens(text: str) -> int:
    """About how many tokens a text has; at least one for a text that is not empty."""
    data = text.encode("utf-8", "replace")
    sizes = {}
    for kind, members in (("high", _HIGH), ("letters", _LETTERS), ("digits", _DIGITS), ("blanks", _BLANKS)):
        rest = data.translate(None, members)
        sizes[kind], data = len(data) - len(rest), rest
    sizes["signs"] = len(data)
    found = sum(size / PER_TOKEN[kind] for kind, size in sizes.items())
    return max(round(found), 1) if text else 0


class Calibration:
    """What reports have taught about each model."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def learn(self, model: str, guessed: int, reported: int) -> None:
        """Take a report into account; one that cannot be about the request is left out."""
        if guessed < 50 or reported <= 0 or not LEAST <= reported / guessed <= MOST:
            return
        before = self._factors.get(model)
        ratio = reported / guessed
        self._factors[model] = ratio if before is None else before + SMOOTHING * (ratio - before)

    def factor(self, model: str) -> float:
        """By what an estimate has to be multiplied; 1 while nothing was reported."""
        return self._factors.get(model, 1.0)


CALIBRATION = Calibration()
"""Of this process."""
