"""Who may end a turn that is under way, and how it is ended: saved, with nothing left running.

Ctrl-C and SIGTERM, a deadline, `orc stop`, the caller of the library who cancels its task: all of them set
the turn's token, and then the run of the graph is cancelled.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from orchestrator.cancel import Cancel, ended
from orchestrator.errors import OrcError
from orchestrator.events import Journal

TICK_SECONDS = 0.2
"""How often a deadline and a request from another process are looked at."""

Check = Callable[[Cancel], object]
"""Sets the token when the turn has to end now. Called often, so it must be cheap."""

T = TypeVar("T")


async def driven(work: Coroutine[Any, Any, T], cancel: Cancel, checks: Sequence[Check]) -> T:
    """Await work to its end, or cancel it and raise the error of the token once that is set.

    When the caller is cancelled, the work is ended in the same way first.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_watch(cancel, checks))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done() and not watch.cancelled():
            watch.result()
    except asyncio.CancelledError:
        cancel.stop("its caller went away")
        raise
    finally:
        await ended(watch, task)
        failed = None if task.cancelled() else task.exception()
    if cancel.error is not None and (task.cancelled() or not isinstance(failed, OrcError | None)):
        raise cancel.error from None
    return task.result()


async def _watch(cancel: Cancel, checks: Sequence[Check]) -> None:
    """Wait until the token is set, and set it when one of the checks says so."""
    while not cancel.asked.is_set():
        for check in checks:
            check(cancel)
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await cancel.asked.wait()
        except TimeoutError:
            pass


def time_limit(seconds: float, clock: Callable[[], float] = time.monotonic) -> Check:
    """Ends the turn when so much time has passed from now on."""
    until = clock() + seconds

    def check(cancel: Cancel) -> None:
        if clock() >= until:
            cancel.time_out(seconds)

    return check


NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "a hang-up"}


class Signals:
    """What Ctrl-C, SIGTERM and SIGHUP do: the first one ends the turn, the second one leaves it no time."""

    def __init__(self, cancel: Cancel, journal: Journal) -> None:
        self._cancel, self._journal = cancel, journal

    def press(self, name: str) -> None:
        """One signal came in."""
        if self._cancel.error is None:
            self._journal.show("note", text=f"{name}: stopping; once more to leave it no time")
            self._cancel.stop(f"stopped by {name}")
        else:
            self._cancel.force()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals in the running event loop; afterwards they do what they did before.

        One that is ignored stays so: that is what `nohup` asks for.
        """
        loop = asyncio.get_running_loop()
        earlier = {number: signal.getsignal(number) for number in NAMES}
        earlier = {number: handler for number, handler in earlier.items() if handler != signal.SIG_IGN}
        for number in earlier:
            loop.add_signal_handler(number, self.press, NAMES[number])
        try:
            yield
        finally:
            for number, handler in earlier.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
