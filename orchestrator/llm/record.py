"""How an exchange with a model is written down: each message once, by digest, however often it is sent.

A conversation is sent whole with every call, so that storing requests as they are would cost the square
of its length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.llm.wire import Exchange

Keep = Callable[[str], str]
"""Stores a text and returns its digest."""
Kept = Callable[[str], str]
"""Returns the text of a digest."""


@dataclass(frozen=True)
class Asked:
    """The body of a request, taken apart."""

    messages: tuple[str, ...]
    """Each as JSON."""
    options: str
    """All the rest as JSON: model, limits, tools."""

    def is_like(self, other: Asked) -> bool:
        """Whether both ask the same; how long the answer may be depends on the money that was left."""
        return self.messages == other.messages and _sans_length(self.options) == _sans_length(other.options)


def asked(body: bytes) -> Asked:
    """Take a request apart; one that is no JSON object is all options."""
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return Asked((), body.decode("utf-8", "replace"))
    messages = value.pop("messages", [])
    return Asked(tuple(_canonical(message) for message in messages), _canonical(value))


def written(exchange: Exchange, keep: Keep) -> dict[str, Any]:
    """The fields of an `exchange` event."""
    parts = asked(exchange.request)
    return {
        "path": exchange.path,
        "messages": [keep(message) for message in parts.messages],
        "options": keep(parts.options),
        "status": exchange.status,
        "content_type": exchange.content_type,
        "response": keep(exchange.response.decode("utf-8", "replace")),
    }


def request_of(fields: Mapping[str, Any], kept: Kept) -> Asked:
    """The request of a recorded exchange."""
    return Asked(tuple(kept(digest) for digest in fields["messages"]), kept(fields["options"]))


def exchange_of(fields: Mapping[str, Any], kept: Kept) -> Exchange:
    """A recorded exchange; of its request, only the path."""
    response = kept(fields["response"]).encode()
    return Exchange(fields["path"], b"", fields["status"], fields["content_type"], response)


def _sans_length(options: str) -> Any:
    try:
        value = json.loads(options)
    except ValueError:
        return options
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if key not in {"max_tokens", "max_completion_tokens"}}


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
