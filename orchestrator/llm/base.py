"""What the nodes need from a model: pick an action, fill a schema, write a text.

`ChatModel` is the only door to a model; whether it speaks native tool calls or schema-constrained
JSON, and whether it runs in the process or behind an endpoint, stays behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from langchain_core.messages import AIMessage, AnyMessage
from pydantic import BaseModel

from orchestrator.settings import ModelSettings

EXAMPLE = "example"
"""Key in a message's `additional_kwargs`: it is a worked example, the same in every request."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class ToolSpec:
    """A tool as a model sees it."""

    name: str
    description: str
    arguments: type[BaseModel]


@dataclass(frozen=True)
class Usage:
    """What one model call took; an AIMessage carries the tokens as `usage_metadata` too."""

    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float
    first_token_seconds: float | None
    attempts: int = 1
    is_estimated: bool = False
    """The server did not count; the tokens are a guess from the number of characters."""


OnText = Callable[[str], None]
"""Gets each piece of visible text as it arrives."""
OnUsage = Callable[[Usage], None]
"""Gets the usage of each finished call."""
OnRetry = Callable[[str, float], object]
"""Gets the reason and the wait in seconds before a call is tried again."""


class Hold(Protocol):
    """Money that is set aside for one call."""

    @property
    def output_tokens(self) -> int:
        """How long the answer may be for it."""
        ...

    async def safe(self) -> None:
        """Return once no loss of power can make it forgotten: nothing of an answer is used before."""
        ...

    def lose(self) -> None:
        """An attempt ended without a report and may have cost: it counts in full."""
        ...

    def again(self) -> None:
        """Set aside what another attempt may take; raises BudgetExceeded."""
        ...

    def settle(self, usage: Usage) -> None:
        """Book what the call took, and write it down."""
        ...

    def release(self) -> None:
        """Give back what was not used; does nothing once it is settled."""
        ...


class Meter(Protocol):
    """Who has to agree before a model is asked."""

    def reserve(self, model: str, input_tokens: int, output_tokens: int) -> Hold:
        """Set aside what a call takes at most; raises BudgetExceeded."""
        ...


class ChatModel(Protocol):
    """A model that is ready to be asked."""

    @property
    def settings(self) -> ModelSettings:
        """Of the model that would be asked now."""
        ...

    async def act(
        self,
        messages: Sequence[AnyMessage],
        tools: Sequence[ToolSpec],
        *,
        temperature: float | None = None,
        without: Collection[str] = (),
    ) -> AIMessage:
        """Pick the next action: an AIMessage with at least one tool call, or with text only (native mode).

        Tools named in `without` stay in the prompt, so that its front does not change, but cannot be
        picked in json mode.

        Calls carry unique ids. Arguments are what the model wrote: checked by the tools node, not here;
        text that is no valid JSON becomes `invalid_tool_calls`. Raises ModelError.
        """
        ...

    async def fill(self, messages: Sequence[AnyMessage], schema: type[M]) -> M:
        """Answer with a value of a schema; one repair attempt, then ModelNonsense."""
        ...

    async def aclose(self) -> None:
        """Close the connections that are kept for further calls."""
        ...

    async def write(
        self,
        messages: Sequence[AnyMessage],
        *,
        on_text: OnText | None = None,
        temperature: float | None = None,
        most: int | None = None,
    ) -> str:
        """Answer in prose, streamed to `on_text`."""
        ...
