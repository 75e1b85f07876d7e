"""What Ctrl-C does while the command works and while its process ends; `__main__` says what before.

While it works, Ctrl-C raises KeyboardInterrupt, which Python drops with a traceback where nothing can be
raised, as in a callback of the import system: here it is raised again, in silence.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_AGAIN_SECONDS = 0.01
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that the command takes."""
_is_on = False
"""Whether this process is the command, and not a program that calls it."""


def begin() -> None:
    """This process is the command, and Ctrl-C is not to be ignored."""
    global _is_on
    _is_on = True
    sys.unraisablehook = _dropped


def works() -> None:
    """Something begins: Ctrl-C raises KeyboardInterrupt."""
    if _is_on:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ends() -> None:
    """All is done: no signal that the command took changes anything any more."""
    for number in SIGNALS if _is_on else ():
        if callable(signal.getsignal(number)):
            signal.signal(number, _wait)


def _dropped(unraisable: Any) -> None:
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
    elif signal.getsignal(signal.SIGALRM) in {signal.SIG_DFL, signal.default_int_handler}:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _wait(number: int, _: object) -> None:
    # All is done and said; whoever presses again is not made to wait for threads.
    signal.signal(number, _leave)


def _leave(number: int, _: object) -> None:
    os._exit(128 + number)
