"""The pieces of one answer as they come in, none of them later than its time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

from langchain_core.messages import AIMessageChunk, BaseMessageChunk

from orchestrator.llm.faults import LimitPassed, NoAnswer
from orchestrator.settings import Timeouts

CHARACTERS, CHUNKS = (1_000_000, 64), (10_000, 16)
"""What an answer may have: so many at least, and so many for each token that was asked for."""


@dataclass
class Received:
    """What has come in of one attempt."""

    started: float
    tokens: int
    """As many were asked for at most."""
    chunks: list[AIMessageChunk] = field(default_factory=list)
    first_seconds: float | None = None
    """Until the first piece of the answer."""
    characters: int = 0
    """Of all pieces so far."""

    @property
    def text(self) -> str:
        """What was said so far, arguments of calls included."""
        pieces = (
            [str(chunk.text), *(call["args"] or "" for call in chunk.tool_call_chunks)]
            for chunk in self.chunks
        )
        return "".join(text for piece in pieces for text in piece)

    def add(self, chunk: AIMessageChunk) -> None:
        """Take one piece; raises NoAnswer when they have no end and would fill the memory."""
        self.chunks.append(chunk)
        self.characters += len(chunk.content) + sum(
            len(call["args"] or "") for call in chunk.tool_call_chunks
        )
        if self.first_seconds is None and (chunk.content or chunk.tool_call_chunks):
            self.first_seconds = time.monotonic() - self.started
        if self.characters > CHARACTERS[0] + CHARACTERS[1] * self.tokens:
            raise self._endless(f"{self.characters:,} characters")
        if len(self.chunks) > CHUNKS[0] + CHUNKS[1] * self.tokens:
            raise self._endless(f"{len(self.chunks):,} pieces")

    def _endless(self, sent: str) -> NoAnswer:
        return NoAnswer(f"sent {sent} and went on, where {self.tokens:,} tokens were asked for")


async def paced(stream: AsyncIterator[BaseMessageChunk], limits: Timeouts) -> AsyncGenerator[AIMessageChunk]:
    """The chunks of a stream; raises LimitPassed when the first or a later one takes too long."""
    until = time.monotonic() + limits.first_token
    count = 0
    has_begun = False
    async with aclosing(stream) as chunks:  # type: ignore[type-var]
        while True:
            left = limits.between_tokens if has_begun else max(0.0, until - time.monotonic())
            try:
                async with asyncio.timeout(left):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                name = "between tokens" if has_begun else "first token"
                raise LimitPassed(name, limits.between_tokens if has_begun else limits.first_token) from None
            if isinstance(chunk, AIMessageChunk):
                count += 1
                # Many servers send an empty first chunk before they have read the prompt.
                has_begun = has_begun or count > 1 or bool(chunk.content or chunk.tool_call_chunks)
                yield chunk
