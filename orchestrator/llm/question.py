"""What is asked of a model, ready for the wire, and how much of the model's window it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AnyMessage, SystemMessage

from orchestrator.llm.endpoint import Front
from orchestrator.llm.tokens import tokens

EACH_MESSAGE = 4
"""Tokens for role and separators of a message, as a rule."""
MESSAGE_TOKENS = 32
"""Tokens for role, name and separators of a message, at most."""


@dataclass(frozen=True)
class Question:
    """What is asked, ready for the wire."""

    messages: list[AnyMessage]
    max_tokens: int
    temperature: float
    options: Mapping[str, Any] = field(default_factory=dict)
    """Such as `tools` and `tool_choice`."""
    response_format: Mapping[str, Any] | None = None
    fixed: int = 1
    """How many messages at the front are the same in every request of this kind."""

    @property
    def front(self) -> Front:
        """The fixed messages, for a cache of prompts; empty when there is no system message."""
        if not isinstance(self.messages[0], SystemMessage):
            return ()
        roles = {"system": "system", "human": "user", "ai": "assistant"}
        return tuple((roles[message.type], message.text) for message in self.messages[: self.fixed])

    @property
    def prompt_tokens(self) -> int:
        """An estimate; used where the server does not count."""
        said = sum(tokens(message.text) + EACH_MESSAGE for message in self.messages)
        return said + tokens(json.dumps(self.options))
