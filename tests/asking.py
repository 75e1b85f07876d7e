"""Short ways to ask a scripted model one question, without waiting between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict

from orchestrator.llm.base import ChatModel, ToolSpec
from orchestrator.llm.caller import Listeners
from orchestrator.llm.chat import open_model
from orchestrator.llm.faults import Patience
from orchestrator.settings import ModelSettings


class ReadFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str
    offset: int | None = None


class WriteFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    path: str
    content: str


class Route(BaseModel):
    agent: Literal["coder", "none"]
    confidence: float = 1.0


TOOLS = [
    ToolSpec("read_file", "Read a text file.", ReadFile),
    ToolSpec("write_file", "Write a text file.", WriteFile),
]
ASKED: list[AnyMessage] = [SystemMessage("You are careful."), HumanMessage("do it")]
waits: list[float] = []
T = TypeVar("T")


async def no_sleep(seconds: float) -> None:
    waits.append(seconds)


QUICK = Patience(sleep=no_sleep, clock=lambda: 1_000_000.0, chance=lambda: 1.0)


def ask(settings: ModelSettings, question: Callable[[ChatModel], Awaitable[T]], **listeners: Any) -> T:
    """Ask one question with a patience that does not really wait."""

    async def main() -> T:
        waits.clear()
        return await question(await open_model(settings, listeners=Listeners(**listeners), patience=QUICK))

    return asyncio.run(main())


def act(settings: ModelSettings, **listeners: Any) -> AIMessage:
    return ask(settings, lambda chat: chat.act(ASKED, TOOLS), **listeners)


def write(settings: ModelSettings, **listeners: Any) -> str:
    return ask(settings, lambda chat: chat.write(ASKED), **listeners)


def fill(settings: ModelSettings, **listeners: Any) -> Route:
    return ask(settings, lambda chat: chat.fill(ASKED, Route), **listeners)
