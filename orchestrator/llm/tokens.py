"""How many tokens a text has, without a tokenizer: estimated by the kinds of its characters, then calibrated.

Prose, code, logs and listings differ by a factor of three in characters a token, so that one divisor is
wrong for most of them. What a server reports of a request corrects the estimates of those that follow.
"""

from __future__ import annotations

import string

_HIGH = bytes(range(128, 256))
_DIGITS = string.digits.encode()
_LETTERS = string.ascii_letters.encode()
_BLANKS = b" "
PER_TOKEN = {"letters": 4.6, "digits": 1.9, "blanks": 8.0, "signs": 1.25, "high": 2.7}
"""Bytes a token, by kind; blanks mostly join the word after them."""
LEAST, MOST = 0.5, 3.0
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


def correction(guessed: int, reported: int) -> float:
    """By what estimates have to be multiplied, after what a server reported for a request; 1 for nonsense."""
    ratio = reported / guessed if guessed > 0 else 1.0
    return ratio if LEAST <= ratio <= MOST else 1.0
