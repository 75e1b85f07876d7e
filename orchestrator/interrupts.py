"""What Ctrl-C and SIGTERM do to a run: stop after the call, then end the call, then end everything."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.events import Journal

if TYPE_CHECKING:
    from langgraph.runtime import RunControl


@dataclass
class Stop:
    """The ways in which a person can end a run that is under way."""

    control: RunControl
    """LangGraph stops before its next superstep when it is told to drain."""
    killed: asyncio.Event
    """Ends the call that is running now."""
    journal: Journal
    presses: int = 0

    def press(self, task: asyncio.Task[Any]) -> None:
        """Ctrl-C: each press is more urgent than the one before."""
        self.presses += 1
        self.control.request_drain("Ctrl-C")
        if self.presses == 1:
            text = "stopping after the running call; press Ctrl-C again to end it now"
            self.journal.show("note", text=text)
        elif self.presses == 2:
            self.killed.set()
        else:
            task.cancel()

    def terminate(self, task: asyncio.Task[Any]) -> None:
        """SIGTERM: whoever sends it does not wait long, so the call is ended at once."""
        self.press(task)
        self.press(task)


@contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """Take both signals for the task that runs now."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGINT, stop.press, task)
        loop.add_signal_handler(signal.SIGTERM, stop.terminate, task)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
