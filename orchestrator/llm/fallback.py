"""A model with others behind it: when it does not answer, the next one that is able to takes the question.

Able is one whose window holds the question and whose cost fits the budget. A model that works by JSON
gets `finish`, because it cannot end in text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from langchain_core.messages import AIMessage, AnyMessage

from orchestrator.errors import BudgetExceeded, ModelRejected, ModelUnreachable
from orchestrator.llm.base import M, OnText, ToolSpec
from orchestrator.llm.chat import Chat
from orchestrator.llm.tokens import tokens
from orchestrator.settings import ModelSettings

T = TypeVar("T")


class Chain:
    """A ChatModel over several, the preferred one first."""

    def __init__(self, models: Sequence[Chat], finish: ToolSpec, tell: Callable[[str], object]) -> None:
        self._models = list(models)
        self._finish = finish
        self._tell = tell

    @property
    def settings(self) -> ModelSettings:
        """Those of the model that would be asked now: prompts are made for it."""
        return self._order()[0].settings

    def _order(self) -> list[Chat]:
        """The models to try; those that rest come last."""
        return sorted(self._models, key=lambda model: model.is_resting)

    async def act(
        self,
        messages: Sequence[AnyMessage],
        tools: Sequence[ToolSpec],
        *,
        temperature: float | None = None,
        without: Collection[str] = (),
    ) -> AIMessage:
        """Pick the next action; see ChatModel."""

        async def ask(model: Chat) -> AIMessage:
            offered = list(tools)
            if model.settings.tool_calls == "json" and self._finish.name not in {t.name for t in tools}:
                offered.append(self._finish)
            return await model.act(messages, offered, temperature=temperature, without=without)

        return await self._first(ask, messages)

    async def fill(self, messages: Sequence[AnyMessage], schema: type[M]) -> M:
        """Answer with a value of a schema; see ChatModel."""
        return await self._first(lambda model: model.fill(messages, schema), messages)

    async def write(
        self,
        messages: Sequence[AnyMessage],
        *,
        on_text: OnText | None = None,
        temperature: float | None = None,
        most: int | None = None,
    ) -> str:
        """Answer in prose; what an earlier model wrote before it broke off is not taken back."""
        return await self._first(
            lambda model: model.write(messages, on_text=on_text, temperature=temperature, most=most),
            messages,
        )

    async def aclose(self) -> None:
        """Close the connections of all of them."""
        for model in self._models:
            await model.aclose()

    async def _first(self, ask: Callable[[Chat], Awaitable[T]], messages: Sequence[AnyMessage]) -> T:
        """The answer of the first model that gives one; raises the first model's error with what followed."""
        first: ModelUnreachable | None = None
        said: list[str] = []
        for model in self._order():
            name = model.settings.model or "the next model"
            if first is not None:
                if lack := _lack(model.settings, messages):
                    said.append(f"{name}: {lack}")
                    continue
                self._tell(f"{first}; asking {name} instead")
            try:
                return await ask(model)
            except ModelUnreachable as error:
                said += [] if first is None else [f"{name}: {error}"]
                first = first or error
            except (BudgetExceeded, ModelRejected) as error:
                if first is None:
                    raise
                said.append(f"{name}: {error}")
        more = f"; no fallback could take over: {'; '.join(said)}" if said else ""
        raise ModelUnreachable(f"{first}{more}") from first


def _lack(settings: ModelSettings, messages: Sequence[AnyMessage]) -> str:
    """Why a model cannot take a question; empty when it can."""
    needed = sum(tokens(message.text) for message in messages) + settings.max_output_tokens
    if needed > settings.context_tokens:
        return f"its window of {settings.context_tokens:,} tokens is too small for about {needed:,}"
    return ""
