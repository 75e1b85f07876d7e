"""How many tokens a request takes at most: what the server counted of its beginning, a bound for the rest.

Each request of a step begins with the one before it, so after the first one little has to be guessed.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage

from orchestrator.llm.question import MESSAGE_TOKENS, Question
from orchestrator.llm.tokens import most

REMEMBERED = 64
"""Requests whose count is kept."""
PREAMBLE = 400
"""Tokens that servers put around tools at most. Schemas have half the tokens of their bound."""
BELIEVABLE, OVERHEAD = 4, 1_000
"""What a report may be: so many times the bound, and what a server may add to a request of its own."""


@dataclass(frozen=True)
class Bound:
    """What a request takes at most."""

    tokens: int
    counted: int
    """Of these, what a server counted."""
    key: int
    """Of the whole request."""


class Counted:
    """What one model's server counted of its requests."""

    def __init__(self) -> None:
        self._found: dict[int, int] = {}
        self._denser = 1.0
        """By what factor the server counted more than a bound said."""

    def bound(self, question: Question) -> Bound:
        """No more tokens than this, unless the server counts as no tokenizer that we know."""
        wire = json.dumps([dict(question.options), question.response_format], default=str)
        key = hash(wire)
        counted = start = 0
        for index, message in enumerate(question.messages, 1):
            key = hash((key, message.type, *_texts(message)))
            if key in self._found:
                counted, start = self._found[key], index
        rest = sum(_most(message) for message in question.messages[start:])
        if not start:
            rest += max(most(wire), most(wire) // 2 + PREAMBLE if question.options.get("tools") else 0)
        return Bound(counted + math.ceil(rest * self._denser), counted, key)

    def learn(self, bound: Bound, reported: int) -> None:
        """Take what the server counted for a request of this bound."""
        if not 0 < reported <= BELIEVABLE * bound.tokens + OVERHEAD:
            return
        if reported > bound.tokens > bound.counted:
            self._denser *= (reported - bound.counted) / (bound.tokens - bound.counted)
        # Less than its own beginning: what the server remembered was left out, and may come back.
        self._found[bound.key] = reported if reported > bound.counted else bound.tokens
        if len(self._found) > REMEMBERED:
            del self._found[next(iter(self._found))]


def _texts(message: AnyMessage) -> tuple[str, str]:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return str(message.text), json.dumps(calls, default=str) if calls else ""


def _most(message: AnyMessage) -> int:
    return MESSAGE_TOKENS + sum(map(most, _texts(message)))
