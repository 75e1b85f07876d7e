"""A thread that commits what was left to others and that nobody came for."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import Protocol

from orchestrator.checkpoints.store import WAIT_SECONDS, Busy
from orchestrator.errors import StorageError

LINGER_SECONDS = 0.02
"""How long a change that nobody waits for may wait for a commit."""
PAUSE_SECONDS = 1.0
"""The longest time between two attempts at a commit."""
QUIET_SECONDS = 5.0


class Watched(Protocol):
    """A queue with changes that nobody waits for."""

    def queued(self) -> float | None:
        """Since when the oldest of them waits, by the monotonic clock."""

    def commit_left(self) -> None:
        """Commit what waits, unless another one is at it; raises Busy then."""

    def flush(self) -> None:
        """Commit what waits, and wait for others who do."""


class Watchman:
    """Sleeps while nothing is left, and while it is young; its thread ends after some quiet seconds."""

    def __init__(self, queue: Watched) -> None:
        self._bell = threading.Event()
        self._queue = weakref.ref(queue)
        self._held: Watched | None = None
        """The queue while something is left in it, which nobody else may hold any more."""
        self._lock = threading.Lock()
        self._is_awake = False
        self._process = os.getpid()

    def call(self) -> bool:
        """Something was left; False when no thread can be had to watch it."""
        with self._lock:
            self._bell.set()
            if not self._is_awake:
                thread = threading.Thread(target=self._watch, name="checkpoints", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._is_awake = True
                _ALL.add(self)
            self._held = self._queue()
        return True

    def end(self) -> None:
        """Commit what is left, at the end of the process."""
        queue = self._queue() if self._process == os.getpid() else None
        if queue:
            with suppress(StorageError):
                queue.flush()

    def _watch(self) -> None:
        while self._is_called():
            self._bell.clear()
            while (left := self._left()) is not None:
                time.sleep(left)
            with self._lock:
                if not self._bell.is_set():
                    self._held = None

    def _is_called(self) -> bool:
        """Wait until something was left; False when that takes long."""
        if self._bell.wait(QUIET_SECONDS):
            return True
        with self._lock:
            self._is_awake = self._bell.is_set()
            return self._is_awake

    def _left(self) -> float | None:
        """Seconds until the oldest change is due, after a commit if it is; None when there is none."""
        queue = self._queue()
        since = queue.queued() if queue else None
        if queue is None or since is None:
            return None
        age = time.monotonic() - since
        if age < LINGER_SECONDS:
            return LINGER_SECONDS - age
        try:
            queue.commit_left()
        except Busy:
            pass
        except StorageError:
            if age > WAIT_SECONDS:
                # It stays in the queue, and whoever commits next is told.
                return None
        return min(age / 10, PAUSE_SECONDS) if queue.queued() == since else 0


_ALL: weakref.WeakSet[Watchman] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    for watchman in list(_ALL):
        watchman.end()
