"""The queue of changes and their commits: one commit takes everything that waits.

Whoever needs a commit makes it, in its own thread, and takes the others' changes along; there is no
background thread that could be starved. Pending writes wait a moment for the checkpoint that follows
them, so a superstep is one commit: 2 ms where others wait too, as tasks side by side do, 20 ms alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from contextlib import suppress

from orchestrator.checkpoints import lineage
from orchestrator.checkpoints.caches import Memory
from orchestrator.checkpoints.elements import Recent
from orchestrator.checkpoints.ink import Ends, Ink
from orchestrator.checkpoints.operations import Operation
from orchestrator.checkpoints.rows import Rows
from orchestrator.checkpoints.store import WAIT_SECONDS, Busy, Storage
from orchestrator.errors import StorageError

LINGER_SECONDS = 0.002
ALONE_SECONDS = 0.018
"""How much longer a write waits with which nothing else waits: on a busy machine 2 ms is often too short."""
_THREADS = 1 << 12


class Writer:
    """Commits operations in the order in which they came."""

    def __init__(self, storage: Storage, memory: Memory) -> None:
        self._storage = storage
        self._memory = memory
        self._queue: deque[Operation] = deque()
        self._process = os.getpid()
        self._latest = ""
        """The thread that had a checkpoint last, from an event loop."""
        self._last: Recent[str, int] = Recent(_THREADS)
        """The last steps of threads."""
        self._ends: Ends | None = None
        """Of the last transaction, while no other connection had one."""

    # From threads.

    def put(self, operation: Operation, *, linger: bool = False) -> None:
        """Commit; with `linger`, wait a moment for somebody else's commit. Raises StorageError."""
        # Who lingers leaves the work to whoever commits: two threads at it get in each other's way.
        self._enqueue(operation, is_ready=not linger)
        if linger:
            operation.done.wait(LINGER_SECONDS)
            if self._is_alone(operation):
                operation.done.wait(ALONE_SECONDS)
        if not operation.done.is_set():
            try:
                self.flush(operation)
            except StorageError:
                self._withdraw(operation)
                raise
        operation.done.result()

    def flush(self, only: Operation | None = None) -> None:
        """Commit everything that waits, or until one operation is done; errors go to who waits for each.

        What comes in the meantime may have somebody to wait for, so it is not taken unasked.
        """
        while self._queue and not (only is not None and only.done.is_set()):
            self._commit(wait=True)

    # From event loops.

    async def aput(self, operation: Operation, *, linger: bool = False) -> None:
        """The same; the loop is never blocked for longer than a commit takes."""
        self._enqueue(operation)
        try:
            if linger:
                await operation.done.settle(LINGER_SECONDS)
                if self._is_alone(operation):
                    await operation.done.settle(ALONE_SECONDS)
            elif operation.thread != self._latest:
                # Other conversations are at work, and have a checkpoint ready in this turn of the loop.
                self._latest = operation.thread
                await asyncio.sleep(0)
            if not operation.done.is_set():
                await self.aflush(operation)
            await operation.done.settle()
        except asyncio.CancelledError:
            with suppress(Busy, StorageError):
                self._commit(wait=False)
            raise
        except StorageError:
            self._withdraw(operation)
            raise
        operation.done.result()

    async def aflush(self, only: Operation | None = None) -> None:
        """The same, giving way while another process or thread writes."""
        until = time.monotonic() + WAIT_SECONDS
        pause = 0.0003
        while self._queue and not (only is not None and only.done.is_set()):
            try:
                self._commit(wait=time.monotonic() > until)
            except Busy:
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - no secret
                pause = min(pause * 1.5, 0.002)

    def position(self, thread: str) -> int:
        """The last step that a thread sees; asks the disk only when another process wrote."""
        return self._storage.peek(lambda rows, changed: self._position(thread, rows, changed))

    def _position(self, thread: str, rows: Rows, changed: bool) -> int:
        if changed:
            self._catch_up(rows)
        known = self._last.get(thread)
        if known is None:
            known = lineage.position(rows, thread)
            if known:
                self._last.put(thread, known)
        return known

    def _enqueue(self, operation: Operation, *, is_ready: bool = True) -> None:
        if self._process != os.getpid():
            # After a fork, what waits is the parent's to commit, and its locks may be held for ever.
            self._process = os.getpid()
            self._queue = deque()
            self._memory.forget(self._memory.caches.epoch)
        caches = self._memory.caches
        if not caches.primers.is_loaded:
            with self._storage.reading() as rows:
                caches.primers.load(rows)
        if is_ready:
            operation.prepare(caches)
        self._queue.append(operation)

    def _is_alone(self, operation: Operation) -> bool:
        return not operation.done.is_set() and len(self._queue) < 2

    def _withdraw(self, operation: Operation) -> None:
        with suppress(ValueError):
            self._queue.remove(operation)

    def _take(self) -> list[Operation]:
        """What goes into one transaction; an operation that removes rows goes alone."""
        batch: list[Operation] = []
        while self._queue and not (batch and (batch[0].alone or self._queue[0].alone)):
            batch.append(self._queue.popleft())
        return batch

    def _get_ready(self) -> None:
        """Encode what waits before a turn is taken; what cannot be encoded fails by itself later."""
        caches = self._memory.caches
        for operation in list(self._queue):
            if operation.caches is None:
                with suppress(Exception):
                    operation.prepare(caches)

    def _commit(self, *, wait: bool) -> None:
        self._get_ready()
        batch: list[Operation] = []

        def work(rows: Rows, changed: bool) -> Ink:
            if changed:
                self._catch_up(rows)
            batch.extend(self._take())
            return self._apply(rows, batch)

        try:
            self._storage.write(work, self._committed, wait=wait)
        except Busy:
            raise
        except Exception as error:
            if not batch:
                raise
            self._failed(batch, error)
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        for operation in batch:
            operation.done.set()

    def _failed(self, batch: list[Operation], error: Exception) -> None:
        """Find whose fault it is by giving each a transaction of its own."""
        if len(batch) == 1:
            batch[0].done.set(error)
            return
        for operation in batch:
            self._alone(operation)

    def _alone(self, operation: Operation) -> None:
        def work(rows: Rows, changed: bool) -> Ink:
            if changed:
                self._catch_up(rows)
            return self._apply(rows, [operation])

        try:
            self._storage.write(work, self._committed, wait=True)
        except Exception as error:  # noqa: BLE001 - as above
            operation.done.set(error)

    def _apply(self, rows: Rows, batch: list[Operation]) -> Ink:
        caches = self._memory.caches
        caches.primers.load(rows)
        ink = Ink(rows, caches, self._ends)
        for operation in batch:
            if operation.caches is not caches:
                operation.prepare(caches)
            seq = operation.apply(ink, caches)
            if seq:
                ink.after_commit(lambda thread=operation.thread, seq=seq: self._last.put(thread, seq))  # type: ignore[misc]
        ink.finish()
        return ink

    def _committed(self, ink: Ink) -> None:
        self._ends = None if ink.removes else ink.ends
        if ink.removes:
            self._last.clear()
            self._memory.forget(self._memory.caches.epoch + 1)
        else:
            ink.committed()

    def _catch_up(self, rows: Rows) -> None:
        """Another connection committed: forget what may have moved."""
        self._last.clear()
        self._ends = None
        epoch = int(rows.meta("epoch"))
        if epoch != self._memory.caches.epoch:
            self._memory.forget(epoch)
