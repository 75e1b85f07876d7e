"""The token that ends the work of a turn, whoever asks for it: Ctrl-C, a deadline, a caller that goes away.

Everything is cancelled at once but what must not be torn: a call that may write gets a moment to end, so that
its result is known. Processes see the token themselves and end politely before they are made to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from orchestrator.errors import Interrupted, OrcError, TimedOut

GRACE_SECONDS = 1.4
"""How long a call that may write has to end; less than what a person is promised for the whole, 2 s."""

T = TypeVar("T")


class Cancel:
    """One for each turn; its processes, model calls and sub-agents all end by it."""

    def __init__(self, run: str = "") -> None:
        self._resume = f"orc resume {run}".rstrip()
        self.asked = asyncio.Event()
        """Set when the work is to end."""
        self.forced = asyncio.Event()
        """Set when nothing may take its time any more."""
        self.error: OrcError | None = None
        """What the turn ends with; None while it may go on."""

    def ask(self, error: OrcError) -> None:
        """End the work; who asks first gives the reason."""
        if self.error is None:
            self.error = error
            self.asked.set()

    def stop(self, why: str) -> None:
        """End the work because someone wants it so."""
        self.ask(Interrupted(f"{why}; what was done is saved, `{self._resume}` goes on"))

    def time_out(self, seconds: float) -> None:
        """End the work because its time is over."""
        self.ask(TimedOut(f"not done within {seconds:g} s; what was done is saved, `{self._resume}` goes on"))

    def force(self) -> None:
        """End what is still taking its time."""
        self.forced.set()

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that must not be torn: when the task is cancelled it has a moment to end, then not."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._end(task)
            raise

    async def _end(self, task: asyncio.Future[T]) -> None:
        forced = asyncio.ensure_future(self.forced.wait())
        try:
            either: set[asyncio.Future[Any]] = {task, forced}
            await asyncio.wait(either, timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forced.cancel()
            await ended(task)
            # Nobody asks for it any more: without this, asyncio complains of an error that was not fetched.
            if not task.cancelled():
                task.exception()


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until each has ended, also when we are cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    for task in tasks:
        while not task.done():
            task.cancel()
            try:
                await asyncio.wait({task}, timeout=2)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
